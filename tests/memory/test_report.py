"""Plans as text, table and JSON."""

import json

import pytest

from preferans.errors import PreferansError
from preferans.memory.report import as_table, as_text, read_plan_command, spare, sweep, verdict_in_words


def request(model, *options):
    return read_plan_command(["--model_name_or_path", str(model), "--hardware_profile", "gtx1650", "--fp16", *options])


def test_the_text_adds_up(tiny_llama):
    wanted = request(tiny_llama, "true", "--max_length", "64")
    [(length, variant, plan)] = sweep(wanted)
    assert (length, variant, plan.verdict) == (None, "", "fits")
    text = as_text(wanted, plan)
    assert "longest pair of 64 tokens, 8 in a batch" in text and f"Verdict: {verdict_in_words(plan)}." in text
    assert spare(plan) == plan.usable - plan.trace.peak - plan.reserve["gaps between blocks"] > 0


def test_a_sweep_has_variants_for_each_length(tiny_llama):
    wanted = request(tiny_llama, "true", "--sweep", "--lengths", "64")
    plans = sweep(wanted)
    assert [length for length, variant, _ in plans if not variant] == [64]
    assert {variant for _, variant, _ in plans} == {"", "separate passes", "separate passes, half the rank"}
    assert len(as_table(wanted, plans).splitlines()) == 5 + len(plans)
    json.dumps([plan.as_json() for _, _, plan in plans])


def test_rejects_a_rank_of_zero(tiny_llama):
    with pytest.raises(PreferansError, match="lora_r is 0, but must be above 0"):
        read_plan_command(["--model_name_or_path", str(tiny_llama), "--lora_r", "0"])


def test_rejects_a_system_without_a_profile(tiny_llama):
    with pytest.raises(PreferansError, match="--system needs --hardware_profile"):
        read_plan_command(["--model_name_or_path", str(tiny_llama), "--system", "Windows"])
