"""
Train a LoRA adapter with DPO, as a recipe says.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/dpo.py recipes/gemma270m_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/dpo.py recipes/llama1b_ru.yaml

The command line overrides the recipe:

    ... scripts/dpo.py recipes/llama1b_ru.yaml --max_length 512 --learning_rate 1e-5 --loss_type sigmoid sft

A recipe's keys are those of TRL's DPOConfig, ModelConfig and ScriptArguments, chat_template_path and hardware_profile; --help_keys lists every
one with its type, default and meaning. The ones that matter first:

    model_name_or_path   folder or Hub id of the base model
    dataset_name         folder or Hub id of the preference dataset (data_builders/ makes them)
    output_dir           folder of the run
    load_in_4bit         hold the base model in 4 bits, a quarter of its size in fp16
    max_length           tokens of prompt and answer: more costs memory and time
    learning_rate, beta, num_train_epochs, loss_type
    hardware_profile     a smaller card that this one shall behave like, such as gtx1650

The run's folder receives the adapter, metrics (all_results.json), the log-probabilities of the test pairs before and after
(test_log_probs.json) and provenance.json. A stopped run goes on when the same command is given again.
"""

import sys
import time

from preferans.errors import PreferansError, run


def main() -> None:
    if "--help" in sys.argv or "-h" in sys.argv or len(sys.argv) == 1:
        print(__doc__.strip())
        return
    from trl import DPOConfig, ModelConfig, ScriptArguments

    from preferans.recipe import list_keys, read_recipe
    from preferans.training import PreferansArguments

    kinds = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)
    if "--help_keys" in sys.argv:
        print(list_keys(kinds))
        return
    said, recipe = read_recipe(kinds, sys.argv[1:])
    train(kinds, said, recipe)


def train(kinds: tuple, said: dict, recipe: str | None) -> None:
    from transformers import set_seed
    from trl import get_peft_config

    from preferans.files import read_json, write_json
    from preferans.preferences import column_or_numbers
    from preferans.preparation import measured, prepare
    from preferans.run_folder import last_checkpoint, only_process, write_run_card
    from preferans.scoring import pair_scores
    from preferans.training import PreferenceTrainer, load_model

    prepared = prepare(kinds, said, recipe)
    if prepared is None:
        return
    training_args, output_dir, test_rows = prepared.training_args, prepared.output_dir, prepared.test_rows
    with only_process(output_dir):
        set_seed(training_args.seed)
        model = load_model(prepared.model_args, prepared.device)
        try:
            trainer = PreferenceTrainer(
                model=model,
                args=training_args,
                train_dataset=prepared.train_rows,
                eval_dataset=test_rows if training_args.eval_strategy != "no" else None,
                processing_class=prepared.tokenizer,
                peft_config=get_peft_config(prepared.model_args),
            )
        except ValueError as error:  # such as lora_target_modules that the model does not have
            raise PreferansError(f"{prepared.place}: {' '.join(str(error).split())}") from error
        write_json(output_dir / "provenance.json", prepared.origin)
        trainable, total = trainer.model.get_nb_trainable_parameters()
        print(f"Training {trainable:,} parameters of {total:,}.")

        before_file = output_dir / "test_log_probs_before.json"
        if not before_file.exists():
            write_json(before_file, trainer.completion_log_probs(test_rows, True, "Test pairs before"))
        checkpoint = last_checkpoint(output_dir)
        start = time.perf_counter()
        metrics = trainer.train_from(checkpoint)
        seconds = time.perf_counter() - start
        tested = {
            "beta": training_args.beta,
            "per_token": "sigmoid_norm" in training_args.loss_type,
            "groups": column_or_numbers(test_rows, "message_tree_id"),
            "before": read_json(before_file),
            "after": trainer.completion_log_probs(test_rows, False, "Test pairs after"),
        }
        scores = pair_scores(**tested)
        trainer.save_model()
        trainer.save_state()
        write_json(
            output_dir / "provenance.json",
            prepared.origin | {"measured": measured(trainer, prepared, checkpoint, seconds)},
        )
        write_json(output_dir / "test_log_probs.json", tested | {"ids": column_or_numbers(test_rows, "id")})
        summary = "\n".join(f"- {name}: {score.in_words()}" for name, score in scores.items())
        write_run_card(output_dir, prepared.origin, "On the held-out test pairs:\n\n" + summary)
        # Last, because it marks the run as finished.
        write_json(output_dir / "all_results.json", metrics | {name: score.value for name, score in scores.items()})
    print(f"{summary}\nThe adapter is in {output_dir}.")


if __name__ == "__main__":
    run(main)
