"""
The memory of one DPO step, from shapes alone.

This project's trainer, PEFT, transformers and bitsandbytes run the step on tensors without content, and [`LiveBytes`] counts the
live bytes. On a machine without a card, [`~preferans.memory.cuda_emulation.patches`] replaces what CUDA would do differently.
"""

import copy
import gc
import types
from collections import Counter, defaultdict
from contextlib import ExitStack, nullcontext
from typing import NamedTuple

import torch
from bitsandbytes.functional import quantize_4bit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PretrainedConfig

from ..training.dpo import PreferenceTrainer
from .cuda_emulation import cuda_scratch, patches
from .fake_model import fake_model, optimizer_state
from .live_bytes import LiveBytes
from .settings import StepSettings

CUDA_BLOCK = 512  # the caching allocator rounds up to this many bytes
# PyTorch's workspace of cuBLAS before Hopper: 2 x 4 MiB and 8 x 16 KiB. The threads of forward and backward pass have one each.
CUBLAS_WORKSPACES = 2 * (2 * 4096 + 8 * 16) * 1024
GRADIENTS, OPTIMIZER = "adapter gradients", "optimizer state"
FORWARD, BACKWARD, INPUTS = "activations kept", "one layer's backward pass", "batch"
GRADIENT_SCALE = 65536.0


class Trace(NamedTuple):
    """
    Memory of a step.

    Attributes:
        peak (`int`): Peak in bytes.
        by (`dict[str, int]`): The same bytes by category.
        phase (`str`): Phase of the step with the peak.
    """

    peak: int
    by: dict[str, int]
    phase: str


def trace(config: PretrainedConfig, settings: StepSettings) -> Trace:
    """
    Trace a training step and an evaluation batch of the longest pair.

    The layers of a model are alike, so only three and four of them are run, and the rest is extrapolated: within a forward pass,
    and within each half of a backward pass, bytes change linearly from layer to layer. The peak of each is therefore at one of its
    ends, and linear in the number of layers. Models with different layers are run completely.

    Args:
        config ([`~transformers.PretrainedConfig`]): Shape of the base model.
        settings ([`StepSettings`]): Settings of the step.
    """
    layers = config.num_hidden_layers
    if layers <= 4 or len(set(getattr(config, "layer_types", None) or [None])) > 1:
        phases = walk(config, settings)
    else:
        three, four = (walk(_with_layers(config, number), settings) for number in (3, 4))
        phases = {
            phase: Counter(
                {
                    category: three[phase][category] + (layers - 3) * (four[phase][category] - three[phase][category])
                    for category in three[phase] | four[phase]
                }
            )
            for phase in three
        }
    phase = max(phases, key=lambda phase: phases[phase].total())
    return Trace(phases[phase].total(), dict(phases[phase].most_common()), phase)


def _with_layers(config: PretrainedConfig, number: int) -> PretrainedConfig:
    config = copy.deepcopy(config)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:number]
    config.num_hidden_layers = number
    return config


def walk(config: PretrainedConfig, settings: StepSettings) -> dict[str, Counter[str]]:
    """
    Run every layer of a step; see [`trace`] for the arguments.

    Returns:
        `dict[str, Counter]`: the bytes of each category at the peak of each phase.
    """
    # bitsandbytes caches a table per process: created below, it would have no content, and a real model would get it.
    quantize_4bit(torch.ones(64, 64), compress_statistics=True)
    counter = LiveBytes(CUDA_BLOCK if settings.emulate_cuda else 1, cuda_scratch() if settings.emulate_cuda else None)
    with ExitStack() as stack:
        for patch in patches(settings, counter):
            stack.enter_context(patch)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(counter)
        if settings.emulate_cuda:
            workspaces = torch.empty(CUBLAS_WORKSPACES, dtype=torch.uint8)
            counter.assign(workspaces, "cuBLAS workspaces")
        model = fake_model(config, settings, counter)
        state = optimizer_state(model, settings)  # kept alive, as by the optimizer between steps
        for tensor in state:
            counter.assign(tensor, OPTIMIZER)
        trainer = _fake_trainer(model, settings, counter)
        gc.collect()  # reference cycles left by building the model
        _train(trainer, settings, counter)
        _evaluate(trainer, settings, counter)
    return counter.peaks


class _FakeTrainer(PreferenceTrainer):
    """A trainer with only what its loss needs."""

    def __init__(self):
        pass


def _fake_trainer(model: nn.Module, settings: StepSettings, counter: LiveBytes) -> _FakeTrainer:
    """Build a trainer whose backward pass counts bytes."""
    scale = GRADIENT_SCALE if settings.fp16 else 1.0

    def backward(loss: torch.Tensor) -> None:
        counter.phase = str(counter.phase).replace("forward", "backward, upper half")
        with counter.counted_as(BACKWARD):
            loss = loss * scale
            loss.backward()

    trainer = _FakeTrainer()
    trainer.model = model
    trainer.accelerator = types.SimpleNamespace(
        device=torch.device("cpu"),
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
        unwrap_model=lambda wrapped: wrapped,
        backward=backward,
    )
    trainer.args = types.SimpleNamespace(gradient_checkpointing_kwargs={"use_reentrant": False}, discopop_tau=0.05)
    trainer.aux_loss_enabled, trainer.use_weighting = False, False
    trainer.ld_alpha, trainer.ref_model = None, None
    trainer.precompute_ref_logps = settings.precompute_ref_log_probs
    trainer.f_divergence_type = "reverse_kl"
    trainer.loss_types = list(settings.loss_type)
    trainer.loss_weights = [1.0] * len(settings.loss_type)
    trainer.beta, trainer.label_smoothing = 0.1, 0.1
    trainer._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    trainer.current_gradient_accumulation_steps = 1
    trainer.maybe_activation_offload_context = nullcontext()
    if settings.activation_offloading:
        trainer.maybe_activation_offload_context = _Offloading(model)
    return trainer


class _Offloading(torch.autograd.graph.saved_tensors_hooks):
    """Move saved activations of at least 1,024 bytes off the card, as TRL's offloading does; parameters stay."""

    def __init__(self, model: nn.Module):
        super().__init__(self._pack, self._unpack)
        self.kept = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def _pack(self, tensor):
        if tensor.untyped_storage()._cdata in self.kept or tensor.nbytes < 1024 or not tensor.is_floating_point():
            return tensor
        return tensor.to("meta")

    @staticmethod
    def _unpack(packed):
        return torch.empty_like(packed, device="cpu") if packed.device.type == "meta" else packed


def _batch(settings: StepSettings, pairs: int) -> dict[str, torch.Tensor]:
    """Return a batch of longest pairs as TRL's collator pads it; it has content, because that decides shapes."""
    prompt = settings.prompt_tokens
    ends = [prompt + settings.chosen_tokens] * pairs + [prompt + settings.rejected_tokens] * pairs
    with _disable_current_modes():
        position = torch.arange(max(ends)).expand(len(ends), -1)
        attention_mask = (position < torch.tensor(ends)[:, None]).long()
        batch = {
            "input_ids": torch.ones_like(attention_mask),
            "attention_mask": attention_mask,
            "completion_mask": attention_mask * (position >= prompt),
        }
        if settings.precompute_ref_log_probs:
            batch |= {name: torch.zeros(pairs) for name in ("ref_chosen_logps", "ref_rejected_logps")}
    return batch


def _train(trainer: _FakeTrainer, settings: StepSettings, counter: LiveBytes) -> None:
    model = trainer.model
    model.train()
    batch = _batch(settings, settings.pairs)
    for tensor in batch.values():
        counter.assign(tensor, INPUTS)
    passes = 0

    def begin(*_):
        nonlocal passes
        passes += 1
        counter.phase = f"pass {passes}, forward"

    def after_gradient(parameter):
        counter.assign(parameter.grad, GRADIENTS)
        if parameter in middle:
            counter.phase = f"pass {passes}, backward, lower half"

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.accumulates:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
            counter.assign(parameter.grad, GRADIENTS)
    layer = (model.get_base_model().config.num_hidden_layers - 1) // 2
    middle = {p for name, p in model.named_parameters() if p.requires_grad and f".{layer}." in name}
    hooks = [parameter.register_post_accumulate_grad_hook(after_gradient) for parameter in trained]
    hooks.append(model.get_base_model().base_model.register_forward_pre_hook(begin))
    with counter.counted_as(FORWARD):
        if settings.pair_layout == "separate":
            trainer.backward_separately(model, batch)
        else:
            with trainer.maybe_activation_offload_context:
                loss = trainer._compute_loss(model, batch, return_outputs=False)
                trainer.accelerator.backward(loss)
    for hook in hooks:
        hook.remove()
    for parameter in trained:
        parameter.grad = None


def _evaluate(trainer: _FakeTrainer, settings: StepSettings, counter: LiveBytes) -> None:
    trainer.model.eval()
    batch = _batch(settings, settings.evaluated_pairs)
    for tensor in batch.values():
        counter.assign(tensor, INPUTS)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    counter.phase = "an evaluation batch"
    with torch.no_grad(), counter.counted_as(FORWARD):
        trainer.model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
