"""Preference pairs in each of TRL's formats, valid by default, and a short form of a check's findings."""

from collections import Counter

from preferans.data.check import check_dataset

from .rows import preference

QUESTION = "Почему небо днём голубое, а на закате красное?"
LONG_QUESTION = (
    "Почему небо днём голубое, а на закате красное, и отчего у этого явления столько разных объяснений в книгах?"
)
# No two of them are near-duplicates.
TOPICS = (
    "Почему трава зелёная?",
    "Как сварить борщ?",
    "Сколько планет у Солнца?",
    "Кто написал «Войну и мир»?",
    "Где зимуют раки?",
    "Чем кормить хомяка?",
    "Зачем нужен пароль?",
    "Что такое интеграл?",
)


def messages(text: str, role: str = "assistant") -> list[dict]:
    return [{"role": role, "content": text}]


def valid_row(number: int, **changes) -> dict:
    """Return a row without findings, with another prompt for each number."""
    answers = {"chosen": messages(f"Хороший ответ {number}."), "rejected": messages(f"Плохой ответ {number}!")}
    return preference(number, **{"prompt": messages(TOPICS[number], "user"), **answers, **changes})


def as_plain(row: dict) -> dict:
    """Convert a conversational row to texts."""
    texts = {"prompt": f"Вопрос: {row['prompt'][-1]['content']}\nОтвет:"}
    return row | texts | {column: " " + row[column][0]["content"] for column in ("chosen", "rejected")}


def as_implicit(row: dict) -> dict:
    """Move the prompt of a row into its answers."""
    return {key: value for key, value in row.items() if key != "prompt"} | {
        column: row["prompt"] + row[column] for column in ("chosen", "rejected")
    }


SHAPES = {
    "conversational explicit": lambda row: row,
    "conversational implicit": as_implicit,
    "text explicit": as_plain,
    "text implicit": lambda row: as_implicit(as_plain(row)),
}

DAMAGED = [
    valid_row(0),
    valid_row(1, chosen=messages("  Хороший ответ.<|im_end|>\n<|im_end|> ")),
    valid_row(2, prompt=messages(QUESTION, "user"), chosen=messages(f"{QUESTION}\n{QUESTION} Из-за рассеяния.")),
    valid_row(3, prompt=messages(QUESTION + "!", "user"), chosen=messages(QUESTION + "! Плохой ответ 3!")),
    valid_row(4, chosen=messages("</s>")),
    valid_row(5, rejected=7),
    {"id": "lost"},
    valid_row(6, score=0.5, note="важно", seen=3, extra={"a": 1}),
]


def findings(rows: list | dict, *args, **kwargs) -> dict[str, tuple[str, int]]:
    """Return the severity and count of each check with findings; the counts of one check are added up."""
    report = check_dataset(rows if isinstance(rows, dict) else {"train": rows}, *args, **kwargs)
    counts: Counter = Counter()
    for finding in report.findings:
        counts[finding.check, finding.severity] += finding.count
    return {check: (severity, number) for (check, severity), number in counts.items()}
