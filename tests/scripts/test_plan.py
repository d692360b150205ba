"""scripts/plan.py."""

import json

import pytest

from preferans.errors import PreferansError
from preferans.hardware.device import MIB


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1660"], "Did you mean 'gtx1650'"),
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--lengths", "512;1024"], "with commas"),
        (["recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--max_lenght", "512"], "max_length"),
        (["recipes/rugpt3large_ru.yaml", "--hardware_profile", "gtx1650", "--max_length", "4096"], "beyond 2048"),
        (["recipes/llama1b_ru.yaml"], "this machine has none. Choose a card with --hardware_profile"),
        (
            ["recipes/gemma270m_ru.yaml", "--hardware_profile", "gtx1650", "--fp16", "true"],
            "gemma3_text exceed 65,504",
        ),
        (["recipes/nope.yaml", "--hardware_profile", "gtx1650"], "no such recipe"),
    ],
)
def test_typing_mistakes_give_one_message(call_script, arguments, words):
    with pytest.raises(PreferansError, match=words):
        call_script("scripts/plan.py", *arguments)


def test_the_command_prints_json_table_and_text(call_script, capsys):
    arguments = ("recipes/llama1b_ru.yaml", "--hardware_profile", "gtx1650", "--system", "Windows")
    assert call_script("scripts/plan.py", *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "fits" and found["changes"] == []
    assert call_script("scripts/plan.py", *arguments, "--lengths", "256,4096,9000") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split()[0] == "256" and lines[-3].endswith(" fits")
    assert lines[-2].split()[0] == "4,096" and lines[-2].endswith(" fits  (dpo.py then chooses separate passes)")
    assert lines[-1].split()[0] == "9,000" and "does not fit" in lines[-1]
    assert call_script("scripts/plan.py", *arguments) == 0
    printed = capsys.readouterr().out
    assert "weights in 4 bits" in printed and "Verdict: fits" in printed
    assert f"{found['peak_bytes']['total'] / MIB:,.0f} MiB" in printed
