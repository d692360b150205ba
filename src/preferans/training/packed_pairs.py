"""
Preference pairs as one row of tokens: each prompt is computed once, and nothing is padded.

TRL runs a batch of pairs as two padded rows a pair, each with the prompt. Here a batch is a single row, [P C R] [P C R] …, in which an answer
sees its prompt and itself. The last token of a prompt predicts the first token of both answers, so each answer has its own copy of it; the
last token of an answer predicts nothing and is left out. Positions continue from the prompt in both answers. Attention runs pair by pair, and
a mask of each pair is enough, so plain scaled dot-product attention computes it on every device. Log-probabilities and gradients are
those of the padded batch.
"""

import functools
import types
from typing import NamedTuple

import torch
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl.trainer.utils import FusedCausalLMOutput

PAIR_LAYOUTS = ("padded", "packed", "separate")
# Architectures that tests compare with the padded batch.
PROVEN = ("gemma3_text", "gpt2", "llama", "qwen2", "qwen3")
_IGNORED = -100


class PackedRow(NamedTuple):
    """
    Pairs as one row of `T` tokens.

    Attributes:
        input_ids (`torch.Tensor` of shape `(1, T)`)
        position_ids (`torch.Tensor` of shape `(1, T)`): Places in the padded rows.
        labels (`torch.Tensor` of shape `(1, T)`): The token that each position predicts, or -100.
        parts (`torch.Tensor` of shape `(T,)`): 0 for a prompt that both answers share, otherwise one number for each answer.
        sizes (`list[int]`): Tokens of each pair.
        places (`torch.Tensor`): Place of each label in the padded rows of labels, flattened.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    parts: torch.Tensor
    sizes: list[int]
    places: torch.Tensor

    def masks(self, window: int | None = None) -> list[torch.Tensor]:
        """
        Return which positions of its pair each position sees.

        Args:
            window (`int`, *optional*): Length of a sliding window, in positions.

        Returns:
            `list[torch.Tensor]`: for each pair, `bool` of the shape `(1, 1, size, size)`.
        """
        masks = []
        for positions, parts in zip(self.position_ids[0].split(self.sizes), self.parts.split(self.sizes), strict=True):
            distance = positions[:, None] - positions
            seen = ((parts == 0) | (parts[:, None] == parts)) & (distance >= 0)
            masks.append((seen if window is None else seen & (distance < window))[None, None])
        return masks


def packed_row(input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> PackedRow:
    """
    Pack a padded batch of pairs.

    If the prompts of a pair differ, because the cut to `max_length` removed different parts of them, each answer keeps its own.

    Args:
        input_ids (`torch.Tensor` of shape `(2 * pairs, width)`): Chosen answers after their prompts, then the rejected ones; padded on the right.
        attention_mask (`torch.Tensor`, same shape): 1 for tokens.
        labels (`torch.Tensor`, same shape): Tokens of the answers; -100 elsewhere.
    """
    number, width = input_ids.shape
    starts = (labels != _IGNORED).int().argmax(dim=1).tolist()
    ends = attention_mask.sum(dim=1).tolist()
    ids, positions, targets, parts, sizes, places = [], [], [], [], [], []

    def add(row: int, first: int, last: int, part: int) -> None:
        """Add the tokens from `first` to before `last`, with the labels among those after them."""
        ids.append(input_ids[row, first:last])
        positions.append(torch.arange(first, last))
        targets.append(labels[row, first + 1 : last + 1])
        parts.append(torch.full((last - first,), part))

    for pair in range(number // 2):
        rows = (pair, pair + number // 2)
        start = starts[rows[0]]
        shared = 0
        if start and start == starts[rows[1]] and torch.equal(*(input_ids[row, :start] for row in rows)):
            shared = start - 1
            add(rows[0], 0, shared, 0)
            targets[-1] = torch.full_like(targets[-1], _IGNORED)
        for part, row in enumerate(rows, start=1):
            add(row, shared, ends[row] - 1, part)
            places.append(row * (width - 1) + torch.arange(max(starts[row], 1) - 1, ends[row] - 1))
        sizes.append(sum(ends[row] - 1 for row in rows) - shared)
    device = input_ids.device
    join = lambda tensors: torch.cat(tensors).to(device)  # noqa: E731
    return PackedRow(join(ids)[None], join(positions)[None], join(targets)[None], join(parts), sizes, join(places))


def why_not_packed(config: PretrainedConfig, attention: str) -> str | None:
    """
    Return why the pairs of a model cannot be packed, or `None`.

    Args:
        config ([`~transformers.PretrainedConfig`]): Configuration of the model.
        attention (`str`): Its `attn_implementation`.
    """
    if config.model_type not in PROVEN:
        return f"packing is not proven for the architecture {config.model_type}"
    if attention != "sdpa":
        return f"packing needs attn_implementation: sdpa, and this run has {attention}"
    return None


def pack_pairs(model: PreTrainedModel) -> None:
    """
    Make a causal language model with TRL's fused LM head run pairs packed.

    Calls with `labels` and `fused_lm_head=True` and an even number of rows are packed, and their outputs have the shapes of the padded
    batch. Everything else is unchanged.

    Args:
        model ([`~transformers.PreTrainedModel`]): Model after [`~trl.trainer.utils.add_fused_lm_head`].
    """
    AttentionInterface.register("sdpa", _attention_by_pair)
    fused_forward = model.forward
    layers = set(getattr(model.config, "layer_types", None) or ())
    windows = {None, model.config.sliding_window} if "sliding_attention" in layers else {None}

    @functools.wraps(fused_forward)
    def packed_forward(self, *args, fused_lm_head=False, labels=None, **kwargs):
        if not fused_lm_head or labels is None or len(labels) % 2:
            return fused_forward(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        row = packed_row(kwargs.pop("input_ids"), kwargs.pop("attention_mask"), labels)
        masks = {size: row.masks(size) for size in windows}
        mask = masks[None][0]  # of four dimensions, so that the model does not make its own
        output = fused_forward(
            input_ids=row.input_ids,
            position_ids=row.position_ids,
            attention_mask={name: mask for name in layers} if len(layers) > 1 else mask,
            pair_masks=masks,
            shift_labels=row.labels,
            fused_lm_head=True,
            **kwargs,
        )
        return _unpacked(output, row, labels)

    model.forward = types.MethodType(packed_forward, model)


def _attention_by_pair(module, query, key, value, attention_mask, pair_masks=None, **options):
    """transformers' attention by `"sdpa"`, which runs pair by pair if the masks of pairs are given by sliding window."""
    if pair_masks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    masks = pair_masks[options.get("sliding_window")]
    sizes = [mask.shape[-1] for mask in masks]
    parts = zip(*(states.split(sizes, dim=2) for states in (query, key, value)), masks, strict=True)
    outputs = [sdpa_attention_forward(module, *part, **options)[0] for part in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None


def _unpacked(output: FusedCausalLMOutput, row: PackedRow, labels: torch.Tensor) -> FusedCausalLMOutput:
    """Put the values of a packed row where those of the padded batch are."""
    scored, shape = row.labels != _IGNORED, (len(labels), labels.shape[1] - 1)

    def padded(values: torch.Tensor) -> torch.Tensor:
        flat = values.new_zeros(shape[0] * shape[1])
        return flat.index_put((row.places,), values[scored]).view(shape)

    names = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    unpacked = {name: padded(values) for name in names if (values := getattr(output, name)) is not None}
    return FusedCausalLMOutput(loss=output.loss, label_mask=labels[:, 1:] != _IGNORED, **unpacked)
