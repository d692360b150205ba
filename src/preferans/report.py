"""The report a person opens: one HTML file that asks nothing of the network."""

import html
import io
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import read_json, write_text
from .language import WORD, foreign_words
from .scoring import Score, verdict

# What each training curve shows: (title, keys in the trainer's log, a line to compare with)
CURVES = (
    ("Loss", {"loss": "loss"}, None),
    ("Reward margin (chosen minus rejected)", {"rewards/margins": "margin"}, 0.0),
    ("Reward accuracy", {"rewards/accuracies": "accuracy"}, 0.5),
    ("Log-probability of the answers, nats", {"logps/chosen": "chosen", "logps/rejected": "rejected"}, None),
    ("Gradient norm", {"grad_norm": "gradient norm"}, None),
)

PAIR_TITLES = {
    "test_normalised_accuracy_before": "Finds the chosen answer likelier per token, before",
    "test_normalised_accuracy_after": "Finds the chosen answer likelier per token, after",
    "test_normalised_accuracy_gain": "Gain (paired difference)",
    "test_reward_accuracy": "Reward accuracy after training (0.5 is chance)",
    "test_reward_margin": "Reward margin after training",
    "test_chosen_reward": "Reward of chosen answers",
    "test_rejected_reward": "Reward of rejected answers",
}
ANSWER_TITLES = {
    "finished": "Ended by the model itself",
    "empty": "Empty answers",
    "loops": "Answers that run in circles",
    "in_russian": "Answers in Russian (of those not empty)",
    "cyrillic_share": "Share of Russian letters",
    "foreign_word_answers": "Answers with words in other letters",
    "length": "Length in characters",
}


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean of each value and those before it, over a window of a sixth of the curve: batches of few pairs are noisy."""
    window = max(1, len(values) // 6)
    return [statistics.fmean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


def curves_svg(log: list[dict[str, float]]) -> str:
    """
    Training curves as an SVG picture.

    Args:
        log (`list[dict]`):
            `log_history` of the trainer's state.

    Returns:
        `str`: an `<svg>` element that can stand inside a page, or an empty string when nothing was logged.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = [(title, keys, level) for title, keys, level in CURVES if any(key in row for row in log for key in keys)]
    if not curves:
        return ""
    # Fixed, so that the same run gives the same file
    with plt.rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "preferans", "axes.grid": True, "grid.alpha": 0.3, "font.size": 9}
    ):
        columns = 2
        rows = -(-len(curves) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(9, 2.4 * rows), squeeze=False, layout="constrained")
        for axis in axes.flat[len(curves) :]:
            axis.set_visible(False)
        for axis, (title, keys, level) in zip(axes.flat, curves, strict=False):
            for key, label in keys.items():
                points = [(row["step"], row[key]) for row in log if key in row]
                steps, values = zip(*points, strict=True)
                (dots,) = axis.plot(steps, values, marker="o", markersize=3, linestyle="none", alpha=0.35)
                axis.plot(steps, running_mean(values), color=dots.get_color(), label=label)
            if level is not None:
                axis.axhline(level, color="grey", linewidth=1, linestyle="--")
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("step")
            if len(keys) > 1:
                axis.legend()
        picture = io.StringIO()
        figure.savefig(picture, format="svg", transparent=False, metadata={"Date": None})
        plt.close(figure)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", picture.getvalue()[picture.getvalue().index("<svg") :], count=1)
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img" aria-label="Training curves"', svg, count=1)


def highlight(answer: str, prompt: list[dict]) -> str:
    """An answer as HTML, with words in other letters marked."""
    marked = set(foreign_words(answer, "\n".join(message["content"] for message in prompt)))
    parts = re.split(f"({WORD.pattern})", answer)
    return "".join(
        f"<mark>{html.escape(part)}</mark>" if part.lower() in marked else html.escape(part) for part in parts
    )


def _cells(score: Score | None, percent: bool = True) -> str:
    if score is None or not score.cases:
        return "—"
    if percent:
        return f"{score.value:.0%} <small>[{score.low:.0%}, {score.high:.0%}]</small>"
    return f"{score.value:.2f} <small>[{score.low:.2f}, {score.high:.2f}]</small>"


def write_report(
    path: str | Path,
    run_dir: str | Path | None,
    pairs: dict[str, Score],
    systems: dict[str, dict[str, Score]],
    differences: dict[str, Score],
    samples: list[tuple[dict, dict | None]],
) -> None:
    """
    Write the report.

    Args:
        path (`str` or `Path`):
            HTML file to write.
        run_dir (`str` or `Path`, *optional*):
            Folder of the training run, for its curves and provenance.
        pairs (`dict[str, Score]`):
            See [`~preferans.scoring.pair_scores`]; may be empty.
        systems (`dict[str, dict[str, Score]]`):
            [`~preferans.scoring.answer_scores`] by system, the baseline first.
        differences (`dict[str, Score]`):
            [`~preferans.scoring.answer_differences`]; empty when there is one system only.
        samples (`list[tuple[dict, dict | None]]`):
            Answers side by side: the baseline's (or the only system's), and the other's.
    """
    import jinja2

    run: dict[str, Any] = read_json(Path(run_dir) / "provenance.json") if run_dir else {}
    log = read_json(Path(run_dir) / "trainer_state.json")["log_history"] if run_dir else []
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = list(systems)
    shares = {name for name in ANSWER_TITLES if name != "length"}
    page = environment.get_template("report.html.jinja").render(
        title=f"Preferans: {Path(run_dir).name if run_dir else ' and '.join(names)}",
        run=run,
        curves=curves_svg(log),
        pair_rows=[
            (title, _cells(pairs.get(key), "accuracy" in key), pairs[key].cases)
            for key, title in PAIR_TITLES.items()
            if key in pairs
        ],
        systems=names,
        answer_rows=[
            (
                title,
                [_cells(systems[name][key], key in shares) for name in names],
                _cells(differences[key], False) if differences else None,
                verdict(differences[key]) if differences else None,
            )
            for key, title in ANSWER_TITLES.items()
        ]
        if names
        else [],
        samples=[
            {
                "prompt": [
                    {
                        "who": {"user": "Person", "assistant": "Assistant"}.get(m["role"], m["role"]),
                        "text": m["content"],
                    }
                    for m in left["prompt"]
                ],
                "answers": [
                    {"name": name, "html": highlight(row["answer"], row["prompt"]), "note": _note(row)}
                    for name, row in zip(names, (left, right), strict=False)
                    if row is not None
                ],
            }
            for left, right in samples
        ],
    )
    write_text(path, page)


def _note(row: dict) -> str:
    if not row["answer"].strip():
        return "empty"
    return "ended by the model" if row["finish_reason"] == "stop" else "cut off at the limit"
