"""The report: its figures are those of scores.json, it asks nothing of the network, and no text can break it."""

import copy
import html
import json
import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import preferans
from preferans.data.ratings import CRITERIA
from preferans.errors import PreferansError
from preferans.evaluation.answers import System, line_up
from preferans.evaluation.compare import Comparison, compare
from preferans.evaluation.held_out import pair_scores
from preferans.evaluation.measures import MEASURES
from preferans.evaluation.report.examples import changes, highlight
from preferans.evaluation.report.page import write_report
from preferans.evaluation.report.pictures import hills, running_mean
from preferans.evaluation.report.words import MINUS, NO_BREAK, REPORT_LANGUAGES, Words, digits
from preferans.files import write_json
from preferans.training.run_folder import provenance

SOURCE = Path(preferans.__file__).parent / "evaluation" / "report"
EN, RU = Words("en"), Words("ru")


# --- Material ---


def system(name: str, *answers: str, finish_reason: str | None = "stop", kind: str = "answers") -> System:
    rows = {
        f"q{number:02}": {
            "id": f"q{number:02}",
            "prompt": [{"role": "user", "content": f"Вопрос {number}?"}],
            "answer": answer,
            "finish_reason": finish_reason,
        }
        for number, answer in enumerate(answers)
    }
    return System(name, f"answers/{name}.jsonl", rows, kind)


def scored(*systems: System, baseline: bool = True, runs=()) -> dict:
    prompts = line_up(systems) if systems else {}
    first = systems[0] if systems and baseline and len(systems) > 1 else None
    record = compare(Comparison(systems, prompts, "python scripts/score.py …", first, runs=[str(run) for run in runs]))
    return json.loads(json.dumps(record))  # as it is read from the file


LOOP = "вода кипит при ста градусах " * 4
BEFORE = [LOOP, "", "Да, это so.", "Коротко.", LOOP, "Вот так", "Так делают все.", LOOP]
AFTER = ["Это верно.", "Можно и так.", "Да.", "", "Это приготoвление.", "Вот так.", "Так делают все.", "Хорошо."]


@pytest.fixture
def two() -> dict:
    return scored(system("before", *BEFORE, finish_reason="length"), system("after", *AFTER))


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """What a finished run leaves, as far as the report reads it."""
    folder = tmp_path / "run"
    dataset = {"name": "data/x", "fingerprint": "f" * 64, "train_pairs": 1_234, "test_pairs": 4}
    said = {"model_name_or_path": "org/model", "beta": 0.1, "loss_type": ["sigmoid"]}
    measured = {"device": "CPU", "train_seconds": 3_725.4, "tokens_per_second": 1_234.5, "epochs": 2.0}
    measured |= {"peak_memory_bytes": 3 << 29, "planned_peak_bytes": 700 << 20, "resumed_from": "run/checkpoint-1"}
    write_json(folder / "provenance.json", provenance("recipes/x.yaml", said, dataset, 42) | {"measured": measured})
    log = [
        {"step": step, "loss": 0.7 - step / 100, "grad_norm": float("nan") if step == 2 else 1.5}
        | {"rewards/margins": step / 10, "rewards/accuracies": 0.5, "logps/chosen": -50.0, "logps/rejected": -60.0}
        | {"peak_memory_bytes": step << 30}
        for step in range(1, 5)
    ]
    write_json(folder / "trainer_state.json", {"log_history": [*log, {"step": 4, "train_loss": 0.6}]})
    before = [pair(-10, -9), pair(-10, -9), pair(-10, -9), pair(-9, -10)]
    after = [pair(-9, -11)] * 4
    write_json(
        folder / "test_log_probs.json",
        {"before": before, "after": after, "beta": 0.1, "per_token": False, "groups": ["a", "b", "c", "d"]},
    )
    write_json(folder / "all_results.json", {})
    return folder


def pair(chosen: float, rejected: float) -> dict:
    return {"chosen_logp": chosen, "rejected_logp": rejected, "chosen_tokens": 10, "rejected_tokens": 10}


def judged(names: list[str]) -> dict:
    rate = {"value": 0.625, "low": 0.51, "high": 0.74, "cases": 40}
    return {
        "pairs": [
            {"systems": [names[1], names[0]], "wins": 24, "losses": 14, "ties": 2, "unreadable": 3, "win_rate": rate}
            | {"length_controlled_win_rate": {"value": None, "low": None, "high": None, "cases": 40}}
        ],
        "ranking": [
            {"system": names[1], "strength": 44.4, "low": 10.0, "high": 80.0, "verdicts": 40},
            {"system": names[0], "strength": -44.4, "low": -80.0, "high": -10.0, "verdicts": 40},
        ],
        "criteria": [
            {"system": names[0], "unreadable": 1}
            | {"scores": {name: {"value": 3.25, "low": 3.0, "high": 3.5, "cases": 8} for name in CRITERIA}}
        ],
        "sources": [{"source": "verdicts.jsonl", "kind": "judge", "verdicts": 40}],
    }


def page_of(folder: Path, scores: dict, language: str = "en") -> str:
    page, card = write_report(folder, scores, language)
    assert (page.name, card.name) == ("report.html", "report.md")
    return page.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What is read on the page, with single spaces."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"[ \n]+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "path", "use", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect", "line"):
            return
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.found if tag in tags]


# --- Words and numbers ---


def test_both_languages_say_the_same_things():
    def shape(words):
        if isinstance(words, dict):
            return {key: shape(value) for key, value in words.items()}
        assert isinstance(words, str) and words.strip()
        return sorted(field for _, field, _, _ in string.Formatter().parse(words) if field is not None)

    english, russian = (
        yaml.safe_load((SOURCE / f"words_{language}.yaml").read_text(encoding="utf-8"))
        for language in REPORT_LANGUAGES
    )
    assert shape(english) == shape(russian)
    assert not re.search("[а-яё]", json.dumps(english, ensure_ascii=False))


def test_no_sentence_is_written_for_nothing():
    used = "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py"))
    used += "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("report.*.jinja"))
    for key in [*EN.tables["text"], *EN.tables["plurals"], *EN.tables["curves"]]:
        assert f'"{key}"' in used or f"'{key}'" in used, key


@pytest.mark.parametrize("words", [EN, RU], ids=REPORT_LANGUAGES)
def test_every_measure_has_a_title_and_a_meaning(words):
    for name in [*MEASURES, *pair_scores([pair(-1, -2)], [pair(-1, -3)], beta=1.0)]:
        assert words.title(name) != name and words.meaning(name).endswith(".")
    for name in CRITERIA:
        assert words.tables["criteria"][name]


def test_numbers_as_each_language_writes_them():
    assert EN.number(-1234.5, 1) == MINUS + "1,234.5"
    assert RU.number(-1234.5, 1) == f"{MINUS}1{NO_BREAK}234,5"
    assert RU.number(0.25, 2, signed=True) == "+0,25"
    assert EN.number(-0.001, 1, signed=True) == "0.0"
    assert EN.measure(0.458, "share", 0) == "46%"
    assert RU.measure(0.458, "share", 0) == f"46{NO_BREAK}%"
    assert RU.measure(-0.058, "share", 1, True) == f"{MINUS}5,8{NO_BREAK}п.{NO_BREAK}п."
    assert RU.measure(None, "share", 0) == "—"
    score = {"value": 0.5, "low": -0.25, "high": 0.75}
    assert EN.interval(score, "share", 0) == f"[{MINUS}25, 75]"
    assert RU.interval(score, "number", 2, True) == f"[{MINUS}0,25; +0,75]"
    assert RU.duration(3_725.4) == f"1{NO_BREAK}ч 2{NO_BREAK}мин"
    assert EN.duration(59.96) == f"1{NO_BREAK}min"
    assert EN.duration(7.25) == f"7.2{NO_BREAK}s"
    assert EN.bytes(3 << 29) == f"1.50{NO_BREAK}GiB"
    assert RU.bytes(700 << 20) == f"700{NO_BREAK}МиБ"


@pytest.mark.parametrize(
    ("count", "phrase"),
    [(1, "запросе"), (2, "запросах"), (11, "запросах"), (21, "запросе"), (111, "запросах"), (101, "запросе")],
)
def test_russian_numbers_ask_for_their_forms(count, phrase):
    assert RU.plural("on_prompts", count) == f"на{NO_BREAK}{count} {phrase}"


def test_more_russian_forms():
    forms = {count: RU.plural("systems", count).split()[-1] for count in (1, 3, 5, 12, 14, 22, 25, 0)}
    assert forms == dict(
        zip(forms, ["система", "системы", "систем", "систем", "систем", "системы", "систем", "систем"])
    )
    assert [EN.plural("systems", count) for count in (0, 1, 2)] == ["0 systems", "1 system", "2 systems"]


def test_a_sure_difference_is_never_rounded_to_nothing():
    def score(value, low, high):
        return {"value": value, "low": low, "high": high}

    assert digits("share", [score(0.5, 0.4, 0.6)]) == 0
    assert digits("share", [score(0.5, 0.4, 0.6)], [score(0.004, 0.001, 0.008)]) == 1
    assert digits("share", [score(0.5, 0.4, 0.6)], [score(0.004, -0.001, 0.008)]) == 0
    assert digits("share", [score(0.05, 0.0, 0.09)]) == 1
    assert digits("share", [score(0.0, 0.0, 0.0)]) == 0
    assert digits("characters", [score(1.5, 1.0, 2.0)]) == 0
    assert digits("points", [score(34.5, 30.0, 40.0)]) == 1


def test_an_unknown_language_is_refused(tmp_path, two):
    with pytest.raises(ValueError, match="en or ru"):
        write_report(tmp_path, two, "fr")


# --- The page ---


@pytest.mark.parametrize("language", REPORT_LANGUAGES)
def test_the_page_asks_nothing_of_the_network_and_is_the_same_twice(language, tmp_path, two, run_folder):
    scores = two | {"runs": scored(runs=[run_folder])["runs"], "verdicts": judged(["before", "after"])}
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


def test_the_page_can_be_read_without_seeing_it(tmp_path, two, run_folder):
    scores = two | {"runs": scored(runs=[run_folder])["runs"], "verdicts": judged(["before", "after"])}
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
    """Ratio of luminances as WCAG 2 counts it."""

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


def rounded(value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.0f}".replace("-", MINUS)


def test_figures_are_those_of_the_scores(tmp_path, two):
    page = page_of(tmp_path, two)
    text = text_of(page)
    before, after = (system["scores"]["finished"] for system in two["systems"])
    assert (before["value"], after["value"]) == (0.0, 1.0)
    loops = [system["scores"]["loops"] for system in two["systems"]]
    difference = two["comparisons"][0]["differences"]["loops"]
    row = re.search(
        r"Answers that run in circles(?! *[:;]).*?(?=Repeated share of the text)", text[text.index("The answers in") :]
    )[0]
    for score in loops:
        assert f"{rounded(score['value'])}% [{rounded(score['low'])}, {rounded(score['high'])}]" in row
    low, high = rounded(difference["low"], "+"), rounded(difference["high"], "+")
    assert f"{rounded(difference['value'], '+')} pp [{low}, {high}]".replace("+0,", "0,") in row.replace(NO_BREAK, " ")
    assert EN.verdict(difference["verdict"]) in row
    assert "after against before, on 8 prompts" in text
    for name in MEASURES:
        told = EN.title(name) in text
        assert told == any(system["scores"][name]["cases"] for system in two["systems"]), name
    counts = {"better": 0, "worse": 0, "no_detectable_difference": 0, "higher": 0, "lower": 0}
    for one in two["comparisons"][0]["differences"].values():
        counts[one["verdict"]] += one["cases"] > 0
    assert f"Better {counts['better']} " in text and f"Worse {counts['worse']} " in text
    assert f"Cannot be told {counts['no_detectable_difference']} " in text


def test_the_russian_page_is_in_russian(tmp_path, two):
    text = text_of(page_of(tmp_path, two, "ru")).replace(NO_BREAK, " ")
    assert "after против before, на 8 запросах" in text
    assert "значимо лучше" in text and "разницы не видно" in text
    score = two["systems"][0]["scores"]["length"]
    assert f"{score['value']:.0f} [{score['low']:.0f}; {score['high']:.0f}]" in text
    for words in ("significantly", "prompts", "Answers", " pp"):
        assert words not in text


def test_runs_are_told_from_their_folder(tmp_path, run_folder):
    scores = scored(runs=[run_folder])
    text = text_of(page_of(tmp_path, scores)).replace(NO_BREAK, " ")
    for words in (
        *("recipes/x.yaml", "org/model (main)", "f" * 64, "beta 0.1", "1,234 training pairs and 4 held-out pairs"),
        *("1 h 2 min", "since the last resume", "1,234.5", "1.50 GiB", "700 MiB", "Only training runs are shown"),
    ):
        assert words in text
    pairs = scores["runs"][0]["pairs"]
    assert pairs["test_normalised_accuracy_before"]["value"] == 0.25
    assert "likelier per token in 100% of them, the untrained one in 25%: +75 pp" in text
    card = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Reward accuracy | 100% " in card
    (run_folder / "provenance.json").unlink()
    with pytest.raises(PreferansError, match=r"provenance\.json: there is no such file"):
        write_report(tmp_path, scores)


def test_verdicts_are_shown_as_they_are(tmp_path, two):
    text = text_of(page_of(tmp_path, two | {"verdicts": judged(["before", "after"])})).replace(NO_BREAK, " ")
    assert "By verdicts on pairs of answers after comes first, and its interval does not touch" in text
    assert "from 40 verdicts on pairs" in text
    assert "after against before 62% [51, 74] Cannot be told 24 14 2 3" in re.sub(r" +", " ", text)
    assert "+44 [+10, +80]" in text and f"{MINUS}44 [{MINUS}80, {MINUS}10]" in text
    assert text.count("3.2 [3.0, 3.5]") == len(CRITERIA)
    near = judged(["before", "after"])
    near["ranking"][1]["high"] = 10.0
    text = text_of(page_of(tmp_path, two | {"verdicts": near}))
    assert "its interval overlaps with those of before: the order between them is open" in text


def test_any_number_of_systems(tmp_path):
    systems = [system(f"system {number}", *(AFTER if number % 2 else BEFORE)) for number in range(9)]
    text = text_of(page_of(tmp_path / "compared", scored(*systems)))
    assert text.count("on 8 prompts") == 8
    assert "There are 88 comparisons" in text or re.search(r"There are \d+ comparisons", text)
    text = text_of(page_of(tmp_path / "uncompared", scored(*systems, baseline=False)))
    assert "9 systems on 8 prompts. No baseline was named" in text
    assert "Largest differences" in text
    text = text_of(page_of(tmp_path / "single", scored(systems[0])))
    assert "One system, system 0, on 8 prompts" in text
    assert "Worst answers" in text


def test_people_as_a_system(tmp_path):
    text = text_of(
        page_of(tmp_path, scored(system("model", *BEFORE), system("human", *AFTER, finish_reason=None, kind="human")))
    )
    assert "written by people" in text and "does not arise" in text


def test_a_measure_without_a_title_keeps_its_name(tmp_path, two):
    for name in ("measures",):
        two[name]["kind <b>$x$"] = {"better": "higher", "unit": "share"}
    for score in (*(one["scores"] for one in two["systems"]), two["comparisons"][0]["differences"]):
        score["kind <b>$x$"] = {"value": 0.5, "low": 0.4, "high": 0.6, "cases": 8, "verdict": "better"}
    page = page_of(tmp_path, two)
    assert "kind &lt;b&gt;$x$" in page and "<b>$x$" not in page


# --- Answers side by side ---


def answer(text: str = "Да.", **measures) -> dict:
    return {"answer": text, "measures": measures}


def test_changes_count_what_is_better():
    known = {"loops": ("lower", "share"), "complete": ("higher", "share"), "chrf": ("higher", "points")}
    known |= {"length": (None, "characters"), "distinct_2": (None, "share")}
    old = answer(loops=1.0, complete=None, chrf=20.0, length=5, distinct_2=0.1)
    new = answer(loops=0.25, complete=1.0, chrf=70.0, length=9, distinct_2=0.9)
    assert changes(old, new, known) == {"loops": 0.75, "chrf": 0.5}
    empty = answer("  ", loops=None, complete=None, chrf=None, length=2, distinct_2=None)
    assert changes(new, empty, known) == {"loops": -0.75, "complete": -1.0, "chrf": -0.7}
    assert changes(empty, new, known) == {"loops": 0.75, "complete": 1.0, "chrf": 0.7}
    assert changes(empty, empty, known) == {}


def articles(page: str, heading: str) -> list[str]:
    part = page[page.index(f"<h3>{heading}</h3>") :]
    part = part[: part.index("<h3>", 4)] if "<h3>" in part[4:] else part
    return re.findall(r"<article>(.*?)</article>", part, re.DOTALL)


def test_losses_are_shown_as_openly_as_gains(tmp_path, two):
    page = page_of(tmp_path, two)
    gains, losses = articles(page, "Largest gains"), articles(page, "Largest losses")
    assert 1 <= len(gains) <= 5 and 1 <= len(losses) <= 5
    assert "Вопрос 3?" in losses[0]  # became empty
    assert all("change +" in text for text in gains) and all(f"change {MINUS}" in text for text in losses)
    totals = [float(re.search(r"change \+([\d.]+)", text)[1]) for text in gains]
    assert totals == sorted(totals, reverse=True)
    asked = re.findall(r"Вопрос (\d)\?", "".join([*gains, *losses, *articles(page, "A look without picking")]))
    assert len(asked) == len(set(asked))


def test_nothing_got_worse(tmp_path):
    page = page_of(tmp_path, scored(system("before", *[LOOP] * 8), system("after", *["Так и есть."] * 8)))
    assert "No answer got worse by the measures." in page and "No answer got better" not in page


def test_intruding_words_are_marked_where_they_stand(tmp_path, two):
    assert highlight("Это <so> и so.", [[11, 13, "en", False], [5, 7, "en", True]], EN) == (
        'Это &lt;<mark class="hard" title="hard intrusion: English">so</mark>&gt; и '
        '<mark class="soft" title="foreign word: English">so</mark>.'
    )
    assert highlight("ab", [[0, 2, "en", False], [1, 2, "de", False], [1, 9, "de", True]], RU).count("<mark") == 1
    page = page_of(tmp_path, two, "ru")
    assert re.search(r'<mark class="hard" title="грубое вторжение: [^"]+">приготoвление</mark>', page)
    assert '<mark class="soft">' in page and '<mark class="hard">' in page  # the legend


TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lo", "Sm", "So"]), max_size=30),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</style></svg></div>",
            "{{ 7 * 7 }} {% raw %} ${x} $\\frac{1}{2}$",
            "\ud800 \u202e слева направо \u2066",
            "| a | b |\n| --- |\n# h\n```",
            "a\x0cb\x85c\u2028d\r\ne",
            "אבג مرحبا",
            "дли" * 400,
            "]]>--><!-- ",
        ]
    ),
)


@given(TEXTS, st.lists(st.tuples(st.integers(-5, 99), st.integers(-5, 99), st.text(max_size=5), st.booleans())))
def test_marking_keeps_every_letter(text, intruders):
    marked = str(highlight(text, [list(intruder) for intruder in intruders], EN))
    assert html.unescape(re.sub(r"</?mark[^<>]*>", "", marked)) == html.unescape(html.escape(text))


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
    scores["verdicts"] = judged([first, second])
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


# --- Pictures ---


def test_names_with_backslashes_stand_as_they_are(tmp_path):
    names = [r"models\data", r"C:\1"]
    scores = scored(*(system(name, *["Да, это так, и вот почему."] * 6) for name in names))
    page = page_of(tmp_path, scores)
    labels = " ".join(re.findall(r'aria-label="([^"]*)"', page))
    assert all(name in labels for name in names)


def test_the_running_mean_looks_back():
    assert running_mean([1.0, 3.0]) == [1.0, 3.0]
    assert running_mean([0.0] * 6 + [6.0] * 6) == [0.0] * 6 + [3.0] + [6.0] * 5


def test_a_system_without_values_has_an_empty_row():
    drawn = hills("x", [[0.5, 0.5], []], "label", EN, True)
    assert drawn.startswith("<svg viewBox=") and 'aria-label="label"' in drawn
    assert "var(--series-1)" in drawn and "#0" not in drawn.replace('href="#', "").replace("url(#", "")
