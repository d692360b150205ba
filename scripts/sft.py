"""
Train a LoRA adapter to imitate the chosen answers of a preference dataset, from a recipe.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/sft.py recipes/gemma270m_sft_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/sft.py recipes/rugpt3medium_sft_ru.yaml

Run this before scripts/dpo.py for a base model that has never seen a chat: the model learns how an answer looks and where it ends.
The dataset is the same as for DPO; only the answers are learned, not the questions. Then merge the adapter into the weights, and
start DPO from the merged model:

    python scripts/merge.py runs/rugpt3medium_sft_ru --output_dir cache/rugpt3medium_sft_ru
    ... scripts/dpo.py recipes/rugpt3medium_ru.yaml --model_name_or_path cache/rugpt3medium_sft_ru --output_dir runs/rugpt3medium_dpo_ru

A recipe's keys are those of TRL's SFTConfig, ModelConfig and ScriptArguments, and hardware_profile. --help_keys lists every key with
its type, default and meaning. Options on the command line override the recipe:

    ... scripts/sft.py recipes/rugpt3medium_sft_ru.yaml --max_length 512 --learning_rate 1e-4 --output_dir runs/try

The run's folder receives the adapter, metrics (all_results.json), the log-probabilities of the test pairs before and after training
(test_log_probs.json) and provenance.json. The same command resumes a stopped run.
"""

import sys

from preferans.errors import PreferansError, help_first, run

help_first(__doc__)

from transformers import set_seed
from trl import ModelConfig, ScriptArguments, SFTConfig, get_peft_config

from preferans.data.preferences import column_or_numbers
from preferans.evaluation.held_out import imitation_scores
from preferans.files import write_json
from preferans.hardware.processes import count
from preferans.models.loading import load_model
from preferans.release.finish import finish_run, measured
from preferans.release.push import check_push_keys, publish_run, pushing_checkpoints
from preferans.training.arguments import SharedArguments
from preferans.training.prepare import prepare
from preferans.training.recipe import list_keys, read_recipe, recipe_errors
from preferans.training.run_folder import kept_scores, last_checkpoint, only_process
from preferans.training.sft import ImitationTrainer, completions, drop_repeated

ARGUMENT_TYPES = (SharedArguments, ScriptArguments, ModelConfig, SFTConfig)


def main() -> None:
    if "--help_keys" in sys.argv:
        print(list_keys(ARGUMENT_TYPES))
        return
    recipe_keys, recipe_path = read_recipe(ARGUMENT_TYPES, sys.argv[1:])
    pushes = check_push_keys(recipe_keys, recipe_path or "Command line")
    prepared = prepare(ARGUMENT_TYPES, recipe_keys, recipe_path)
    if prepared:
        check_supported(prepared)
        with only_process(prepared.output_dir):
            train(prepared)
    if pushes:
        publish_run(recipe_keys["output_dir"], recipe_keys)


def check_supported(prepared) -> None:
    if prepared.starting_adapter:
        raise PreferansError(
            f"{prepared.recipe_name}: model_name_or_path {prepared.starting_adapter.name} is an adapter, and scripts/sft.py starts from a "
            "model. Merge it first: scripts/merge.py."
        )
    if count() > 1:
        raise PreferansError(
            "scripts/sft.py trains in one process; launch it with accelerate_configs/gtx1650.yaml or cpu.yaml."
        )


def train(prepared) -> None:
    args, output_dir, test_rows = prepared.training_args, prepared.output_dir, prepared.test_rows
    args.chat_template_path = None  # the tokenizer has the template already
    train_rows = drop_repeated(completions(prepared.train_rows))
    print(
        f"{len(prepared.train_rows)} training pairs have {len(train_rows)} different chosen answers; each is learned once per epoch."
    )
    set_seed(args.seed)
    with recipe_errors(prepared.recipe_name):
        trainer = ImitationTrainer(
            model=load_model(prepared.model_args, prepared.device),
            args=args,
            train_dataset=train_rows,
            eval_dataset=completions(test_rows) if args.eval_strategy != "no" or args.eval_on_start else None,
            processing_class=prepared.tokenizer,
            peft_config=get_peft_config(prepared.model_args),
        )
    run_record = prepared.provenance | {"method": "sft"}
    write_json(output_dir / "provenance.json", run_record)
    with pushing_checkpoints(trainer, prepared.recipe_keys):
        before = kept_scores(output_dir, lambda: trainer.pair_log_probs(test_rows, True, "Test pairs before"))
        session = trainer.train_from(last_checkpoint(output_dir))
        trainer.save_model()
        trainer.save_state()
        after = trainer.pair_log_probs(test_rows, False, "Test pairs after")
        groups = column_or_numbers(test_rows, "message_tree_id")
        # With beta 1 per token, score.py shows this run beside a DPO run, in nats per token gained over the base model.
        test_log_probs = {"groups": groups, "before": before, "after": after, "beta": 1.0, "per_token": True}
        run_record |= {"measured": measured(trainer, prepared, session)}
        finish_run(prepared, run_record, session.metrics, imitation_scores(before, after, groups), test_log_probs)


if __name__ == "__main__":
    run(main)
