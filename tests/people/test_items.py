from hypothesis import given
from hypothesis import strategies as st

from preferans.people.items import queue, shown_answers

from ..support.rating import items_of, make_systems


def test_compares_every_two_different_answers():
    systems = make_systems(3, ("a", "b", "c"))
    systems[0].rows["q1"]["answer"] = systems[1].rows["q1"]["answer"] + "\n"
    items = items_of(systems, references={"q2": ["Так.", "Иначе."]})
    assert [item.prompt_id for item in items] == ["q0"] * 3 + ["q1"] * 2 + ["q2"] * 3
    assert all(len({answer.model for answer in item.answers}) == 2 for item in items)
    assert [item.reference for item in items] == [None] * 5 + ["Так."] * 3
    assert len({item.id for item in items}) == 8
    assert len(items_of(systems, "score")) == 9
    assert not {item.id for item in items} & {item.id for item in items_of(systems, "score")}


def test_ids_do_not_reveal_the_system_and_stay_the_same():
    item = items_of(make_systems(1))[0]
    assert all(answer.model not in answer.id and ":" not in answer.id for answer in item.answers)
    assert items_of(make_systems(1)[::-1]) == items_of(make_systems(1))


def test_turns_of_one_conversation_stay_together():
    systems = make_systems(2)
    for system in systems:
        question = system.rows["q0"]["prompt"]
        system.rows["q1"]["prompt"] = [
            *question,
            {"role": "assistant", "content": "Да."},
            {"role": "user", "content": "А?"},
        ]
    first, second = items_of(systems)
    assert first.message_tree_id == second.message_tree_id
    systems[0].rows["q1"]["message_tree_id"] = "tree"
    assert items_of(systems)[1].message_tree_id == "tree"


@given(st.integers(), st.floats(0, 1), st.integers(2, 5))
def test_raters_share_the_overlap_and_nothing_else(seed, overlap, raters):
    items = items_of(make_systems(30))
    rated_by: dict[str, set[str]] = {}
    for rater in map(str, range(raters)):
        own = queue(items, rater, rated_by, seed, overlap)
        for item in own:
            rated_by.setdefault(item.id, set()).add(rater)
        assert queue(items, rater, rated_by, seed, overlap) == own  # what is rated stays in its place
    assert set(rated_by) == {item.id for item in items}
    assert {len(names) for names in rated_by.values()} <= {1, raters}
    if overlap in (0.0, 1.0):
        assert {len(names) for names in rated_by.values()} == {raters if overlap else 1}


def test_the_overlap_is_near_its_share():
    items = items_of(make_systems(400))
    shared = queue(items, "b", {item.id: {"a"} for item in items}, 1, 0.25)
    assert 70 < len(shared) < 130


def test_orders_and_sides_differ_between_raters_and_repeat_with_the_seed():
    items = items_of(make_systems(40))
    orders = {rater: [item.id for item in queue(items, rater, {}, 1, 1.0)] for rater in ("Анна", "Борис")}
    assert sorted(orders["Анна"]) == sorted(orders["Борис"])
    assert orders["Анна"] != orders["Борис"]
    assert orders["Анна"] == [item.id for item in queue(items[::-1], "Анна", {}, 1, 1.0)]
    sides = [shown_answers(item, "Анна", 1)[0].model for item in items]
    assert 10 < sides.count("before") < 30
    assert sides == [shown_answers(item, "Анна", 1)[0].model for item in items]
    assert sides != [shown_answers(item, "Борис", 1)[0].model for item in items]
    assert sides != [shown_answers(item, "Анна", 2)[0].model for item in items]
