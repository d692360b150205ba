import copy
import json
import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.data.prompts import distinct_prompts
from preferans.errors import PreferansError
from preferans.models.adapters import load_adapter
from preferans.models.answers_file import read_finished
from preferans.models.drawing import drawing, random_numbers
from preferans.models.generate import generate_answers, stop_token_ids
from preferans.models.sampling_options import PROTOTYPE_SAMPLING

from ..support.rows import preference
from ..support.tiny import make_gemma3, make_gpt2, make_llama

WEIGHTS = {"model_name_or_path": "tiny"}
SAMPLING = PROTOTYPE_SAMPLING | {"max_new_tokens": 12}


@pytest.fixture
def model(tiny_llama):
    return AutoModelForCausalLM.from_pretrained(tiny_llama)


@pytest.fixture
def tokenizer(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


def prompts(number: int) -> list[dict]:
    return [
        {"id": str(i), "prompt": [{"role": "user", "content": "Вопрос " * (1 + i % 3) + str(i)}]}
        for i in range(number)
    ]


def test_the_default_is_the_prototypes_sampling():
    assert PROTOTYPE_SAMPLING == {"max_new_tokens": 150, "top_k": 60, "top_p": 0.9, "temperature": 0.7}


def test_answers_come_in_the_order_of_the_prompts_and_without_them(model, tokenizer, tmp_path):
    asked = prompts(5)
    answers = generate_answers(
        model, tokenizer, asked, tmp_path / "a.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
    )
    assert [row["id"] for row in answers] == ["0", "1", "2", "3", "4"]
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()] == answers
    for asked_row, row in zip(asked, answers, strict=True):
        assert row["prompt"] == asked_row["prompt"]
        assert "Вопрос Вопрос" not in row["answer"]
        assert "<|" not in row["answer"]
        assert row["sampling"] == SAMPLING | {"seed": 1}
        assert (row["finish_reason"] == "length") == (row["new_tokens"] == 12)


def test_an_answer_ends_where_the_model_ends_it(model, tokenizer, tmp_path):
    stop = tokenizer.eos_token_id
    model.lm_head.weight.data[stop] = model.model.embed_tokens.weight.data.mean(0) + 5  # far likelier than anything
    answers = generate_answers(
        model, tokenizer, prompts(8), tmp_path / "a.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=8, seed=1
    )
    stopped = [row for row in answers if row["finish_reason"] == "stop"]
    assert stopped
    assert all(row["new_tokens"] < 12 for row in stopped)


def test_a_killed_run_goes_on_and_ends_the_same(model, tokenizer, tmp_path):
    asked = prompts(6)
    whole = generate_answers(
        model, tokenizer, asked, tmp_path / "whole.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
    )
    # as a kill leaves it: one batch written in the order of length, and half a line
    first_batch = [row for row in whole if row["id"] in ("2", "5")]
    lines = [json.dumps(row, ensure_ascii=False) for row in first_batch]
    (tmp_path / "cut.jsonl").write_text("\n".join(lines) + '\n{"id": "3", "answ', encoding="utf-8")
    calls = []
    plain = model.generate
    model.generate = lambda **kwargs: calls.append(len(kwargs["input_ids"])) or plain(**kwargs)
    assert (
        generate_answers(
            model, tokenizer, asked, tmp_path / "cut.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
        )
        == whole
    )
    assert calls == [2, 2]
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_greedy_answers_do_not_depend_on_the_seed(model, tokenizer, tmp_path):
    greedy = SAMPLING | {"temperature": 0}
    a, b = (
        generate_answers(
            model, tokenizer, prompts(2), tmp_path / f"{seed}.jsonl", "tiny", WEIGHTS, greedy, batch_size=2, seed=seed
        )
        for seed in (1, 2)
    )
    assert [row["answer"] for row in a] == [row["answer"] for row in b]


def test_answers_of_two_settings_never_mix(model, tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    generate_answers(model, tokenizer, prompts(2), path, "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    before = path.read_bytes()
    with pytest.raises(PreferansError, match="answers with sampling .*Name another file"):
        generate_answers(
            model, tokenizer, prompts(2), path, "tiny", WEIGHTS, SAMPLING | {"top_k": 5}, batch_size=2, seed=1
        )
    with pytest.raises(PreferansError, match="answers with model 'tiny', and this command says 'other'"):
        generate_answers(model, tokenizer, prompts(2), path, "other", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    with pytest.raises(PreferansError, match="answers with weights"):
        generate_answers(
            model, tokenizer, prompts(2), path, "tiny", {"adapter_sha256": "0"}, SAMPLING, batch_size=2, seed=1
        )
    with pytest.raises(
        PreferansError, match=r"1 of the answers in it are to other prompts than this command asks \(such as 1\)"
    ):
        generate_answers(model, tokenizer, prompts(1), path, "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    assert path.read_bytes() == before


def test_a_broken_line_in_the_middle_is_no_kill(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": \n{"id": "1"}\n', encoding="utf-8")
    with pytest.raises(PreferansError, match=r"a\.jsonl, line 1"):
        read_finished(tmp_path / "a.jsonl", {})


def test_several_pairs_of_one_prompt_are_asked_once():
    rows = [preference(1), preference(1) | {"id": "other"}, preference(2)]
    assert [row["id"] for row in distinct_prompts(rows)] == ["c1:r1", "c2:r2"]


def test_every_end_of_turn_token_stops(model, tokenizer):
    model.generation_config.eos_token_id = [1, 4]
    assert stop_token_ids(model, tokenizer) == sorted({1, 4, tokenizer.eos_token_id})
    model.generation_config.eos_token_id = None
    assert stop_token_ids(model, tokenizer) == [tokenizer.eos_token_id]


def test_an_adapter_of_another_base_is_refused(model, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
    )
    get_peft_model(other, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(PreferansError, match="does not fit the base model"):
        load_adapter(model, tmp_path / "adapter")
    with pytest.raises(PreferansError, match="no adapter_config.json"):
        load_adapter(model, tmp_path)


@pytest.mark.parametrize("make", [make_llama, make_gemma3, make_gpt2])
def test_an_answer_does_not_depend_on_its_batch(make, tmp_path):
    base = make(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    tokenizer.padding_side = "left"
    asked = [{"id": f"q{i}", "prompt": "Почему небо голубое? " * (1 + i % 4) + str(i)} for i in range(9)]
    found = {}
    for name, rows, batch_size in (
        ("alone", asked, 1),
        ("threes", asked, 3),
        ("eights", asked, 8),
        ("shuffled", random.Random(0).sample(asked, len(asked)), 4),
        ("some", asked[3:7], 3),
    ):
        answers = generate_answers(
            model, tokenizer, rows, tmp_path / f"{name}.jsonl", "x", WEIGHTS, SAMPLING, batch_size, seed=3
        )
        found[name] = {row["id"]: row for row in answers}
    assert found["alone"] == found["threes"] == found["eights"] == found["shuffled"]
    assert found["some"].items() <= found["alone"].items()
    assert len({row["answer"] for row in found["alone"].values()}) > 4


def test_a_higher_limit_goes_on_with_the_same_answers(model, tokenizer, tmp_path):
    short, long = (
        generate_answers(
            model, tokenizer, prompts(4), tmp_path / f"{limit}.jsonl", "x", WEIGHTS,
            SAMPLING | {"max_new_tokens": limit}, batch_size=4, seed=1,
        )
        for limit in (8, 24)
    )  # fmt: skip
    for a, b in zip(short, long, strict=True):
        assert b["answer"].startswith(a["answer"].rstrip("�"))
    assert random_numbers(1, "a", 5).tolist() == random_numbers(1, "a", 50)[:5].tolist()
    assert random_numbers(1, "a", 5).tolist() != random_numbers(1, "b", 5).tolist()
    assert random_numbers(1, "a", 5).tolist() != random_numbers(2, "a", 5).tolist()


def test_tokens_come_as_often_as_their_probability_says():
    scores = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -9.0])
    rows = 20_000
    names = [str(i) for i in range(rows)]
    sampling = {"max_new_tokens": 1, "temperature": 0.7, "top_k": 4, "top_p": 0.9}
    steps = drawing(sampling, seed=0, names=names, prompt_length=1, device=torch.device("cpu"))
    kept = steps(torch.zeros(rows, 1, dtype=torch.long), scores.repeat(rows, 1))
    assert ((kept > -torch.inf).sum(dim=1) == 1).all()
    share = torch.bincount(kept.argmax(dim=1), minlength=6) / rows
    expected = torch.exp(scores / 0.7)
    expected[3:] = 0  # beyond the first four, and then beyond 0.9 of the probability
    expected /= expected.sum()
    assert share.tolist() == pytest.approx(expected.tolist(), abs=0.01)
    assert share[3:].sum() == 0
    assert not drawing(sampling | {"temperature": 0}, 0, names, 1, torch.device("cpu"))


def test_scores_that_are_no_numbers_are_said(model, tokenizer, tmp_path):
    model.model.norm.weight.data[:] = float("nan")
    with pytest.raises(PreferansError, match="scores of the next token are no numbers"):
        generate_answers(model, tokenizer, prompts(1), tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


def test_a_prompt_that_the_model_cannot_hold_is_named(tmp_path):
    base = make_gpt2(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    asked = [{"id": "short", "prompt": "Да?"}, {"id": "long", "prompt": "Да? " * 400}]
    with pytest.raises(PreferansError, match=r"The prompt 'long' has \d+ tokens, .* more than the 512"):
        generate_answers(model, tokenizer, asked, tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


def test_a_prompt_that_the_template_refuses_is_named(model, tokenizer, tmp_path):
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(PreferansError, match=r"The prompt '0' does not fit .* \(roles must alternate\)"):
        generate_answers(model, tokenizer, prompts(1), tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


def test_an_adapter_of_fewer_layers_is_refused(model, tmp_path):
    from transformers import LlamaForCausalLM

    config = copy.deepcopy(model.config)
    config.num_hidden_layers = 1
    config.layer_types = None
    part = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=2, target_modules=["q_proj"]))
    part.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PreferansError, match=r"0 of its 2 tensors have no place in it, 2 of its layers"):
        load_adapter(model, tmp_path / "adapter")
