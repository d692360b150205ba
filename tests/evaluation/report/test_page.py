"""The report: reproducible, accessible, offline, and safe for any text."""

import copy
import json
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from preferans.errors import PreferansError
from preferans.evaluation.report.page import write_report
from preferans.evaluation.report.words import NO_BREAK, REPORT_LANGUAGES

from ...support.reports import AFTER, BEFORE, SOURCE, TEXTS, Elements, judged, page_of, scored, system, text_of


@pytest.mark.parametrize("language", REPORT_LANGUAGES)
def test_the_page_needs_no_network_and_is_reproducible(language, tmp_path, two, run_folder):
    scores = two | {"runs": scored(runs=[run_folder])["runs"], "verdicts": [judged(["before", "after"])]}
    kept = copy.deepcopy(scores)
    page = page_of(tmp_path / "first", scores, language)
    assert scores == kept
    page_of(tmp_path / "second", scores, language)
    for name in ("report.html", "report.md"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert "http:" not in page and "https:" not in page and "@import" not in page
    elements = Elements(page)
    assert not elements.open
    assert not elements.all("script", "link", "img", "iframe", "object")
    assert not any("src" in attributes for _, attributes in elements.found)
    links = [attributes["href"] for attributes in elements.all("a", "use") if "href" in attributes]
    names = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(set(names)) == len(names)
    assert {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(names)
    assert all(link.startswith("#") for link in links)
    assert f'<html lang="{language}">' in page


def test_the_page_is_accessible_to_screen_readers(tmp_path, two, run_folder):
    scores = two | {"runs": scored(runs=[run_folder])["runs"], "verdicts": [judged(["before", "after"])]}
    page = page_of(tmp_path, scores)
    elements = Elements(page)
    assert all(attributes["scope"] in ("row", "col") for attributes in elements.all("th"))
    pictures = elements.all("svg")
    assert len(pictures) >= 7 + 1 + 1 + 1  # curves, differences, ranking, lengths
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    labels = [attributes["aria-label"] for attributes in pictures]
    assert "Loss: 0.69 at step 1, 0.66 at step 4" in labels
    assert "Peak memory so far, GiB: 1.00 at step 1, 4.00 at step 4" in labels
    assert not any("nan" in label for label in labels)
    headings = [int(tag[1]) for tag, _ in elements.found if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        colour = colour[1:] if len(colour) == 7 else "".join(2 * letter for letter in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_contrast_in_light_and_dark():
    template = (SOURCE / "report.html.jinja").read_text(encoding="utf-8")
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w+);", block))
        for block in re.findall(r":root \{(.*?)\}", template, re.DOTALL)
    ]
    assert len(themes) == 2 and themes[0].keys() == themes[1].keys()
    for theme in themes:
        for name in ("ink", "soft-ink", "good", "bad", "neutral", "link"):
            assert contrast(theme[name], theme["paper"]) >= 4.5
            assert contrast(theme[name], theme["panel"]) >= 4.5
        for name in ("soft-mark", "hard-mark"):
            assert contrast(theme["ink"], theme[name]) >= 4.5
        for number in range(1, 9):
            assert contrast(theme[f"series-{number}"], theme["paper"]) >= 3


def test_the_russian_page_is_in_russian(tmp_path, two):
    text = text_of(page_of(tmp_path, two, "ru")).replace(NO_BREAK, " ")
    assert "after против before, на 8 запросах" in text
    assert "значимо лучше" in text and "разница не обнаружена" in text
    score = two["systems"][0]["scores"]["length"]
    assert f"{score['value']:.0f} [{score['low']:.0f}; {score['high']:.0f}]" in text
    for words in ("significantly", "prompts", "Answers", " pp"):
        assert words not in text


def test_shows_the_provenance_of_runs(tmp_path, run_folder):
    scores = scored(runs=[run_folder])
    text = text_of(page_of(tmp_path, scores)).replace(NO_BREAK, " ")
    for words in (
        *("recipes/x.yaml", "org/model (main)", "f" * 64, "beta 0.1", "1,234 training pairs and 4 held-out pairs"),
        *("1 h 2 min", "since the last resume", "1,234.5", "1.50 GiB", "700 MiB", "Only training runs are shown"),
    ):
        assert words in text
    pairs = scores["runs"][0]["pairs"]
    assert pairs["test_normalised_accuracy_before"]["value"] == 0.25
    assert "likelier per token in 100% of them, before in 25%: +75 pp" in text
    card = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Reward accuracy | 100% " in card
    (run_folder / "provenance.json").unlink()
    with pytest.raises(PreferansError, match=r"provenance\.json: there is no such file"):
        write_report(tmp_path, scores)


def test_any_number_of_systems(tmp_path):
    systems = [system(f"system {number}", *(AFTER if number % 2 else BEFORE)) for number in range(9)]
    text = text_of(page_of(tmp_path / "compared", scored(*systems)))
    assert text.count("against system 0, on 8 prompts") == 8
    assert "There are 88 comparisons" in text or re.search(r"There are \d+ comparisons", text)
    text = text_of(page_of(tmp_path / "uncompared", scored(*systems, baseline=False)))
    assert "9 systems on 8 prompts. No baseline was named" in text
    assert "Largest differences" in text
    text = text_of(page_of(tmp_path / "single", scored(systems[0])))
    assert "One system, system 0, on 8 prompts" in text
    assert "Worst answers" in text


# A page takes half a second: a failing example is shown as it is found.
@settings(
    max_examples=6,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    names=st.lists(TEXTS, min_size=2, max_size=2),
    texts=st.lists(TEXTS, min_size=5, max_size=5),
    language=st.sampled_from(REPORT_LANGUAGES),
)
def test_no_text_breaks_the_page(names, texts, language, tmp_path, two):
    first, second = (f"{number} {name}" for number, name in enumerate(names))
    scores = json.loads(json.dumps(two).replace('"before"', json.dumps(first)).replace('"after"', json.dumps(second)))
    scores["verdicts"] = [judged([first, second])]
    scores["made"]["command"] = texts[0]
    scores["systems"][0] |= {
        "source": texts[1],
        "weights": {"model_name_or_path": texts[2]},
        "sampling": {texts[3]: 1},
    }
    for row in scores["answers"]:
        row["prompt"] = [{"role": texts[4], "content": texts[2]}, {"role": "system", "content": texts[3]}]
        row["answers"][1] |= {"answer": texts[4], "finish_reason": texts[0]}
    page = page_of(tmp_path / "hostile", scores, language)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00]", page)
    elements = Elements(page)
    assert not elements.open
    template = (SOURCE / "report.html.jinja").read_text(encoding="utf-8")
    ours = set(re.findall(r"<([a-z]\w*)", template)) | set(
        ["svg", "g", "defs", "clippath", "path", "use", "rect", "line", "text", "mark"]
    )
    assert {tag for tag, _ in elements.found} <= ours
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    # a table of the card has as many cells in each row as in its head
    card = (tmp_path / "hostile" / "report.md").read_text(encoding="utf-8")
    for table in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "<" not in card.replace("\\<", "")


def test_the_report_names_in_what_two_systems_differ_beside_the_adapter(tmp_path):
    weights = {"model_name_or_path": "base", "load_in_4bit": True, "sha256": ["1"]}
    before, after = system("before", *BEFORE), system("after", *AFTER)
    before.weights, after.weights = weights, weights | {"sha256": ["1", "2"]}
    before.sampling = after.sampling = {"seed": 1, "max_new_tokens": 150}
    alike = scored(before, after)
    assert "also differ in" not in text_of(page_of(tmp_path, alike))
    after.weights = after.weights | {"load_in_4bit": False}
    after.sampling = {"seed": 1, "max_new_tokens": 512}
    text = text_of(page_of(tmp_path, scored(before, after)))
    assert (
        "“after” and “before” also differ in load_in_4bit, max_new_tokens, so the adapter is not the only cause"
        in text
    )
    after.weights = after.weights | {"model_name_or_path": "other"}
    assert "also differ in" not in text_of(page_of(tmp_path, scored(before, after)))
