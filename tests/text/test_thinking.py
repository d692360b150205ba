import pytest

from preferans.text.thinking import without_thinking


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Небо голубое.", "Небо голубое."),
        ("<think>\nХм, небо.\n</think>\n\nНебо голубое.", "Небо голубое."),
        ("<think>\n\n</think>\n\nДа.", "Да."),
        ("Хм, небо.\n</think>\n\nНебо голубое.", "Небо голубое."),
        ("<think>Раз.</think>Да, <think>два.</think>точно.", "Да, точно."),
        ("<think>Хм <think>ещё</think> хм</think>Да.", "Да."),
        ("<think>\nХм, не", ""),
        ("Да. <think>Хм, не", "Да."),
    ],
)
def test_removes_closed_cut_and_unopened_blocks(text, rest):
    assert without_thinking(text) == rest
