import pytest

from preferans.data.ratings import CRITERIA
from preferans.people.rubric import read_rubric


@pytest.mark.parametrize("language", ["ru", "en"])
def test_every_criterion_has_a_question_and_three_levels(language):
    rubric = read_rubric(language)
    assert tuple(rubric) == CRITERIA
    for question, levels in rubric.values():
        assert question.endswith("?") and not question.endswith(".?")
        assert [score for score, _ in levels] == ["5", "3", "1"]
        assert all(len(meaning) > 20 for _, meaning in levels)
