"""Sampling of answers: order, batches, resuming, limits and errors."""

import json
import random

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.errors import PreferansError
from preferans.models.sampler import Sampler, stop_token_ids
from preferans.models.sampling_options import PROTOTYPE_SAMPLING

from ..support.tiny import make_gemma3, make_gpt2, make_llama, make_parrot

WEIGHTS = {"model_name_or_path": "tiny"}
SAMPLING = PROTOTYPE_SAMPLING | {"max_new_tokens": 12}


def generate_answers(model, tokenizer, prompts, output, label, weights, sampling, batch_size, seed) -> list[dict]:
    return Sampler(model, tokenizer, label, weights, sampling, batch_size, seed).answer(prompts, output)


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


def test_answers_are_in_the_order_of_the_prompts_without_the_prompt(model, tokenizer, tmp_path):
    rows = prompts(5)
    answers = generate_answers(
        model, tokenizer, rows, tmp_path / "a.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
    )
    assert [row["id"] for row in answers] == ["0", "1", "2", "3", "4"]
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()] == answers
    for prompt_row, row in zip(rows, answers, strict=True):
        assert row["prompt"] == prompt_row["prompt"]
        assert "Вопрос Вопрос" not in row["answer"]
        assert "<|" not in row["answer"]
        assert row["sampling"] == SAMPLING | {"seed": 1}
        assert (row["finish_reason"] == "length") == (row["new_tokens"] == 12)


def test_an_answer_ends_at_the_end_token(model, tokenizer, tmp_path):
    stop = tokenizer.eos_token_id
    model.lm_head.weight.data[stop] = model.model.embed_tokens.weight.data.mean(0) + 5  # much more likely than others
    answers = generate_answers(
        model, tokenizer, prompts(8), tmp_path / "a.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=8, seed=1
    )
    stopped = [row for row in answers if row["finish_reason"] == "stop"]
    assert stopped
    assert all(row["new_tokens"] < 12 for row in stopped)


def test_a_killed_command_resumes_with_the_same_answers(model, tokenizer, tmp_path):
    rows = prompts(6)
    complete = generate_answers(
        model, tokenizer, rows, tmp_path / "complete.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
    )
    # as left by a kill: one batch in the order of length, and a truncated line
    first_batch = [row for row in complete if row["id"] in ("2", "5")]
    lines = [json.dumps(row, ensure_ascii=False) for row in first_batch]
    (tmp_path / "cut.jsonl").write_text("\n".join(lines) + '\n{"id": "3", "answ', encoding="utf-8")
    calls = []
    plain = model.generate
    model.generate = lambda **kwargs: calls.append(len(kwargs["input_ids"])) or plain(**kwargs)
    assert (
        generate_answers(
            model, tokenizer, rows, tmp_path / "cut.jsonl", "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1
        )
        == complete
    )
    assert calls == [2, 2]
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "complete.jsonl").read_bytes()


def test_greedy_answers_do_not_depend_on_the_seed(model, tokenizer, tmp_path):
    greedy = SAMPLING | {"temperature": 0}
    a, b = (
        generate_answers(
            model, tokenizer, prompts(2), tmp_path / f"{seed}.jsonl", "tiny", WEIGHTS, greedy, batch_size=2, seed=seed
        )
        for seed in (1, 2)
    )
    assert [row["answer"] for row in a] == [row["answer"] for row in b]


def test_answers_with_two_settings_never_mix(model, tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    generate_answers(model, tokenizer, prompts(2), path, "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    before = path.read_bytes()
    with pytest.raises(PreferansError, match="line 1: this answer has sampling .*Name another file"):
        generate_answers(
            model, tokenizer, prompts(2), path, "tiny", WEIGHTS, SAMPLING | {"top_k": 5}, batch_size=2, seed=1
        )
    with pytest.raises(PreferansError, match="this answer has model 'tiny', but the command has 'other'"):
        generate_answers(model, tokenizer, prompts(2), path, "other", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    with pytest.raises(PreferansError, match="this answer has weights"):
        generate_answers(
            model, tokenizer, prompts(2), path, "tiny", {"adapter_sha256": "0"}, SAMPLING, batch_size=2, seed=1
        )
    with pytest.raises(
        PreferansError, match=r"line 2: this answer is to a prompt \(1\) that the command does not have"
    ):
        generate_answers(model, tokenizer, prompts(1), path, "tiny", WEIGHTS, SAMPLING, batch_size=2, seed=1)
    assert path.read_bytes() == before


def test_every_end_token_stops(model, tokenizer):
    model.generation_config.eos_token_id = [1, 4]
    assert stop_token_ids(model, tokenizer) == sorted({1, 4, tokenizer.eos_token_id})
    model.generation_config.eos_token_id = None
    assert stop_token_ids(model, tokenizer) == [tokenizer.eos_token_id]


@pytest.mark.parametrize("make", [make_llama, make_gemma3, make_gpt2])
def test_an_answer_does_not_depend_on_its_batch(make, tmp_path):
    base = make(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    tokenizer.padding_side = "left"
    rows = [{"id": f"q{i}", "prompt": "Почему небо голубое? " * (1 + i % 4) + str(i)} for i in range(9)]
    answers_of = {}
    for name, some, batch_size in (
        ("alone", rows, 1),
        ("threes", rows, 3),
        ("eights", rows, 8),
        ("shuffled", random.Random(0).sample(rows, len(rows)), 4),
        ("some", rows[3:7], 3),
    ):
        answers = generate_answers(
            model, tokenizer, some, tmp_path / f"{name}.jsonl", "x", WEIGHTS, SAMPLING, batch_size, seed=3
        )
        answers_of[name] = {row["id"]: row for row in answers}
    assert answers_of["alone"] == answers_of["threes"] == answers_of["eights"] == answers_of["shuffled"]
    assert answers_of["some"].items() <= answers_of["alone"].items()
    assert len({row["answer"] for row in answers_of["alone"].values()}) > 4


def test_a_higher_limit_continues_the_same_answers(model, tokenizer, tmp_path):
    short, long = (
        generate_answers(
            model, tokenizer, prompts(4), tmp_path / f"{limit}.jsonl", "x", WEIGHTS,
            SAMPLING | {"max_new_tokens": limit}, batch_size=4, seed=1,
        )
        for limit in (8, 24)
    )  # fmt: skip
    for a, b in zip(short, long, strict=True):
        assert b["answer"].startswith(a["answer"].rstrip("�"))


def test_nan_logits_are_an_error(model, tokenizer, tmp_path):
    model.model.norm.weight.data[:] = float("nan")
    with pytest.raises(PreferansError, match="logits of the next token are NaN or infinite"):
        generate_answers(model, tokenizer, prompts(1), tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


def test_names_a_prompt_that_is_too_long(tmp_path):
    base = make_gpt2(tmp_path / "base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    rows = [{"id": "short", "prompt": "Да?"}, {"id": "long", "prompt": "Да? " * 400}]
    with pytest.raises(PreferansError, match=r"The prompt 'long' has \d+ tokens, .* more than the 512 positions"):
        generate_answers(model, tokenizer, rows, tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


def test_names_a_prompt_that_does_not_fit_the_template(model, tokenizer, tmp_path):
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(
        PreferansError, match=r"The prompt '0' does not fit .* \(TemplateError: roles must alternate\)"
    ):
        generate_answers(model, tokenizer, prompts(1), tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)


@pytest.mark.parametrize(
    ("reply", "opened", "answer"),
    [
        ("<think>Хм.</think>Да.", "", "Да."),
        ("Хм.</think>Да.", "<think>", "Да."),
        ("Хм, не", "<think>", ""),
    ],
)
def test_thinking_is_removed_although_the_template_opened_it(reply, opened, answer, tmp_path):
    base = make_parrot(tmp_path / "parrot", reply)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    text = tokenizer.apply_chat_template(prompts(1)[0]["prompt"], tokenize=False, add_generation_prompt=True)
    row = {"id": "0", "prompt": text.removesuffix("\n\n") + opened + "\n\n"}  # the parrot answers after two line feeds
    (row,) = generate_answers(model, tokenizer, [row], tmp_path / "a.jsonl", "x", WEIGHTS, SAMPLING, 1, seed=1)
    assert (row["answer"], row["thinking"]) == (answer, True)
