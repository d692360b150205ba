"""The end of a training run: figures, card, and the mark of a finished run."""

from typing import Any

from ..data.preferences import column_or_numbers
from ..evaluation.statistics import Score
from ..files import write_json, write_text
from ..hardware.device import peak_memory
from ..hardware.processes import is_main
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
