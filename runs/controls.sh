#!/bin/sh
# Is it preference, or a shortcut? A recipe beside its controls, each with three seeds: swapped labels, shuffled labels, no learning,
# and imitation of the chosen answers only.
#   sh runs/controls.sh recipes/gemma270m_ru.yaml
#   CONFIG=accelerate_configs/gtx1650.yaml sh runs/controls.sh recipes/llama1b_ru.yaml
# A stopped run resumes when the script is run again; a finished one does nothing.
set -eu
cd "$(dirname "$0")/.."
recipe=$1
name=$(basename "$recipe" .yaml)
for seed in 1 2 3; do
    run=runs/${name}_seed$seed
    train() {
        accelerate launch --quiet --config_file "${CONFIG:-accelerate_configs/cpu.yaml}" scripts/dpo.py "$recipe" --seed "$seed" "$@"
    }
    train --output_dir "$run"
    for control in swapped_labels shuffled_labels zero_learning_rate; do
        train --output_dir "$run" --control "$control"
    done
    train --output_dir "${run}_imitation" --loss_type sft
done
python scripts/score.py runs/"$name"_seed[123]* --group_by control loss_type \
    --output_dir "reports/${name}_controls"
