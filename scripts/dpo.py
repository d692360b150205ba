"""
Train a LoRA adapter with DPO, as a recipe says.

    accelerate launch --quiet --config_file accelerate_configs/cpu.yaml     scripts/dpo.py recipes/gemma270m_ru.yaml
    accelerate launch --quiet --config_file accelerate_configs/gtx1650.yaml scripts/dpo.py recipes/llama1b_ru.yaml

The command line overrides the recipe:

    ... scripts/dpo.py recipes/llama1b_ru.yaml --max_length 512 --learning_rate 1e-5 --loss_type sigmoid sft

A recipe's keys are those of TRL's DPOConfig, ModelConfig and ScriptArguments, and a few of our own; --help_keys lists every one with
its type, default and meaning. The ones that matter first:

    model_name_or_path   folder or Hub id (NAME@REVISION) of the base model, or of an adapter to go on from, which is the reference then
    dataset_name         folder or Hub id (NAME@REVISION) of the preference dataset (data_builders/ makes them)
    output_dir           folder of the run
    load_in_4bit         hold the base model in 4 bits, a quarter of its size in fp16
    max_length           tokens of prompt and answer: more costs memory and time
    learning_rate, beta, num_train_epochs, loss_type
    separate_passes      one answer of a pair at a time: less memory, the same gradients; left out, the memory plan decides
    hardware_profile     a smaller card that this one shall behave like, such as gtx1650
    push_to_hub          publish the run; with hub_model_id: NAMESPACE/NAME, private unless hub_private_repo: false (docs/hub.md)
    ignore_plan          start a run that the memory plan (scripts/plan.py) says will not fit

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
    from preferans.fitting import SMALLER_RUN, fit, retreat
    from preferans.preparation import prepare
    from preferans.run_folder import only_process

    prepared = prepare(kinds, said, recipe)
    if prepared is None:
        return
    switches, plan = fit(prepared)
    with only_process(prepared.output_dir):
        if not train_with(prepared, switches, plan):
            smaller = retreat(prepared, switches)
            if not train_with(prepared, smaller, None):
                raise PreferansError(
                    f"{prepared.place}: out of memory again. The same command tries the next switch, from the last checkpoint. {SMALLER_RUN}"
                )


def train_with(prepared, switches, plan) -> bool:
    """Train and write the run's folder; `False` when the card ran out of memory."""
    import gc
    import signal

    import torch

    interrupt = signal.getsignal(signal.SIGINT)
    try:
        train_and_write(prepared, switches, plan)
        return True
    except torch.OutOfMemoryError:
        pass
    signal.signal(signal.SIGINT, interrupt)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return False


def train_and_write(prepared, switches, plan) -> None:
    from transformers import set_seed
    from trl import get_peft_config

    from preferans.files import read_json, write_json, write_text
    from preferans.fitting import apply, tell_longest
    from preferans.model_card import model_card
    from preferans.preferences import column_or_numbers
    from preferans.preparation import measured
    from preferans.processes import from_main, is_main, is_sharded
    from preferans.pushing import publish_run, pusher_for
    from preferans.run_folder import last_checkpoint
    from preferans.scoring import pair_scores
    from preferans.starting import put_on
    from preferans.training import PreferenceTrainer, load_model

    training_args, output_dir, test_rows = prepared.training_args, prepared.output_dir, prepared.test_rows
    longest_first = prepared.origin["keys"].get("longest_first")
    if longest_first is None:
        longest_first = prepared.device.kind == "cuda"
    set_seed(training_args.seed)
    apply(prepared, switches)
    model = load_model(prepared.model_args, prepared.device)
    if prepared.start:
        model = put_on(model, prepared.start)
    try:
        trainer = PreferenceTrainer(
            model=model,
            args=training_args,
            train_dataset=prepared.train_rows,
            eval_dataset=test_rows if training_args.eval_strategy != "no" else None,
            processing_class=prepared.tokenizer,
            peft_config=None if prepared.start else get_peft_config(prepared.model_args),
            separate_passes=switches.separate_passes,
            on_longest=tell_longest(prepared, plan) if longest_first and not is_sharded() else None,
        )
    except ValueError as error:  # such as lora_target_modules that the model does not have
        raise PreferansError(f"{prepared.place}: {' '.join(str(error).split())}") from error
    origin = prepared.origin | {"method": "dpo", "switches": switches._asdict()}
    from_main(lambda: write_json(output_dir / "provenance.json", origin))
    pusher = pusher_for(origin["keys"])
    if pusher:
        trainer.add_callback(pusher)
    trainable, total = trainer.model.get_nb_trainable_parameters()
    print(f"Training {trainable:,} parameters of {total:,}.")

    before_file = output_dir / "test_log_probs_before.json"
    # A model that is shared out only when training begins is asked afterwards, with its adapter switched off.
    if not is_sharded() and not from_main(before_file.exists):
        before = trainer.completion_log_probs(test_rows, True, "Test pairs before")
        from_main(lambda: write_json(before_file, before))
    checkpoint = from_main(lambda: last_checkpoint(output_dir, trainer.args.world_size))
    start = time.perf_counter()
    try:
        metrics = trainer.train_from(checkpoint)
    except Exception:
        if pusher:
            pusher.wait()  # or it could land after the pushes of the next try
        raise
    seconds = time.perf_counter() - start
    tested = {
        "beta": training_args.beta,
        "per_token": "sigmoid_norm" in training_args.loss_type,
        "groups": column_or_numbers(test_rows, "message_tree_id"),
        "before": trainer.completion_log_probs(test_rows, True, "Test pairs before")
        if is_sharded()
        else from_main(lambda: read_json(before_file)),
        "after": trainer.completion_log_probs(test_rows, False, "Test pairs after"),
    }
    scores = pair_scores(**tested)
    trainer.save_model()
    trainer.save_state()
    summary = "\n".join(f"- {name}: {score.in_words()}" for name, score in scores.items())
    if is_main():
        figures = measured(trainer, prepared, checkpoint, seconds)
        figures["planned_peak_bytes"] = plan.trace.peak if plan else None
        write_json(output_dir / "provenance.json", origin | {"measured": figures})
        write_json(output_dir / "test_log_probs.json", tested | {"ids": column_or_numbers(test_rows, "id")})
        write_text(output_dir / "README.md", model_card(output_dir))
        # Last, because it marks the run as finished.
        write_json(output_dir / "all_results.json", metrics | {name: score.value for name, score in scores.items()})
    print(f"{summary}\nThe adapter is in {output_dir}.")
    if pusher and is_main():
        pusher.wait()
        publish_run(output_dir, origin["keys"])


if __name__ == "__main__":
    run(main)
