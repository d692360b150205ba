#!/bin/sh
# Llama-3.2-1B-Instruct on a 4 GB card, from oasst1 to a report: preference pairs -> DPO -> answers -> scores.
#   sh runs/llama1b.sh
# First accept the licence on the model's page, sign in (hf auth login), and check the machine (python scripts/doctor.py).
# A stopped step resumes when the script is run again; a finished step does nothing.
set -e
cd "$(dirname "$0")/.."

RECIPE=recipes/llama1b_ru.yaml
BASE=meta-llama/Llama-3.2-1B-Instruct
DATA=data/oasst1_ru
RUN=runs/llama1b_ru
REPORT=reports/llama1b_ru

echo "== 1/6  The preference dataset: human replies to Russian prompts, ranked by people"
python data_builders/oasst1_ru.py --output_dir $DATA

echo "== 2/6  Check the data, and plan the memory"
python scripts/check_data.py $DATA --model_name_or_path $BASE
python scripts/plan.py $RECIPE

echo "== 3/6  DPO"
accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/dpo.py $RECIPE

echo "== 4/6  Answers to held-out prompts, before and after"
python scripts/generate.py --model_name_or_path $BASE --load_in_4bit --dtype float16 \
    --dataset_name $DATA --label before --output answers/llama1b_before.jsonl
python scripts/generate.py --adapter $RUN --dataset_name $DATA --label after --output answers/llama1b_after.jsonl

echo "== 5/6  Scores and report"
python scripts/score.py $RUN answers/llama1b_after.jsonl --baseline answers/llama1b_before.jsonl --human $DATA \
    --output_dir $REPORT

echo "== 6/6  What publishing would upload (remove --dry_run to publish)"
python scripts/publish.py $RUN --repo_id "${HUB_USER:-YOU}/Llama-3.2-1B-ru" --report $REPORT --dry_run
