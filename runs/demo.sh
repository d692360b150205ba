#!/bin/sh
# The whole pipeline offline, on two CPU cores in minutes: oasst rows -> preference pairs -> DPO -> answers -> report.
# A stopped step resumes when the script is run again; a finished step does nothing.
set -e
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

RUN=runs/gemma270m_ru
BASE=cache/gemma-3-270m-ru
DATA=data/oasst1_ru_sample

echo "== 1/5  The base model"
python scripts/prepare_gemma.py --output_dir $BASE

echo "== 2/5  The preference dataset"
python data_builders/oasst1_ru.py --source samples/oasst1_ru_sample.jsonl --turns all --test_size 0.25 --output_dir $DATA

echo "== 3/5  DPO"
accelerate launch --quiet --config_file accelerate_configs/cpu.yaml scripts/dpo.py recipes/gemma270m_ru.yaml

echo "== 4/5  Answers to held-out prompts, before and after"
python scripts/generate.py --model_name_or_path $BASE --load_in_4bit --use_cpu \
    --chat_template_path recipes/chat_templates/plain_ru.jinja \
    --dataset_name $DATA --max_prompts 24 --batch_size 24 --label before --output answers/gemma270m_before.jsonl
python scripts/generate.py --adapter $RUN \
    --dataset_name $DATA --max_prompts 24 --batch_size 24 --label after --output answers/gemma270m_after.jsonl

echo "== 5/5  Scores and report"
# After `make controls`, the report compares the run with its controls too.
CONTROLS=$(find runs -path 'runs/gemma270m_ru_seed*/all_results.json' | sed 's|/all_results.json||' | sort)
python scripts/score.py $RUN $CONTROLS answers/gemma270m_after.jsonl --baseline answers/gemma270m_before.jsonl --human $DATA \
    --output_dir reports/gemma270m_ru ${CONTROLS:+--group_by control loss_type}
