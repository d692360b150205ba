"""Log-probabilities of pairs equal those of the trainer."""

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from preferans.data.pairs import read_pairs
from preferans.models.pair_log_probs import answer_log_probs, cut_tokens
from preferans.models.sampler import Sampler

from ..support.rows import preference
from ..support.tiny import CHAT_TEMPLATE, make_gemma3, make_gpt2, make_llama, make_qwen2


def make_sampler(folder, batch_size: int = 3, adapter: str | None = None, model=None) -> Sampler:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = model or AutoModelForCausalLM.from_pretrained(folder)
    return Sampler(model, tokenizer, "tiny", {}, {}, batch_size, 0, adapter)


def pairs_of(count: int) -> list:
    rows = [preference(number) for number in range(count)]
    for number, row in enumerate(rows):
        row["chosen"][0]["content"] *= 1 + number % 3
    return read_pairs({"test": rows})[0]


def log_probs(sampler: Sampler, tokens: list) -> dict[str, dict]:
    found: dict[str, dict] = {}
    answer_log_probs(sampler, tokens, found.update)
    return found


def test_they_are_those_of_the_trainer(make_trainer):
    trainer = make_trainer()
    from ..support.trainers import randomize

    randomize(trainer)
    pairs = pairs_of(7)
    from datasets import Dataset

    rows = Dataset.from_list([pair.row for pair in pairs])
    tokenizer = trainer.processing_class
    for use_reference, adapter in ((False, "default"), (True, None)):
        expected = trainer.completion_log_probs(rows, use_reference, "")
        sampler = Sampler(trainer.model, tokenizer, "tiny", {}, {}, 3, 0, adapter)
        tokens = [one for _, one in cut_tokens(pairs, tokenizer, trainer.args.max_length)[0]]
        found = log_probs(sampler, tokens)
        for pair, values in zip(pairs, expected, strict=True):
            assert found[pair.label] == pytest.approx(values, abs=2e-4)


@pytest.mark.parametrize("make", [make_llama, make_gpt2, make_gemma3, make_qwen2])
def test_they_do_not_depend_on_the_batch(make, tmp_path):
    sampler = make_sampler(make(tmp_path / "model"), batch_size=1)
    tokens = [one for _, one in cut_tokens(pairs_of(5), sampler.tokenizer, None)[0]]
    alone = log_probs(sampler, tokens)
    sampler.batch_size = 5
    together = log_probs(sampler, tokens)
    for label, values in alone.items():
        assert together[label] == pytest.approx(values, abs=1e-4)


def test_long_pairs_are_cut_or_left_out(tiny_llama):
    sampler = make_sampler(tiny_llama)
    pairs = pairs_of(6)
    prompts = [len(one.prompt) for _, one in cut_tokens(pairs, sampler.tokenizer, None)[0]]
    limit = max(prompts) + 4
    kept, too_long = cut_tokens(pairs, sampler.tokenizer, limit)
    assert len(kept) == 6 and too_long == 0
    assert all(one.is_cut and len(one.prompt) + len(one.chosen) <= limit for _, one in kept)
    assert cut_tokens(pairs, sampler.tokenizer, min(prompts)) == ([], 6)
