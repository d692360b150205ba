import copy
import json
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferans.data.preferences import row_problem
from preferans.data.ratings import (
    CRITERIA,
    OUTCOMES,
    VotingRule,
    build_rating_pairs,
    export_files,
    latest,
    mean_scores,
    pairwise_votes,
    read_ratings,
)
from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.ratings import judgement, prompt, scores, with_texts
from ..support.tiny import ROOT


def outcome(rows: list[dict], **rule) -> str:
    """Return the outcome of the only two answers; for a pair, `chosen>rejected`."""
    pairs, counts = build_rating_pairs(rows, VotingRule(**rule))
    outcomes = {name: number for name, number in counts["outcomes"].items() if number}
    assert sum(outcomes.values()) == 1
    assert ("pair" in outcomes) == (len(pairs) == 1)
    return ">".join(pairs["id"][0].split(":")[1:]) if len(pairs) else next(iter(outcomes))


def votes(*verdicts: str | None) -> list[dict]:
    return [judgement(f"r{number}", verdict) for number, verdict in enumerate(verdicts)]


def totals(*values: tuple[int, int], verdict: str | None = None) -> list[dict]:
    return [judgement(f"r{n}", verdict, scores=scores(a1=a, a2=b)) for n, (a, b) in enumerate(values)]


def test_a_pair_is_a_valid_preference_row():
    pairs, counts = build_rating_pairs([judgement(verdict="a2", message_tree_id="tree")], VotingRule())
    assert pairs.to_dicts() == [
        {
            "id": "p1:a2:a1",
            "prompt": [{"role": "user", "content": "Вопрос номер 1?"}],
            "chosen": [{"role": "assistant", "content": "Второй ответ."}],
            "rejected": [{"role": "assistant", "content": "Первый ответ."}],
            "message_tree_id": "tree",
            "lang": "ru",
            "source": "ratings",
            "chosen_rank": None,
            "rejected_rank": None,
        }
    ]
    assert counts == {
        "judgements": 1,
        "replaced": 0,
        "skipped": 0,
        "raters": 1,
        "prompts": 1,
        "outcomes": dict.fromkeys(OUTCOMES, 0) | {"pair": 1},
        "shared": 0,
        "unanimous": 0,
    }
    pairs, _ = build_rating_pairs([judgement()], VotingRule(lang="uk"))
    assert pairs.select("message_tree_id", "lang").row(0) == ("p1", "uk")


@pytest.mark.parametrize(
    ("rows", "rule", "expected"),
    [
        (votes("a1"), {}, "a1>a2"),
        (votes("a2", "a2", "a1"), {}, "a2>a1"),
        (votes(None), {}, "not_judged"),
        (votes("a1", None), {"min_raters": 2}, "too_few_raters"),
        (votes("a1", "a1", None), {"min_raters": 2}, "a1>a2"),
        (votes("tie"), {}, "tie"),
        (votes("tie", "tie"), {}, "tie"),
        # a tie is a vote for neither
        (votes("a1", "tie"), {"min_raters": 2}, "raters_disagree"),
        (votes("a1", "a2"), {"min_agreement": 0}, "raters_disagree"),
        (votes("a1", "a1", "tie", "tie"), {"min_agreement": 0.5}, "raters_disagree"),
        (votes("a1", "a1", "tie"), {}, "a1>a2"),
        (votes("a1", "a1", "a2"), {"min_agreement": 0.7}, "raters_disagree"),
        (votes("a1", "a1", "a1", "a2", "a2"), {"min_agreement": 0.6}, "a1>a2"),
        (votes("a1", "a1"), {"min_agreement": 1}, "a1>a2"),
        # a margin needs scores
        (votes("a1"), {"min_margin": 0}, "margin"),
        (totals((15, 14), verdict="a1"), {"min_margin": 1}, "a1>a2"),
        (totals((15, 14), verdict="a1"), {"min_margin": 1.5}, "margin"),
        (totals((14, 20), verdict="a1"), {}, "a1>a2"),
        (totals((14, 20), verdict="a1"), {"min_margin": 0}, "margin"),
        ([*totals((20, 10), verdict="a1"), judgement("late", "a1")], {"min_margin": 10}, "a1>a2"),
        (totals((14, 20)), {"by": "totals"}, "a2>a1"),
        (totals((14, 20), verdict="a1"), {"by": "totals"}, "a2>a1"),
        (totals((14, 14)), {"by": "totals"}, "tie"),
        (votes("a1"), {"by": "totals"}, "not_judged"),
        (totals((15, 14), (14, 14)), {"by": "totals"}, "raters_disagree"),
        (totals((16, 14), (14, 14), (15, 14)), {"by": "totals"}, "a1>a2"),
        (totals((15, 14), (14, 14), (15, 14)), {"by": "totals"}, "margin"),
        (totals((15, 14), (14, 14), (15, 14)), {"by": "totals", "min_margin": 0.6}, "a1>a2"),
        # the majority prefers a1 by a little, the mean of the differences is for a2
        (totals((15, 14), (15, 14), (5, 25)), {"by": "totals", "min_margin": 0}, "margin"),
        ([with_texts("Да.", " Да.\n")], {}, "equal_texts"),
        ([with_texts("", " ")], {}, "equal_texts"),
        ([with_texts(" ", "Да.")], {}, "chosen_empty"),
        ([with_texts("Да.", "")], {}, "rejected_empty"),
        (
            [with_texts("Расскажи о Чехове и Горьком. Вот.", "Нет.", prompt=prompt("Расскажи о Чехове и Горьком."))],
            {},
            "echo",
        ),
        (
            [with_texts("Нет.", "Расскажи о Чехове и Горьком.", prompt=prompt("Расскажи о Чехове и Горьком."))],
            {},
            "echo",
        ),
    ],
)
def test_two_answers_have_the_outcome_of_the_rule(rows, rule, expected):
    assert outcome(rows, **rule) == expected
    assert outcome(rows[::-1], **rule) == expected


def test_the_best_of_several_beats_each_and_the_others_are_not_compared():
    pairs, counts = build_rating_pairs([judgement(verdict="a2", ids="a3 a2 a1")], VotingRule())
    assert pairs["id"].to_list() == ["p1:a2:a1", "p1:a2:a3"]
    assert (counts["outcomes"]["pair"], counts["outcomes"]["not_judged"]) == (2, 1)
    pairs, _ = build_rating_pairs(
        [judgement(verdict=None, ids="a3 a2 a1", scores=scores(a1=10, a2=20, a3=15))], VotingRule(by="totals")
    )
    assert pairs["id"].to_list() == ["p1:a2:a1", "p1:a3:a1", "p1:a2:a3"]


def test_counts_answers_that_were_never_shown_together():
    _, counts = build_rating_pairs([judgement("anna", "a1"), judgement("boris", "a1", ids="a1 a3")], VotingRule())
    assert (counts["outcomes"]["pair"], counts["outcomes"]["not_judged"]) == (2, 1)


def test_only_answers_with_all_five_scores_count():
    partial = scores(a1=20, a2=10)
    del partial["a2"]["style"]
    assert outcome([judgement(scores=partial)], by="totals") == "not_judged"
    assert mean_scores([judgement(scores=partial)]) == {
        "model 1": {"answers": 1} | dict.fromkeys(CRITERIA, 4.0) | {"total": 20.0}
    }


def test_a_later_judgement_replaces_the_earlier_one():
    early = judgement(verdict="a1", rated_at="2026-03-14T10:00:00+03:00")
    late = judgement(verdict="a2", rated_at="2026-03-14T08:00:00Z", ids="a2 a1")  # 11:00 in the other's zone
    assert outcome([early, late]) == outcome([late, early]) == "a2>a1"
    assert build_rating_pairs([early, late], VotingRule())[1]["replaced"] == 1
    # at the same time the later line counts, and without a zone it is UTC
    same = judgement(verdict="tie", rated_at="2026-03-14T07:00:00")
    assert latest([early, same]) == [same]
    assert latest([same, early]) == [early]
    # a judgement that is taken back does not count
    assert outcome([early, late | {"verdict": None}]) == "not_judged"
    # another rater, prompt or set of answers is another judgement
    others = [early, judgement("boris"), judgement(number=2), judgement(ids="a1 a3")]
    assert len(latest(others)) == 4


def test_a_rater_has_one_vote_on_two_answers_seen_twice():
    rows = [judgement(verdict="a1"), judgement(verdict="a2", ids="a1 a2 a3", rated_at="2026-03-15")]
    pairs, counts = build_rating_pairs(rows, VotingRule())
    assert pairs["id"].to_list() == ["p1:a2:a1", "p1:a2:a3"]
    assert counts["shared"] == 0
    # if the first set is judged again, it is the last
    again = judgement(verdict="a1", rated_at="2026-03-16")
    assert "p1:a1:a2" in build_rating_pairs([*rows, again], VotingRule())[0]["id"]
    # a verdict for a third answer leaves the earlier vote
    assert "p1:a1:a2" in build_rating_pairs([rows[0], rows[1] | {"verdict": "a3"}], VotingRule())[0]["id"]


def single(answer: str, rater: str = "anna", total: int | None = None, thumb: str | None = None, **changes) -> dict:
    """Return a judgement of one of the two answers."""
    row = judgement(rater, None, **changes)
    row["answers"] = [shown for shown in row["answers"] if shown["id"] == answer]
    return row | {"scores": total and scores(**{answer: total}), "thumbs": thumb and {answer: thumb}}


def test_answers_may_be_scored_one_at_a_time():
    assert outcome([single("a1", total=12), single("a2", total=20)], by="totals") == "a2>a1"
    assert outcome([single("a1", total=12), single("a2", "boris", total=20)], by="totals") == "not_judged"
    again = single("a1", total=25, rated_at="2026-03-15")
    assert outcome([again, single("a1", total=12), single("a2", total=20)], by="totals") == "a1>a2"
    assert mean_scores([single("a1", total=10), single("a2", total=20)])["model 2"]["total"] == 20


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([single("a1", thumb="down"), single("a2", thumb="up")], "a2>a1"),
        ([single("a1", thumb="up"), single("a2", thumb="up")], "tie"),
        ([single("a1", thumb="up"), single("a2", "boris", thumb="down")], "not_judged"),
        # of a verdict and thumbs, the verdict counts
        ([single("a1", thumb="down"), single("a2", thumb="up"), judgement(verdict="a1")], "a1>a2"),
        ([judgement(verdict="tie") | {"thumbs": {"a1": "down", "a2": "down"}}], "tie"),
        ([judgement(verdict=None) | {"thumbs": {"a1": "up", "a2": "down"}}], "a1>a2"),
    ],
)
def test_thumbs_are_votes(rows, expected):
    assert outcome(rows) == outcome(rows[::-1]) == expected


def test_agreement_and_mean_scores():
    rows = [*votes("a1", "a1", "a1"), judgement("r0", "a1", 2), judgement("r1", "tie", 2), judgement("r0", "a1", 3)]
    counts = build_rating_pairs(rows, VotingRule())[1]
    assert (counts["shared"], counts["unanimous"], counts["raters"], counts["prompts"]) == (2, 1, 3, 3)
    means = mean_scores([*totals((10, 20), (15, 20)), judgement("r9")])
    assert list(means) == ["model 1", "model 2"]
    assert means["model 1"] == {"answers": 2} | dict.fromkeys(CRITERIA, 2.5) | {"total": 12.5}
    assert means["model 2"]["total"] == 20
    assert mean_scores(votes("a1")) == {}


def test_pairwise_votes_yield_one_share_per_rater():
    rows = votes("a2", "a1", "tie", None)
    shares = [(first["id"], second["id"], share) for _, first, second, share in pairwise_votes(rows)]
    assert shares == [("a1", "a2", 0.0), ("a1", "a2", 1.0), ("a1", "a2", 0.5)]


@st.composite
def exports(draw) -> list[dict]:
    """Draw judgements of two prompts by four raters, no two at the same time."""
    texts = draw(st.lists(st.sampled_from(["", "Да.", "Нет.", "Может быть."]), min_size=3, max_size=3))
    rows = []
    for minute in range(draw(st.integers(1, 9))):
        ids = draw(st.permutations(["a1", "a2", "a3"]))[: draw(st.integers(2, 3))]
        given_scores = draw(st.dictionaries(st.sampled_from(ids), st.integers(5, 25)))
        rows.append(
            judgement(
                draw(st.sampled_from(["anna", "boris", "vera", "gleb"])),
                draw(st.sampled_from([*ids, *ids, "tie", None])),
                draw(st.integers(1, 2)),
                answers=[{"id": answer, "model": answer, "text": texts[int(answer[1]) - 1]} for answer in ids],
                scores=scores(**given_scores) or None,
                rated_at=f"2026-03-14T18:{minute:02}:00Z",
            )
        )
    return rows


rules = st.builds(
    VotingRule,
    by=st.sampled_from(["verdict", "totals"]),
    min_margin=st.none() | st.sampled_from([0, 1, 4]),
    min_raters=st.integers(1, 3),
    min_agreement=st.sampled_from([0, 0.5, 0.6, 1]),
)


def plain_votes(rows: list[dict], prompt_id: str, one: str, two: str, by: str) -> list[str | None]:
    """Count votes on two answers again, in the simplest way: the winner or None, one per rater."""
    last = {}
    for row in rows:
        last[row["rater"], row["prompt_id"], frozenset(answer["id"] for answer in row["answers"])] = row
    winners, sums = {}, {}
    for row in sorted(last.values(), key=lambda row: row["rated_at"]):
        shown = [answer["id"] for answer in row["answers"]]
        if row["prompt_id"] != prompt_id:
            continue
        if by == "verdict" and one in shown and two in shown and row["verdict"] in (one, two, "tie"):
            winners[row["rater"]] = None if row["verdict"] == "tie" else row["verdict"]
        for answer, values in (row["scores"] or {}).items():
            own = sums.setdefault(row["rater"], {})
            own[answer] = sum(values.values())
            if by == "totals" and one in own and two in own:
                winners[row["rater"]] = None if own[one] == own[two] else one if own[one] > own[two] else two
    return list(winners.values())


@settings(max_examples=150)
@given(exports(), rules, st.randoms(use_true_random=False))
def test_outcomes_do_not_depend_on_the_order_or_the_raters_names(rows, rule, random):
    pairs, counts = build_rating_pairs(rows, rule)
    shown = {}
    for row in rows:
        shown.setdefault(row["prompt_id"], set()).update(answer["id"] for answer in row["answers"])
    assert sum(counts["outcomes"].values()) == sum(len(ids) * (len(ids) - 1) // 2 for ids in shown.values())
    assert counts["outcomes"]["pair"] == len(pairs) == pairs["id"].n_unique()
    keys = [(prompt_id, sorted(answers)) for prompt_id, *answers in (name.split(":") for name in pairs["id"])]
    assert keys == sorted(keys)
    for pair in pairs.to_dicts():
        assert row_problem(pair) is None
        prompt_id, chosen, rejected = pair["id"].split(":")
        cast = plain_votes(rows, prompt_id, chosen, rejected, rule.by)
        assert len(cast) >= rule.min_raters
        assert cast.count(chosen) > len(cast) / 2
        assert cast.count(chosen) / len(cast) >= rule.min_agreement

    other = copy.deepcopy(rows)
    names = dict(zip(["anna", "boris", "vera", "gleb"], random.sample(["gleb", "x", "anna", "y"], 4), strict=True))
    for row in other:
        row["rater"] = names[row["rater"]]
    random.shuffle(other)
    other_pairs, other_counts = build_rating_pairs(other, rule)
    assert other_pairs.equals(pairs)
    assert other_counts == counts
    assert mean_scores(other) == mean_scores(rows)


def broken(**changes) -> str:
    row = judgement() | changes
    return json.dumps({key: value for key, value in row.items() if value != "drop"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (broken(scores={"a1": {"relevance": 6}}), ["'scores' of a1: 'relevance' is 6", "from 1 to 5"]),
        (broken(scores={"a1": {"relevance": 0}}), ["'relevance' is 0"]),
        (broken(scores={"a1": {"relevance": 4.5}}), ["'scores', 'a1', 'relevance' must be an integer, got 4.5"]),
        (broken(scores={"a1": {"relevance": True}}), ["'scores', 'a1', 'relevance' must be an integer, got True"]),
        (broken(scores={"a1": {"style": None}}), ["'scores', 'a1', 'style' must be an integer, got None"]),
        (broken(scores={"a1": {"relevence": 5}}), ["criterion 'relevence' is unknown", "Did you mean 'relevance'?"]),
        (broken(scores={"b1": {}}), ["'scores' names 'b1'", "The answers are a1, a2"]),
        (broken(scores={"a1": 20}), ["'scores', 'a1' must be an object, got 20"]),
        (broken(scores=[1, 2]), ["'scores' must be an object, got [1, 2]"]),
        (broken(verdict="a3"), ["'verdict' is 'a3'", "(a1, a2), 'tie', or null"]),
        (broken(verdict="Tie"), ["Did you mean 'tie'?"]),
        (broken(verdict=["a1"]), ["'verdict' must be text, got ['a1']"]),
        (broken(verdict="drop"), ["'verdict' is missing"]),
        (broken(scores="drop"), ["'scores' is missing"]),
        (broken(coment="…"), ["the key 'coment' is unknown", "Did you mean 'comment'?"]),
        (broken(rater=""), ["'rater' is empty"]),
        (broken(rater=7), ["'rater' must be text, got 7"]),
        (broken(prompt_id=None), ["'prompt_id' must be text, got None"]),
        (broken(message_tree_id=" "), ["'message_tree_id' is empty"]),
        (broken(comment=5), ["'comment' must be text, got 5"]),
        (broken(comment="\ud83d"), ["'comment'", "lone surrogate"]),
        (broken(prompt="Вопрос?"), ["'prompt' must be a list, got 'Вопрос?'"]),
        (broken(prompt=[]), ["'prompt' is missing"]),
        (broken(prompt=[{"role": "user", "content": " "}]), ["'prompt', item 1, 'content' is empty"]),
        (broken(prompt=[{"role": "user", "text": "?"}]), ["'prompt', item 1, 'content' is missing"]),
        (broken(prompt=[{"role": "human", "content": "?"}]), ["role 'human'", "system, user, assistant"]),
        (broken(prompt=[{"role": "assistant", "content": "?"}]), ["must end with a message of the user"]),
        (broken(answers=[]), ["one or more answers"]),
        (broken(answers=judgement()["answers"][:1]), ["'verdict' must be null if there is one answer"]),
        (broken(thumbs={"a3": "up"}), ["'thumbs' names 'a3'", "The answers are a1, a2"]),
        (broken(thumbs={"a1": "good"}), ["'thumbs' of a1 is 'good'", "'up' or 'down'"]),
        (broken(thumbs={"a1": 1}), ["'thumbs', 'a1' must be text, got 1"]),
        (broken(seconds=-1), ["'seconds' is -1"]),
        (broken(seconds="5"), ["'seconds' must be a number, got '5'"]),
        (broken(marks="yes"), ["'marks' must be true or false, got 'yes'"]),
        (broken(answers=[*judgement()["answers"], "a3"]), ["'answers', item 3 must be an object, got 'a3'"]),
        (broken(answers=judgement(ids="a1 a1")["answers"]), ["'answers' has the id 'a1' twice"]),
        (
            broken(answers=[{"id": "a:1", "model": "m", "text": "т"}] * 2),
            ["'answers', item 1, 'id' is 'a:1'", "must not contain a colon"],
        ),
        (
            broken(answers=[{"id": "tie", "model": "m", "text": "т"}] * 2),
            ["'answers', item 1, 'id' is 'tie'", "must not be 'tie'"],
        ),
        (
            broken(answers=[{"id": "a1", "model": "m", "text": None}] * 2),
            ["'answers', item 1, 'text' must be text, got None"],
        ),
        (broken(rated_at="14.03.2026"), ["'rated_at'", "ISO 8601", "'14.03.2026'"]),
        (broken(rated_at=1773500700), ["'rated_at' must be text, got 1773500700"]),
        (broken()[:-20], ["not valid JSON", "truncated"]),
        ("[1]", ["expected a JSON object"]),
        # contradicts the line before it
        (broken(rater="boris", prompt=prompt("Иной вопрос?")), ["the prompt differs", "line 2"]),
        (
            broken(rater="boris", answers=with_texts("Первый ответ.", "Иное.")["answers"]),
            ["for prompt_id 'p1'", "of answer 'a1' differs", "line 2"],
        ),
    ],
)
def test_names_the_line_and_key_of_a_damaged_judgement(tmp_path, line, words):
    path = tmp_path / "ratings.jsonl"
    # an empty line counts as a line, as in an editor
    path.write_text("\n" + json.dumps(judgement(), ensure_ascii=False) + "\n" + line + "\n", encoding="utf-8-sig")
    with pytest.raises(PreferansError) as caught:
        read_ratings([path])
    for word in ["ratings.jsonl, line 3", *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lines_of_two_files_may_not_contradict_each_other(tmp_path):
    write_jsonl(tmp_path / "march.jsonl", [judgement(message_tree_id="t1"), judgement("vera")])
    write_jsonl(tmp_path / "april.jsonl", [judgement("boris", message_tree_id="t2")])
    with pytest.raises(PreferansError, match=r"march\.jsonl, line 1: .*message_tree_id .*april\.jsonl, line 1"):
        read_ratings(export_files([tmp_path]))


def test_lists_and_reads_files_and_folders(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", [judgement("boris")])
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(judgement()) + "\n\n", encoding="utf-8")
    (tmp_path / "._a.jsonl").write_bytes(b"\xff")
    files = export_files([tmp_path / "b.jsonl", tmp_path])
    assert [file.name for file in files] == ["b.jsonl", "a.jsonl"]
    assert [row["rater"] for row in read_ratings(files)] == ["boris", "anna"]
    with pytest.raises(PreferansError, match="no such file or folder"):
        export_files([tmp_path / "absent.jsonl"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreferansError, match=r"has no \.jsonl, \.csv or \.parquet file"):
        export_files([tmp_path / "empty"])
    (tmp_path / "nothing.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(PreferansError, match="there is no judgement"):
        read_ratings([tmp_path / "nothing.jsonl"])


def test_the_example_in_the_documentation_is_valid(tmp_path):
    page = (ROOT / "docs" / "ratings.md").read_text(encoding="utf-8")
    example = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    write_jsonl(tmp_path / "example.jsonl", [example])
    pairs, _ = build_rating_pairs(read_ratings([tmp_path / "example.jsonl"]), VotingRule(by="totals"))
    assert pairs["id"].to_list() == ["tea-017:a2:a1"]
    assert all(words in page for words in OUTCOMES.values())


CELLS = {
    "rater": "7",
    "prompt_id": "p1",
    "prompt": json.dumps(prompt("Вопрос,\nс запятой?")),
    "answers": json.dumps([{"id": "a1", "model": "base", "text": "Ответ; «да»"}]),
    "scores": json.dumps(scores(a1=20)),
    "rated_at": "2026-03-14T18:05:00Z",
    "comment": "",
    "seconds": "12.5",
    "marks": "true",
}


@pytest.mark.parametrize("name", ["ratings.csv", "ratings.parquet"])
def test_tables_are_read_like_json_lines(tmp_path, name):
    table = pl.DataFrame([CELLS])
    if name.endswith(".csv"):
        table.write_csv(tmp_path / name, include_bom=True)
    else:
        table.with_columns(comment=pl.lit(None), seconds=12.5, marks=True).write_parquet(tmp_path / name)
    (row,) = read_ratings(export_files([tmp_path]))
    assert row == {
        "rater": "7",
        "prompt_id": "p1",
        "prompt": prompt("Вопрос,\nс запятой?"),
        "answers": [{"id": "a1", "model": "base", "text": "Ответ; «да»"}],
        "verdict": None,
        "scores": scores(a1=20),
        "rated_at": "2026-03-14T18:05:00Z",
        "seconds": 12.5,
        "marks": True,
    }


def test_a_damaged_table_is_named(tmp_path):
    pl.DataFrame([CELLS | {"scores": "{'a1': 5}"}]).write_csv(tmp_path / "ratings.csv")
    with pytest.raises(PreferansError, match=r"ratings\.csv, row 1: the cell 'scores' is not JSON"):
        read_ratings([tmp_path / "ratings.csv"])
    (tmp_path / "ratings.sqlite").write_bytes(b"SQLite format 3\x00")
    with pytest.raises(
        PreferansError, match=r"ratings\.sqlite: this is the database of scripts/rate\.py. Export it first"
    ):
        read_ratings([tmp_path / "ratings.sqlite"])
    (tmp_path / "ratings.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PreferansError, match=r"ratings\.parquet: this table cannot be read"):
        read_ratings([tmp_path / "ratings.parquet"])
