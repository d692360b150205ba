import json

import pytest
import yaml

from preferans.data.card import EXAMPLE_LENGTH, CardContent, card_head, counted, dataset_card, quality_table
from preferans.data.preferences import fingerprint
from preferans.data.tables import as_texts, preference_frame

from ..support.pairs import messages
from ..support.rows import preference

CONTENT = CardContent(
    title="Pairs",
    summary="Some pairs:",
    rule="The better answer is `chosen`.",
    language="ru",
    source="`some/rows` on the Hub",
    licence="other",
    options={"turns": "all", "seed": 42},
    command="python data_builders/x.py",
    counts={"rows": [("read", 1234), ("share kept", "50%")]},
    tags=["human-feedback"],
    notes="## Notes\n\nSome notes.",
)


@pytest.mark.parametrize("convert", [lambda rows: rows, as_texts], ids=["conversational", "text"])
def test_a_card_states_its_content_and_the_rows(convert):
    splits = {"train": preference_frame([preference(1)] * 3), "test": preference_frame([preference(2)])}
    splits = {name: convert(rows) for name, rows in splits.items()}
    card = dataset_card(CONTENT, splits)
    stored = fingerprint({name: rows.to_dicts() for name, rows in splits.items()})
    for line in (
        "# Pairs",
        "Some pairs: 3 in `train`, 1 in `test`; no conversation tree is in two splits.",
        "- Source: `some/rows` on the Hub.",
        "- Options: turns `all`, seed `42`.",
        "- Command to build it again: `python data_builders/x.py`",
        f"- fingerprint: `{stored}` (SHA-256 of the rows: {CONTENT.repeatable})",
        "The better answer is `chosen`.",
        "| read | 1,234 |",
        "| share kept | 50% |",
        "Some notes.",
        "| most letters are Russian | 100% | 100% |",
        "| loops | 0% | 0% |",
    ):
        assert line in card.split("\n"), line
    assert card == dataset_card(CONTENT, splits)


def test_a_long_text_is_shortened_in_the_examples():
    long = "слово " * EXAMPLE_LENGTH
    card = dataset_card(CONTENT, {"train": preference_frame([preference(1, chosen=messages(long))])})
    example = json.loads(card.split("````json\n")[1].split("````")[0])
    assert example["chosen"] == messages(long[:EXAMPLE_LENGTH] + " […]")
    assert "in two splits" not in card


@pytest.mark.parametrize(("number", "size"), [(2, "n<1K"), (1000, "1K<n<10K")])
def test_the_head_is_metadata_for_the_hub(number, size):
    rows = preference_frame([preference(1)] * number)
    head = yaml.safe_load(card_head("Pairs", {"train": rows}, "pt-BR", "other", ["dpo"]).strip("-"))
    assert head["language"] == ["pt"]
    assert (head["license"], head["license_name"]) == ("other", "that-of-the-source")
    assert (head["pretty_name"], head["tags"], head["size_categories"]) == ("Pairs", ["dpo"], [size])
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    assert "license_name" not in card_head("Pairs", {"train": rows}, "ru", "apache-2.0", [])


def test_measures_the_answers_as_russian_text():
    loop = "одно и то же слово " * 4
    rows = [preference(1, chosen=messages("Да, это так."), rejected=messages(loop))]
    rows += [preference(2, chosen=messages("Нет."), rejected=messages("Just no."))]
    table = quality_table(preference_frame(rows))
    assert table["chosen"] == {"words": 2, "in_russian": 1, "foreign_words": 0, "loops": 0}
    assert (table["rejected"]["in_russian"], table["rejected"]["loops"]) == (0.5, 0.5)


def test_counts_have_the_words_of_their_reasons():
    assert counted("dropped", {"a": "too long"}, {"a": 3, "b": 1}) == [("dropped: too long", 3)]
