from hypothesis import given
from hypothesis import strategies as st

from preferans.people.items import queue, shown_answers

from ..support.rating import items_of, make_systems


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
