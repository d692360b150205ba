"""Write the results of a dataset's check for people."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .check import Finding, Report
from .pairs import ANSWERS, COLUMNS, message_text

PROMPT_SHOWN, ANSWER_SHOWN, FINDING_ROWS = 240, 480, 5


def report_text(report: Report, dataset: str) -> str:
    """
    Write a report.

    Args:
        report ([`~preferans.data.check.Report`]): Results of a check.
        dataset (`str`): Name of the dataset.

    Returns:
        `str`: rows as the trainer sees them, lengths, findings, and the summary.
    """
    described = f"; {report.format}, {report.prompt} prompt" if report.lengths else ""
    lines = [f"{dataset}: {_sizes(report)}{described}.", ""]
    if report.examples:
        lines += _example_lines(report)
    if report.lengths:
        lines += _length_lines(report.lengths)
    for finding in report.findings:
        lines += [*_finding_lines(finding), ""]
    return "\n".join([*lines, summary_line(report)])


def fixed_text(output_dir: str, counts: Mapping[str, Sequence[tuple[str, int | str]]], report: Report) -> str:
    """
    Describe a repaired dataset.

    Args:
        output_dir (`str`): Folder of the repaired dataset.
        counts (`dict[str, list[tuple]]`): See [`~preferans.data.repair.fix_dataset`].
        report ([`~preferans.data.check.Report`]): Results of its check.

    Returns:
        `str`: counts, remaining errors, and the summary.
    """
    lines = [f"\nRepaired dataset in {output_dir}: {_sizes(report)}."]
    for table in counts.values():
        lines += [
            f"  {value:>8,}  {label}" if isinstance(value, int) else f"  {label}: {value}" for label, value in table
        ]
    for finding in report.findings:
        if finding.severity == "error":
            lines += ["", *_finding_lines(finding)]
    return "\n".join([*lines, "", f"Checked again: {summary_line(report)}"])


def summary_line(report: Report) -> str:
    """Summarize the findings in one line."""
    if not report.lengths:
        refused = any(finding.check == "chat_template" for finding in report.findings)
        return "The chat template refuses every row." if refused else "No row can be read as a preference pair."
    summary = {"error": "No errors", "warning": "no warnings"}
    for severity in summary:
        checks = Counter(finding.check for finding in report.findings if finding.severity == severity)
        if number := checks.total():
            summary[severity] = f"{number} {severity}{'s' if number > 1 else ''} ({', '.join(checks)})"
    advice = "Not ready for training." if report.harmful else "Ready for training."
    return f"{summary['error']}, {summary['warning']}. {advice}"


def _sizes(report: Report) -> str:
    return ", ".join(f"{_rows(number)} in {split}" for split, number in report.splits.items())


def _rows(number: int) -> str:
    return f"{number:,} row{'s' if number != 1 else ''}"


def _finding_lines(finding: Finding) -> list[str]:
    rows = ", ".join(finding.rows[:FINDING_ROWS]) + (", …" if finding.count > FINDING_ROWS else "")
    number = f"{_rows(finding.count)}, {finding.share:.1%}"
    return [
        f"{finding.severity.upper()} {finding.check} ({number}): {_one_line(finding.problem)}",
        f"  {finding.cure}",
        *([f"  Rows: {rows}"] if finding.rows else []),
    ]


def _example_lines(report: Report) -> list[str]:
    tokens = report.lengths["unit"] == "tokens"
    what = "as the trainer sees them; the loss includes only what is in ⟦ and ⟧" if tokens else "of the training split"
    lines = [f"{len(report.examples)} rows {what} (↵ is a line break, […] marks omitted text):", ""]
    for number, example in enumerate(report.examples, start=1):
        lines.append(f"{number}. {example['row']}")
        if tokens:
            lines += [f"  {column + ':':<9} {_masked_and_scored(example[column])}" for column in ANSWERS]
        else:
            lines += [f"  {column + ':':<9} {_content(example[column], column)}" for column in COLUMNS]
        lines.append("")
    return lines


def _masked_and_scored(part: dict[str, Any]) -> str:
    cut = f" ✂ {part['cut_tokens']} tokens beyond max_length" if part["cut_tokens"] else ""
    return (
        f"{_shortened(part['masked'], PROMPT_SHOWN)}⟦{_shortened(part['scored'], ANSWER_SHOWN)}⟧{cut} "
        f"({part['masked_tokens']} + {part['scored_tokens']} tokens)"
    )


def _content(value: list[dict] | str, column: str) -> str:
    limit = PROMPT_SHOWN if column == "prompt" else ANSWER_SHOWN
    if isinstance(value, str):
        return _shortened(value, limit)
    if column != "prompt":
        return _shortened(message_text(value[0]), limit)
    return " ".join(f"[{message['role']}] {_shortened(message_text(message), limit)}" for message in value)


def _shortened(text: str, limit: int) -> str:
    """Return a text on one line, shortened in the middle."""
    text = _one_line(text)
    return text if len(text) <= limit else f"{text[: limit // 2]} […] {text[-(limit // 2) :]}"


def _one_line(text: str) -> str:
    # other control characters could control the terminal
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text.replace("\r", "").replace("\n", "↵").replace("\t", " "))


def _length_lines(lengths: dict[str, Any]) -> list[str]:
    pair = lengths["pair"]
    lines = [
        f"Length of the prompt with the longer answer, in {lengths['unit']}: mean {pair['mean']:.0f}, median {pair['median']}, 95 % up to "
        f"{pair['p95']}, longest {pair['longest']}.",
        f"Mean length of the parts: prompt {lengths['prompt']['mean']:.0f}, chosen {lengths['chosen']['mean']:.0f}, rejected "
        f"{lengths['rejected']['mean']:.0f}.",
        "",
    ]
    most = max(bar["rows"] for bar in lengths["histogram"])
    for bar in lengths["histogram"]:
        label = f"{bar['from']} and more" if bar["below"] is None else f"{bar['from']} to {bar['below'] - 1}"
        blocks = "█" * -(-40 * bar["rows"] // most)
        lines.append(f"  {label:>16} {bar['rows']:>7,} {blocks}".rstrip())
    return [*lines, ""]
