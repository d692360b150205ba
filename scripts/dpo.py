"""
Train a LoRA adapter with DPO from a recipe.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/dpo.py recipes/gemma270m_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/dpo.py recipes/llama1b_ru.yaml

Options on the command line override the recipe:

    ... scripts/dpo.py recipes/llama1b_ru.yaml --max_length 512 --learning_rate 1e-5 --loss_type sigmoid sft

A recipe's keys are those of TRL's DPOConfig, ModelConfig and ScriptArguments, and a few of our own. --help_keys lists every key with
its type, default and meaning. The most important ones:

    model_name_or_path   folder or Hub id (NAME@REVISION) of the base model, or of an adapter to continue, which is then the reference
    dataset_name         folder or Hub id (NAME@REVISION) of the preference dataset (data_builders/ makes them)
    output_dir           folder of the run
    load_in_4bit         hold the base model in 4 bits, a quarter of its size in fp16
    max_length           tokens of prompt and answer: more needs more memory and time
    learning_rate, beta, num_train_epochs, loss_type
    pair_layout          packed: each prompt once and no padding; separate: one answer of a pair at a time, least
                         memory; padded: as in TRL. The gradients are the same. By default, the memory plan decides (docs/memory.md)
    hardware_profile     a smaller card to imitate, such as gtx1650
    push_to_hub          publish the run; with hub_model_id: NAMESPACE/NAME, private unless hub_private_repo: false (docs/hub.md)
    control              swapped_labels, shuffled_labels or zero_learning_rate: a control, into a folder beside the run (docs/proof.md)
    eval_pairs           datasets of other people, scored before and after training (docs/proof.md)
    ignore_plan          start a run that does not fit by the memory plan, or cannot be planned (scripts/plan.py)

The run's folder receives the adapter, metrics (all_results.json), the log-probabilities of the test pairs before and after training
(test_log_probs.json) and provenance.json. The same command resumes a stopped run.
"""

import sys

from preferans.errors import PreferansError, help_first, run

help_first(__doc__)

from transformers import set_seed
from trl import DPOConfig, ModelConfig, ScriptArguments, get_peft_config

from preferans.data.preferences import column_or_numbers
from preferans.evaluation.held_out import pair_scores
from preferans.evaluation.other_pairs import read_pair_set
from preferans.files import write_json
from preferans.hardware.processes import from_main, is_main, is_sharded
from preferans.memory.fit import SMALLER_RUN, apply, fit, ran_out_of_memory, report_longest, retreat
from preferans.models.loading import load_model
from preferans.models.starting_adapter import put_on
from preferans.release.finish import finish_run, measured, score_eval_pairs
from preferans.release.push import check_push_keys, publish_run, pushing_checkpoints
from preferans.training.arguments import PreferansArguments
from preferans.training.controls import for_control
from preferans.training.dpo import PreferenceTrainer
from preferans.training.prepare import prepare
from preferans.training.recipe import list_keys, read_recipe, recipe_errors
from preferans.training.run_folder import kept_scores, last_checkpoint, only_process

ARGUMENT_TYPES = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)


def main() -> None:
    if "--help_keys" in sys.argv:
        print(list_keys(ARGUMENT_TYPES))
        return
    recipe_keys, recipe_path = read_recipe(ARGUMENT_TYPES, sys.argv[1:])
    recipe_keys = for_control(recipe_keys)
    pushes = from_main(lambda: check_push_keys(recipe_keys, recipe_path or "Command line"))
    pair_sets = [read_pair_set(name, "test") for name in recipe_keys.get("eval_pairs") or []]
    prepared = prepare(ARGUMENT_TYPES, recipe_keys, recipe_path)
    if prepared:
        switches, plan = fit(prepared)
        with only_process(prepared.output_dir):
            if ran_out_of_memory(lambda: train(prepared, switches, plan, pair_sets)):
                smaller = retreat(prepared, switches)
                if ran_out_of_memory(lambda: train(prepared, smaller, None, pair_sets)):
                    raise PreferansError(
                        f"{prepared.recipe_name}: out of memory again. The same command tries the next switch, from the last "
                        f"checkpoint. {SMALLER_RUN}"
                    )
    if pushes and is_main():
        publish_run(recipe_keys["output_dir"], recipe_keys)


def train(prepared, switches, plan, pair_sets) -> None:
    args, output_dir, test_rows = prepared.training_args, prepared.output_dir, prepared.test_rows
    set_seed(args.seed)
    apply(prepared, switches)
    model = load_model(prepared.model_args, prepared.device)
    if prepared.starting_adapter:
        model = put_on(model, prepared.starting_adapter)
    with recipe_errors(prepared.recipe_name):
        trainer = PreferenceTrainer(
            model=model,
            args=args,
            train_dataset=prepared.train_rows,
            eval_dataset=test_rows if args.eval_strategy != "no" or args.eval_on_start else None,
            processing_class=prepared.tokenizer,
            peft_config=None if prepared.starting_adapter else get_peft_config(prepared.model_args),
            pair_layout=switches.pair_layout,
            on_longest=report_longest(prepared, plan),
        )
    run_record = prepared.provenance | {"method": "dpo", "switches": switches._asdict()}
    from_main(lambda: write_json(output_dir / "provenance.json", run_record))

    def score_before() -> list[dict[str, float]]:
        return trainer.completion_log_probs(test_rows, True, "Test pairs before")

    with pushing_checkpoints(trainer, prepared.recipe_keys):
        # A sharded model can be scored only after training has started, with its adapter switched off.
        before = None if is_sharded() else kept_scores(output_dir, score_before)
        session = trainer.train_from(from_main(lambda: last_checkpoint(output_dir, args.world_size)))
        trainer.save_model()
        trainer.save_state()
        test_log_probs = {
            "beta": args.beta,
            "per_token": "sigmoid_norm" in args.loss_type,
            "groups": column_or_numbers(test_rows, "message_tree_id"),
            "before": before or score_before(),
            "after": trainer.completion_log_probs(test_rows, False, "Test pairs after"),
        }
        score_eval_pairs(trainer, prepared, pair_sets)
        figures = measured(trainer, prepared, session) | {"planned_peak_bytes": plan.trace.peak if plan else None}
        scores = pair_scores(**test_log_probs)
        finish_run(prepared, run_record | {"measured": figures}, session.metrics, scores, test_log_probs)


if __name__ == "__main__":
    run(main)
