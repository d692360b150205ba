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
