"""The end of a training run: figures, card, and the mark of a finished run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..data.chat_template import fit_to_template
from ..data.preferences import column_or_numbers
from ..evaluation.answers import same_file
from ..evaluation.other_pairs import (
    PAIRS_FILE,
    PAIRS_SCHEMA,
    PairSet,
    ScoredPairs,
    dataset_record,
    pair_rows,
    record_lines,
)
from ..evaluation.statistics import Score
from ..files import write_json, write_text
from ..hardware.device import peak_memory
from ..hardware.processes import is_main
from ..models.pair_log_probs import cut_tokens
from ..training.dpo import PreferenceTrainer
from ..training.guards import GuardedTrainer, Session
from ..training.prepare import Prepared
from ..training.run_folder import FINISHED_FILE
from .model_card import model_card


def measured(trainer: GuardedTrainer, prepared: Prepared, session: Session) -> dict[str, float | str | None]:
    """
    Figures of the training itself for `provenance.json`.

    Returns:
        `dict`: device, precision and kernels, `train_seconds`, `tokens_per_second`, `skipped_steps`, `peak_memory_bytes` and others.
    """
    return {
        "device": prepared.device.name,
        "precision": prepared.precision,
        "kernels": prepared.kernels.reason,
        "world_size": trainer.accelerator.num_processes,
        "epochs": trainer.state.epoch,
        "resumed_from": session.resumed_from,
        "train_seconds": round(session.seconds, 1),
        "tokens_per_second": round(trainer._total_train_tokens / session.seconds, 1),
        "skipped_steps": trainer.skipped_steps,
        "peak_memory_bytes": peak_memory(),
    }


def score_eval_pairs(trainer: PreferenceTrainer, prepared: Prepared, pair_sets: Sequence[PairSet]) -> None:
    """
    Score the recipe's `eval_pairs` before and after training, and write `pairs.json` as `scripts/evaluate_pairs.py` does.

    Args:
        trainer ([`~preferans.training.dpo.PreferenceTrainer`]): After training.
        prepared ([`~preferans.training.prepare.Prepared`]): The run as it started.
        pair_sets (`Sequence[PairSet]`): The datasets.
    """
    args, name, records = prepared.training_args, prepared.output_dir.name, []
    for pair_set in pair_sets:
        kept, too_long = cut_tokens(pair_set.pairs, prepared.tokenizer, args.max_length)
        if not kept:
            print(f"*** {pair_set.name}: every prompt alone fills max_length, so no pair is scored. ***")
            continue
        cut = sum(tokens.is_cut for _, tokens in kept)
        scored_set = replace(pair_set, pairs=[pair for pair, _ in kept], too_long=too_long, cut=cut)
        rows = fit_to_template(pair_rows(scored_set), prepared.tokenizer, pair_set.name)
        before, after = (
            trainer.completion_log_probs(rows, is_before, f"{pair_set.name}, {'before' if is_before else 'after'}")
            for is_before in (True, False)
        )
        scored = ScoredPairs(before, {name: after}, {name: args.beta}, {name: "sigmoid_norm" in args.loss_type})
        if same_file(prepared.recipe_keys["dataset_name"], pair_set.name):
            scored.in_domain.add(name)
        records.append(dataset_record(scored_set, scored))
        print("\n".join(record_lines(records[-1])))
    if records and is_main():
        about = {
            "schema": PAIRS_SCHEMA,
            "base": prepared.recipe_keys["model_name_or_path"],
            "max_length": args.max_length,
        }
        write_json(prepared.output_dir / PAIRS_FILE, about | {"split": "test", "datasets": records})


def finish_run(
    prepared: Prepared,
    run: dict[str, Any],
    metrics: dict[str, float],
    scores: dict[str, Score],
    test_log_probs: dict[str, Any],
) -> None:
    """
    Write what describes a trained run, and print its scores. The adapter is saved already.

    Args:
        prepared ([`~preferans.training.prepare.Prepared`]):
            The run as it started.
        run (`dict`):
            Contents of `provenance.json`, with `method` and `measured`.
        metrics (`dict`):
            Metrics of the trainer.
        scores (`dict[str, Score]`):
            Scores of the test pairs.
        test_log_probs (`dict`):
            What the scores were computed from, for `test_log_probs.json`.
    """
    output_dir = prepared.output_dir
    if is_main():
        write_json(output_dir / "provenance.json", run)
        ids = column_or_numbers(prepared.test_rows, "id")
        write_json(output_dir / "test_log_probs.json", test_log_probs | {"ids": ids})
        write_text(output_dir / "README.md", model_card(output_dir))
        # Last, because this file marks the run as finished.
        write_json(output_dir / FINISHED_FILE, metrics | {name: score.value for name, score in scores.items()})
    for name, score in scores.items():
        print(f"- {name}: {score.in_words()}")
    print(f"The adapter is in {output_dir}.")
