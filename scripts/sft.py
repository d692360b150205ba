"""
Train a LoRA adapter to imitate the chosen answers of a preference dataset, as a recipe says.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/sft.py recipes/gemma270m_sft_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/sft.py recipes/rugpt3medium_sft_ru.yaml

It is the step before scripts/dpo.py for a base model that has never seen a chat: it learns how an answer looks and where it
ends. The dataset is the one that DPO takes; only the answers are learned, not the questions. Then put the adapter into the
weights, and start DPO from there:

    python scripts/merge.py runs/rugpt3medium_sft_ru --output_dir cache/rugpt3medium_sft_ru
    ... scripts/dpo.py recipes/rugpt3medium_ru.yaml --model_name_or_path cache/rugpt3medium_sft_ru --output_dir runs/rugpt3medium_dpo_ru

A recipe's keys are those of TRL's SFTConfig, ModelConfig and ScriptArguments, and hardware_profile; --help_keys lists every one
with its type, default and meaning. The command line overrides the recipe:

    ... scripts/sft.py recipes/rugpt3medium_sft_ru.yaml --max_length 512 --learning_rate 1e-4 --output_dir runs/try

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
    from trl import ModelConfig, ScriptArguments, SFTConfig

    from preferans.recipe import list_keys, read_recipe
    from preferans.training import HardwareArguments

    kinds = (HardwareArguments, ScriptArguments, ModelConfig, SFTConfig)
    if "--help_keys" in sys.argv:
        print(list_keys(kinds))
        return
    said, recipe = read_recipe(kinds, sys.argv[1:])
    train(kinds, said, recipe)


def train(kinds: tuple, said: dict, recipe: str | None) -> None:
    from transformers import set_seed
    from trl import get_peft_config

    from preferans.files import read_json, write_json, write_text
    from preferans.model_card import model_card
    from preferans.preferences import column_or_numbers
    from preferans.preparation import measured, prepare
    from preferans.processes import count
    from preferans.pushing import publish_run, pusher_for
    from preferans.run_folder import last_checkpoint, only_process
    from preferans.scoring import imitation_scores
    from preferans.sft import ImitationTrainer, completions, distinct
    from preferans.training import load_model

    prepared = prepare(kinds, said, recipe)
    if prepared is None:
        return
    if prepared.start:
        raise PreferansError(
            f"{prepared.place}: model_name_or_path {prepared.start.name} is an adapter, and scripts/sft.py starts from a model. Merge it "
            "first: scripts/merge.py."
        )
    if count() > 1:
        raise PreferansError(
            "scripts/sft.py trains in one process; launch it with accelerate_configs/gtx1650.yaml or cpu.yaml."
        )
    args, output_dir, test_rows = prepared.training_args, prepared.output_dir, prepared.test_rows
    args.chat_template_path = None  # the tokenizer has it already
    train_rows = distinct(completions(prepared.train_rows))
    print(
        f"{len(prepared.train_rows)} training pairs hold {len(train_rows)} different chosen answers, each learned once an epoch."
    )
    with only_process(output_dir):
        set_seed(args.seed)
        try:
            trainer = ImitationTrainer(
                model=load_model(prepared.model_args, prepared.device),
                args=args,
                train_dataset=train_rows,
                eval_dataset=completions(test_rows) if args.eval_strategy != "no" else None,
                processing_class=prepared.tokenizer,
                peft_config=get_peft_config(prepared.model_args),
            )
        except ValueError as error:  # such as lora_target_modules that the model does not have
            raise PreferansError(f"{prepared.place}: {' '.join(str(error).split())}") from error
        write_json(output_dir / "provenance.json", prepared.origin)
        pusher = pusher_for(prepared.origin["keys"])
        if pusher:
            trainer.add_callback(pusher)
        trainable, total = trainer.model.get_nb_trainable_parameters()
        print(f"Training {trainable:,} parameters of {total:,}.")

        before_file = output_dir / "test_log_probs_before.json"
        if not before_file.exists():
            write_json(before_file, trainer.pair_log_probs(test_rows, True, "Test pairs before"))
        checkpoint = last_checkpoint(output_dir)
        start = time.perf_counter()
        metrics = trainer.train_from(checkpoint)
        seconds = time.perf_counter() - start
        tested = {
            "groups": column_or_numbers(test_rows, "message_tree_id"),
            "before": read_json(before_file),
            "after": trainer.pair_log_probs(test_rows, False, "Test pairs after"),
        }
        scores = imitation_scores(**tested)
        trainer.save_model()
        trainer.save_state()
        write_json(
            output_dir / "provenance.json",
            prepared.origin | {"method": "sft", "measured": measured(trainer, prepared, checkpoint, seconds)},
        )
        # With the unit of the reward, so that score.py shows this run beside one of DPO: nats per token gained on the base model.
        tested |= {"beta": 1.0, "per_token": True, "ids": column_or_numbers(test_rows, "id")}
        write_json(output_dir / "test_log_probs.json", tested)
        summary = "\n".join(f"- {name}: {score.in_words()}" for name, score in scores.items())
        write_text(output_dir / "README.md", model_card(output_dir))
        # Last, because it marks the run as finished.
        write_json(output_dir / "all_results.json", metrics | {name: score.value for name, score in scores.items()})
    print(f"{summary}\nThe adapter is in {output_dir}.")
    if pusher:
        pusher.wait()
        publish_run(output_dir, prepared.origin["keys"])


if __name__ == "__main__":
    run(main)
