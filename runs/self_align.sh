#!/bin/sh
# A model improves itself: it answers prompts several times, its better and worse answers become pairs, and DPO starts from the last adapter,
# which is the reference. Round 0 is the recipe itself, on pairs of people. After each round, all rounds and the base answer held-out
# prompts; a significant loss in a guard measure stops the loop, and the best round is kept (docs/self_align.md).
#   sh runs/self_align.sh recipes/gemma270m_ru.yaml data/oasst1_ru_sample
#   CONFIG=accelerate_configs/gtx1650.yaml ROUNDS=3 sh runs/self_align.sh recipes/llama1b_ru.yaml data/oasst1_ru
# The dataset's training prompts are learned from and its test prompts are held out. GENERATE_ARGS and TRAIN_ARGS add options to
# scripts/generate.py and scripts/dpo.py; SEED (42) is that of round 0. A stopped step resumes when the script is run again; a finished one does nothing.
set -eu
cd "$(dirname "$0")/.."
recipe=$1
prompts=$2
name=${NAME:-$(basename "$recipe" .yaml)_self}
seed=${SEED:-42}

train() { # FOLDER OPTIONS…
    output_dir=$1
    shift
    [ -f "$output_dir/all_results.json" ] || accelerate launch --quiet --config_file "${CONFIG:-accelerate_configs/cpu.yaml}" \
        scripts/dpo.py "$recipe" ${TRAIN_ARGS:-} --output_dir "$output_dir" "$@"
}

previous=runs/${name}_round0
runs=$previous
echo "== Round 0: pairs of people"
train "$previous" --seed "$seed"
for round in $(seq 1 "${ROUNDS:-2}"); do
    seed=$((seed + 1))
    run=runs/${name}_round$round
    data=data/${name}_round$round
    echo "== Round $round: answers, pairs, DPO"
    if [ ! -d "$data" ]; then
        python scripts/generate.py --adapter "$previous" --dataset_name "$prompts" --split train --num_answers 4 --seed "$seed" \
            ${GENERATE_ARGS:-} --output "answers/$name/several_$round.jsonl"
        python data_builders/ranked_answers_ru.py --source "answers/$name/several_$round.jsonl" --anchor "$prompts" --output_dir "$data"
    fi
    train "$run" --model_name_or_path "$previous" --dataset_name "$data" --seed "$seed"
    runs="$runs $run"
    echo "== Round $round: held-out prompts"
    python scripts/generate.py --adapter $runs --with_base --dataset_name "$prompts" ${GENERATE_ARGS:-} --output "answers/$name/held_out"
    python scripts/rounds.py $runs --answers "answers/$name/held_out" --human "$prompts" --output_dir "reports/$name" || exit $?
    previous=$run
done
