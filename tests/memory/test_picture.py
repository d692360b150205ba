"""The picture of a plan: every byte of it is drawn, it can be read without colours, and the same plan gives the same file."""

import re

import pytest

from preferans.errors import PreferansError
from preferans.memory.picture import GAPS, bars, draw
from preferans.memory.report import read_plan_command, sweep

CARD = [
    "--hardware_profile",
    "gtx1650",
    "--system",
    "Windows",
    "--fp16",
    "true",
    "--dtype",
    "float16",
    "--load_in_4bit",
    "true",
]


def planned(base, *more):
    asked = read_plan_command(["--model_name_or_path", str(base), *CARD, "--max_length", "64", *more])
    return asked, sweep(asked)


def words(path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text(encoding="utf-8"))


def test_a_single_bar_names_every_piece_in_mebibytes(tiny_llama, tmp_path):
    asked, plans = planned(tiny_llama)
    for name in ("first.svg", "second.svg"):
        draw(tmp_path / name, asked, plans)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    found = words(tmp_path / "first.svg")
    assert f"{tiny_llama} on GTX 1650 4 GB, Windows" in found
    for label in ("CUDA context, 300 MiB", "desktop, 500 MiB", "64 tokens"):
        assert label in found
    assert any(word.startswith("fits, ") and word.endswith(" MiB to spare") for word in found)
    assert "3,901 MiB" in [word.strip() for word in found]


def test_several_plans_have_one_bar_each(tiny_llama, tmp_path):
    asked, plans = planned(tiny_llama, "--lengths", "32,48")
    draw(tmp_path / "lengths.svg", asked, plans)
    found = words(tmp_path / "lengths.svg")
    assert [word for word in found if word.endswith(" tokens")] == ["32 tokens", "48 tokens"]
    draw(tmp_path / "lengths.PNG", asked, plans)
    assert (tmp_path / "lengths.PNG").read_bytes().startswith(b"\x89PNG")


def test_the_pieces_add_up_to_peak_and_reserves(tiny_llama):
    _, [(_, _, plan)] = planned(tiny_llama)
    for width in (plan.trace.peak, 10 * plan.trace.peak, 1 << 40):
        pieces = bars(plan, width)
        assert list(pieces)[-3:] == [GAPS, "CUDA context", "desktop"]
        tensors = sum(count for count, _, hatch in pieces.values() if not hatch)
        assert 0 <= plan.trace.peak - tensors < 1 << 19  # less than half a MiB is not drawn


def test_rejects_other_file_types_before_planning(call_script, tiny_llama):
    with pytest.raises(PreferansError, match=r"memory\.pdf: end the file's name in \.svg or \.png"):
        call_script("scripts/plan.py", "--model_name_or_path", tiny_llama, *CARD, "--plot", "memory.pdf")


def test_the_command_writes_the_plot(call_script, tiny_llama, tmp_path, capsys):
    picture = tmp_path / "pictures" / "plan.svg"
    call_script("scripts/plan.py", "--model_name_or_path", tiny_llama, *CARD, "--max_length", "64", "--plot", picture)
    assert "Verdict: fits" in capsys.readouterr().out
    assert "<svg" in picture.read_text(encoding="utf-8")
