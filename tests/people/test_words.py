import re

import yaml

from ..support.tiny import ROOT

PEOPLE = ROOT / "src" / "preferans" / "people"


def test_both_languages_have_the_same_words():
    russian, english = (
        yaml.safe_load((PEOPLE / f"words_{language}.yaml").read_text(encoding="utf-8")) for language in ("ru", "en")
    )
    assert {name: set(table) for name, table in russian.items()} == {
        name: set(table) for name, table in english.items()
    }
    for name, text in russian["text"].items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english["text"][name])), name


def test_every_word_is_used():
    used = "".join(path.read_text(encoding="utf-8") for path in [*PEOPLE.glob("*.py"), *PEOPLE.glob("pages/*.jinja")])
    tables = yaml.safe_load((PEOPLE / "words_en.yaml").read_text(encoding="utf-8"))
    for key in [*tables["text"], *tables["plurals"]]:
        assert f'"{key}"' in used, key
