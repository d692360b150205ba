import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferans.evaluation.held_out import normalised_accuracy, pair_scores
from preferans.evaluation.report.pictures import running_mean
from preferans.evaluation.statistics import bootstrap
from preferans.text.language import cyrillic_share, foreign_words, is_russian, loops, words


def test_cyrillic_share_counts_letters_only():
    assert cyrillic_share("Дом, 2006!") == 1.0
    assert cyrillic_share("Дом big") == 0.5
    assert cyrillic_share("12:30 …") is None
    assert cyrillic_share("їґ") == 0.0  # Cyrillic, but not Russian


def test_is_russian():
    assert is_russian("Поставьте Python 3.11 и перезапустите терминал.")
    assert not is_russian("Please установи это on your computer.")
    assert not is_russian("")


def test_words_of_the_prompt_are_not_foreign():
    assert foreign_words("Откройте Python и сделайте step за step.", "Как начать в Python?") == ["step", "step"]
    assert foreign_words("приготoвление", "") == ["приготoвление"]  # with a Latin o
    assert foreign_words("Кое-что о рисе: 5 минут.", "") == []


def test_links_markup_code_and_acronyms_are_no_foreign_words():
    text = "Смотрите https://example.com/a-b, <b>жирный</b>, `pip install`, ответ в JSON:\n```\nprint(x)\n```\nи USB."
    assert foreign_words(text, "") == []
    assert foreign_words("Это very USB.", "") == ["very"]
    assert foreign_words("2 < 3 and 5 > 4", "") == ["and"]


def test_loops():
    phrase = "вода закипает при ста градусах "
    assert loops(phrase * 3)
    assert not loops(phrase * 2)
    assert loops("Это он.\nНет.\nЭто он.\nДа.\nЭто он.")
    assert not loops("1.\n2.\n3.\n")
    assert not loops("")


@given(st.text())
def test_any_text_can_be_measured(text):
    words(text), loops(text), foreign_words(text, text), is_russian(text)
    assert foreign_words(text, text) == []


def test_bootstrap_of_known_values():
    score = bootstrap([0.0, 1.0] * 50)
    assert score.value == 0.5
    assert score.cases == 100
    # the binomial's own interval is 0.5 ± 0.098
    assert score.low == pytest.approx(0.402, abs=0.02)
    assert score.high == pytest.approx(0.598, abs=0.02)
    assert bootstrap([3.0, 3.0]) == type(score)(3.0, 3.0, 3.0, 2)
    assert math.isnan(bootstrap([]).value)


def test_cases_of_one_group_count_as_one():
    values = [0.0, 1.0] * 20
    alone, doubled = bootstrap(values), bootstrap(values * 2, groups=[str(i) for i in range(40)] * 2)
    assert doubled.cases == 80
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low, abs=0.03)
    assert bootstrap([1.0, 1.0, 0.0], groups=["a", "a", "b"]).value == pytest.approx(2 / 3)


def pair(chosen: float, rejected: float, chosen_tokens: int = 10, rejected_tokens: int = 10) -> dict:
    return {
        "chosen_logp": chosen,
        "rejected_logp": rejected,
        "chosen_tokens": chosen_tokens,
        "rejected_tokens": rejected_tokens,
    }


def test_normalised_accuracy_divides_by_length_and_halves_ties():
    pairs = [pair(-10, -20), pair(-20, -10), pair(-10, -10), pair(-20, -15, 20, 10)]
    assert normalised_accuracy(pairs) == [1.0, 0.0, 0.5, 1.0]


def test_pair_scores_on_two_pairs():
    before = [pair(-10, -10), pair(-20, -10)]
    after = [pair(-8, -14), pair(-20, -10)]
    scores = {name: score.value for name, score in pair_scores(before, after, beta=0.5).items()}
    assert scores == {
        "test_normalised_accuracy_before": 0.25,
        "test_normalised_accuracy_after": 0.5,
        "test_normalised_accuracy_gain": 0.25,
        "test_reward_accuracy": 0.75,
        "test_reward_margin": 1.5,
        "test_chosen_reward": 0.5,
        "test_rejected_reward": -1.0,
    }


def test_rewards_per_token():
    scores = pair_scores([pair(-10, -10, 5, 2)], [pair(-8, -14, 5, 2)], beta=3, per_token=True)
    assert scores["test_chosen_reward"].value == pytest.approx(3 * 2 / 5)
    assert scores["test_reward_margin"].value == pytest.approx(3 * 2 / 5 + 3 * 4 / 2)


def test_the_running_mean_looks_back():
    assert running_mean([1.0, 3.0]) == [1.0, 3.0]
    assert running_mean([0.0] * 6 + [6.0] * 6) == [0.0] * 6 + [3.0] + [6.0] * 5
