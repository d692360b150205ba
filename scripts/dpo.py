"""
Train a LoRA adapter with DPO, as a recipe says.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/dpo.py recipes/gemma270m_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/dpo.py recipes/llama1b_ru.yaml

The command line overrides the recipe:

    ... scripts/dpo.py recipes/llama1b_ru.yaml --max_length 512 --learning_rate 1e-5 --loss_type sigmoid sft

A recipe's keys are those of TRL's DPOConfig, ModelConfig and ScriptArguments, and chat_template_path; --help_keys lists every
one with its type, default and meaning. The ones that matter first:

    model_name_or_path   folder or Hub id of the base model
    dataset_name         folder or Hub id of the preference dataset (data_builders/ makes them)
    output_dir           folder of the run
    load_in_4bit         hold the base model in 4 bits, a quarter of its size in fp16
    max_length           tokens of prompt and answer: more costs memory and time
    learning_rate, beta, num_train_epochs, loss_type

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
    from pathlib import Path

    from transformers import set_seed
    from trl import get_peft_config

    from preferans.files import read_json, write_json
    from preferans.hardware import decide_precision, find_device, peak_memory
    from preferans.preferences import column_or_numbers, fingerprint, load_checked_splits
    from preferans.recipe import fill
    from preferans.run_folder import check_run_dir, last_checkpoint, only_process, provenance, write_run_card
    from preferans.scoring import pair_scores
    from preferans.training import (
        PreferenceTrainer,
        check_model_exists,
        drop_long_prompts,
        load_model,
        load_tokenizer,
    )

    for key in ("model_name_or_path", "dataset_name", "output_dir"):
        if not said.get(key):
            raise PreferansError(f"{recipe or 'Command line'}: the key '{key}' is missing.")
    device = find_device(said.get("use_cpu", False))
    fp16, bf16, reason = decide_precision(
        device, said.get("fp16", False), said.get("bf16"), said.get("dtype", "float32")
    )
    ours, script_args, model_args, training_args = fill(
        kinds, said | {"fp16": fp16, "bf16": bf16, "use_cpu": device.kind == "cpu"}, recipe
    )
    if not model_args.use_peft:
        raise PreferansError(f"{recipe or 'Command line'}: use_peft must be true; Preferans trains LoRA adapters.")
    print(f"Precision: {reason}; adapters in fp32.")

    check_model_exists(model_args.model_name_or_path)
    train_rows, test_rows = load_checked_splits(
        script_args.dataset_name,
        script_args.dataset_config,
        script_args.dataset_train_split,
        script_args.dataset_test_split,
    )
    print(f"Dataset: {len(train_rows)} training and {len(test_rows)} test pairs, all sound.")

    described = {
        "name": script_args.dataset_name,
        "fingerprint": fingerprint({"train": train_rows.to_list(), "test": test_rows.to_list()}),
        "train_pairs": len(train_rows),
        "test_pairs": len(test_rows),
    }
    origin = provenance(recipe, said, described, training_args.seed)
    check_run_dir(training_args.output_dir, origin)
    output_dir = Path(training_args.output_dir)
    if (output_dir / "all_results.json").exists():
        print(f"This run is finished: {output_dir}. Nothing to do.")
        return

    chat = not isinstance(train_rows[0]["prompt"], str)
    tokenizer = load_tokenizer(model_args.model_name_or_path, model_args.model_revision, ours.chat_template_path, chat)
    train_rows = drop_long_prompts(train_rows, tokenizer, training_args.max_length, "The training split")
    test_rows = drop_long_prompts(test_rows, tokenizer, training_args.max_length, "The test split")
    with only_process(output_dir):
        set_seed(training_args.seed)
        model = load_model(model_args, device)
        try:
            trainer = PreferenceTrainer(
                model=model,
                args=training_args,
                train_dataset=train_rows,
                eval_dataset=test_rows if training_args.eval_strategy != "no" else None,
                processing_class=tokenizer,
                peft_config=get_peft_config(model_args),
            )
        except ValueError as error:  # such as lora_target_modules that the model does not have
            raise PreferansError(f"{recipe or 'Command line'}: {' '.join(str(error).split())}") from error
        write_json(output_dir / "provenance.json", origin)
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
        measured = {
            "device": device.name,
            "precision": reason,
            "world_size": trainer.accelerator.num_processes,
            "epochs": trainer.state.epoch,
            "resumed_from": checkpoint,
            "train_seconds": round(seconds, 1),
            "tokens_per_second": round(trainer._total_train_tokens / seconds, 1),
            "peak_memory_bytes": peak_memory(),
        }
        trainer.save_model()
        trainer.save_state()
        write_json(output_dir / "provenance.json", origin | {"measured": measured})
        write_json(output_dir / "test_log_probs.json", tested | {"ids": column_or_numbers(test_rows, "id")})
        summary = "\n".join(f"- {name}: {score.in_words()}" for name, score in scores.items())
        write_run_card(output_dir, origin, "On the held-out test pairs:\n\n" + summary)
        # Last, because it marks the run as finished.
        write_json(output_dir / "all_results.json", metrics | {name: score.value for name, score in scores.items()})
    print(f"{summary}\nThe adapter is in {output_dir}.")


if __name__ == "__main__":
    run(main)
