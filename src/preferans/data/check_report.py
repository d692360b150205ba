"""The findings of a check of a dataset, as text for a person."""

import re
from collections import Counter

from .check import Finding, Report, _capital
from .formats import ANSWERS, COLUMNS, _content

PROMPT_SHOWN, ANSWER_SHOWN = 240, 480


def report_text(report: Report, dataset: str) -> str:
    """
    A report for a person.

    Args:
        report ([`Report`]):
            What [`check_dataset`] found.
        dataset (`str`):
            What the dataset is called.

    Returns:
        `str`: rows as the trainer sees them, lengths, findings, and the verdict last.
    """
    described = f"; {report.format}, {report.prompt} prompt" if report.lengths else ""
    lines = [f"{dataset}: {_sizes(report)}{described}.", ""]
    if report.examples:
        lines += _example_lines(report)
    if report.lengths:
        lines += _length_lines(report.lengths)
    for finding in report.findings:
        lines += _finding_lines(finding)
    return "\n".join([*lines, summary_line(report)])


def _sizes(report: Report) -> str:
    return ", ".join(f"{_rows(number)} in {split}" for split, number in report.splits.items())


def _rows(number: int) -> str:
    return f"{number:,} row{'s' if number != 1 else ''}"


def summary_line(report: Report) -> str:
    """The findings in one line."""
    if not report.lengths:
        refused = any(finding.check == "chat_template" for finding in report.findings)
        return "The chat template refuses every row." if refused else "Not one row can be read as a preference pair."
    named = {"error": "no errors", "warning": "no warnings"}
    for severity in named:
        checks = Counter(finding.check for finding in report.findings if finding.severity == severity)
        if checks:
            number = sum(checks.values())
            named[severity] = f"{number} {severity}{'s' if number > 1 else ''} ({', '.join(checks)})"
    advice = "Training on it would be harmed." if report.harmful else "It can be trained on."
    return _capital(f"{named['error']}, {named['warning']}. {advice}")


def _finding_lines(finding: Finding) -> list[str]:
    rows = ", ".join(finding.rows) + (", …" if finding.count > len(finding.rows) else "")
    number = f"{_rows(finding.count)}, {finding.share:.1%}"
    return [
        f"{finding.severity.upper()} {finding.check} ({number}): {_one_line(finding.problem)}",
        f"  {finding.cure}",
        *([f"  Rows: {rows}"] if finding.rows else []),
        "",
    ]


def _example_lines(report: Report) -> list[str]:
    tokens = report.lengths["unit"] == "tokens"
    what = "as the trainer sees them; the loss counts what is between ⟦ and ⟧" if tokens else "of the training split"
    lines = [f"{len(report.examples)} rows {what} (↵ is a line break, […] is left out here):", ""]
    for number, example in enumerate(report.examples, start=1):
        lines.append(f"{number}. {example['row']}")
        if not tokens:
            lines += [f"  {column + ':':<9} {_shown_text(example[column], column)}" for column in COLUMNS]
        for column in ANSWERS if tokens else ():
            part = example[column]
            cut = f" ✂ {part['cut_tokens']} tokens beyond max_length" if part["cut_tokens"] else ""
            lines.append(
                f"  {column + ':':<9} {_shown(part['masked'], PROMPT_SHOWN)}⟦{_shown(part['scored'], ANSWER_SHOWN)}⟧"
                f"{cut} ({part['masked_tokens']} + {part['scored_tokens']} tokens)"
            )
        lines.append("")
    return lines


def _shown_text(value: list[dict] | str, column: str) -> str:
    limit = PROMPT_SHOWN if column == "prompt" else ANSWER_SHOWN
    if isinstance(value, str):
        return _shown(value, limit)
    if column != "prompt":
        return _shown(_content(value[0]), limit)
    return " ".join(f"[{message['role']}] {_shown(_content(message), limit)}" for message in value)


def _one_line(text: str) -> str:
    # other control characters would command the terminal
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text.replace("\r", "").replace("\n", "↵").replace("\t", " "))


def _shown(text: str, limit: int) -> str:
    """A text on one line, shortened in the middle."""
    text = _one_line(text)
    return text if len(text) <= limit else f"{text[: limit // 2]} […] {text[-(limit // 2) :]}"


def _length_lines(lengths: dict) -> list[str]:
    unit, pair = lengths["unit"], lengths["pair"]
    lines = [
        f"Length of the prompt with the longer answer, in {unit}: mean {pair['mean']:.0f}, median {pair['median']}, "
        f"95 % up to {pair['p95']}, longest {pair['longest']}.",
        f"Alone, mean: prompt {lengths['prompt']['mean']:.0f}, chosen {lengths['chosen']['mean']:.0f}, rejected "
        f"{lengths['rejected']['mean']:.0f}.",
        "",
    ]
    most = max(bar["rows"] for bar in lengths["histogram"])
    for bar in lengths["histogram"]:
        label = f"{bar['from']} and more" if bar["below"] is None else f"{bar['from']} to {bar['below'] - 1}"
        full = "█" * -(-40 * bar["rows"] // most)
        lines.append(f"  {label:>16} {bar['rows']:>7,} {full}".rstrip())
    return [*lines, ""]


def fixed_text(output_dir: str, counts: dict[str, list[tuple[str, int | str]]], report: Report) -> str:
    """What was repaired and how the repaired dataset fares, for a person."""
    lines = [f"\nRepaired dataset in {output_dir}: {_sizes(report)}."]
    for table in counts.values():
        lines += [
            f"  {value:>8,}  {label}" if isinstance(value, int) else f"  {label}: {value}" for label, value in table
        ]
    for finding in report.findings:
        if finding.severity == "error":
            lines += ["", *_finding_lines(finding)[:-1]]
    return "\n".join([*lines, "", f"Checked again: {summary_line(report)}"])
