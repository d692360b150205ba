import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from preferans.training.packed_pairs import PROVEN, pack_pairs, packed_row, why_not_packed

FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
SHAPES = {
    "gemma3_text": SHAPE | {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gpt2": {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": SHAPE,
    "qwen2": SHAPE,
    "qwen3": SHAPE,
}  # fmt: skip


def models(architecture: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a random model twice: one that packs pairs, and one that does not."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **SHAPES[architecture]), attn_implementation="sdpa"
    )
    packed = copy.deepcopy(plain)
    for model in (plain, packed):
        add_fused_lm_head(model, outputs=FIELDS)
    pack_pairs(packed)
    return plain, packed


def batch_of(lengths: list[tuple[int, int, int]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a padded batch of random pairs, as TRL's collator makes it, from the lengths of prompts, chosen and rejected answers."""
    draw = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(1, 50, (prompt,), generator=draw) for prompt, _, _ in lengths]
    rows = [
        (prompt, torch.randint(1, 50, (answers[side],), generator=draw))
        for side in (1, 2)
        for prompt, answers in zip(prompts, lengths, strict=True)
    ]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {name: torch.zeros(len(rows), width, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    batch["labels"] = torch.full((len(rows), width), -100)
    for number, (prompt, answer) in enumerate(rows):
        whole = torch.cat([prompt, answer])
        batch["input_ids"][number, : len(whole)] = whole
        batch["attention_mask"][number, : len(whole)] = 1
        batch["labels"][number, len(prompt) : len(whole)] = answer
    return batch


def run(model: torch.nn.Module, batch: dict) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the outputs of a batch, and the gradients of a DPO loss."""
    model.zero_grad()
    output = model(**batch, use_cache=False, fused_lm_head=True)
    chosen, rejected = output.log_probs.sum(dim=1).chunk(2)
    (-torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean() + output.entropy.mean()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: output[name].detach() for name in (*FIELDS, "label_mask")}, gradients


def assert_equal(architecture: str, batch: dict) -> None:
    plain, packed = models(architecture)
    expected, expected_gradients = run(plain, batch)
    outputs, gradients = run(packed, batch)
    for name, values in expected.items():
        torch.testing.assert_close(outputs[name].float(), values.float(), atol=1e-5, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    # A gradient that is 0, such as the query's if there is one key, consists of rounding errors in both layouts.
    rounding = 1e-7 * sum(gradient.norm() for gradient in expected_gradients.values())
    for name, gradient in expected_gradients.items():
        allowed = 1e-5 * (gradient.norm() + 1e-6) if gradient.norm() > rounding else rounding
        assert (gradients[name] - gradient).norm() <= allowed, name


@pytest.mark.parametrize("architecture", PROVEN)
@pytest.mark.parametrize(
    "lengths", [[(7, 12, 5)], [(7, 12, 5), (20, 3, 17), (1, 4, 4)], [(30, 1, 2), (2, 30, 1)]], ids=str
)
def test_has_the_values_and_gradients_of_the_padded_batch(architecture, lengths):
    assert_equal(architecture, batch_of(lengths))


LENGTH = st.integers(1, 25)


@settings(max_examples=25)
@given(
    st.sampled_from(PROVEN), st.lists(st.tuples(LENGTH, LENGTH, LENGTH), min_size=1, max_size=4), st.integers(0, 99)
)
def test_is_exact_for_any_lengths(architecture, lengths, seed):
    assert_equal(architecture, batch_of(lengths, seed))


@pytest.mark.parametrize("architecture", PROVEN)
def test_prompts_that_were_cut_differently_are_not_shared(architecture):
    batch = batch_of([(9, 6, 6), (5, 8, 3)])
    batch["labels"][0, 7:9] = batch["input_ids"][0, 7:9]  # the chosen answer starts earlier
    batch["input_ids"][3, 0] = 49 if batch["input_ids"][1, 0] != 49 else 48
    batch["labels"][2, :9] = batch["input_ids"][2, :9]  # an answer without any prompt
    assert_equal(architecture, batch)


def test_the_row_has_each_prompt_once_and_no_padding():
    batch = batch_of([(7, 12, 5), (20, 3, 17)])
    row = packed_row(**batch)
    assert row.input_ids.shape == (1, 7 - 1 + 12 + 5 + 20 - 1 + 3 + 17)
    assert (row.labels != -100).sum() == 12 + 5 + 3 + 17
    assert row.sizes == [7 - 1 + 12 + 5, 20 - 1 + 3 + 17]
    for mask, parts in zip(row.masks(), row.parts.split(row.sizes), strict=True):
        chosen, rejected = parts == 1, parts == 2
        assert not mask[0, 0][chosen][:, rejected].any() and not mask[0, 0][rejected][:, chosen].any()


def test_single_sequences_are_not_packed():
    plain, packed = models("llama")
    batch = {name: values[:1] for name, values in batch_of([(7, 12, 5)]).items()}
    for name, values in run_one(plain, batch).items():
        torch.testing.assert_close(run_one(packed, batch)[name], values)


def run_one(model: torch.nn.Module, batch: dict) -> dict[str, torch.Tensor]:
    output = model(**batch, use_cache=False, fused_lm_head=True)
    return {name: output[name] for name in FIELDS}


def test_names_why_a_model_is_not_packed():
    config = AutoConfig.for_model("llama", **SHAPE)
    assert why_not_packed(config, "sdpa") is None
    assert "this run has eager" in why_not_packed(config, "eager")
    assert "architecture opt" in why_not_packed(AutoConfig.for_model("opt"), "sdpa")
