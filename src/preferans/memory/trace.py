"""
The memory of one DPO step, from shapes alone: this project's own trainer, PEFT, transformers and bitsandbytes walk through the
step on tensors without content, while [`LiveBytes`] counts what lives.

On a machine without a card the tensors claim to be on the CPU, and what CUDA decides otherwise is put in its place: Triton
kernels that write in place, the memory-efficient attention and its scratch, the copies that bitsandbytes' 4-bit product makes.
"""

import contextlib
import copy
import gc
import types
from collections import Counter, defaultdict
from typing import NamedTuple
from unittest import mock

import peft
import torch
import torch.nn.functional as F
import trl.kernels.chunked_logprob as chunked
import trl.trainer.utils
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D
from trl.trainer.utils import disable_dropout_in_model

from ..training.dpo import PreferenceTrainer
from .live_bytes import LiveBytes
from .settings import StepSettings

CUDA_BLOCK = 512  # what the caching allocator rounds up to
GRADIENT_SCALE = 65536.0


class Trace(NamedTuple):
    """
    Memory of a step.

    Attributes:
        peak (`int`): Bytes at the worst moment.
        by (`dict[str, int]`): The same bytes by category.
        phase (`str`): When that moment is.
    """

    peak: int
    by: dict[str, int]
    phase: str


WEIGHTS_4BIT, EMBEDDINGS, OTHER_WEIGHTS = "weights in 4 bits", "embeddings and head", "other weights"
ADAPTER, GRADIENTS, OPTIMIZER = "adapter weights", "adapter gradients", "optimizer state"
FORWARD, BACKWARD, HEAD, INPUTS = "activations kept", "one layer's backward pass", "tiles of the LM head", "batch"


def trace(config: PretrainedConfig, settings: StepSettings) -> Trace:
    """
    Walk through a training step and an evaluation batch of the longest pair.

    The layers of a model are alike, so three and four of them are walked through, and the rest is counted on: within a forward
    pass, and within each half of a backward pass, bytes grow or shrink evenly from layer to layer. So the worst moment of each
    is at one of its ends, where bytes lie on a straight line over the number of layers. Models whose layers differ are walked
    through whole.

    Args:
        config ([`~transformers.PretrainedConfig`]):
            Shape of the base model.
        settings ([`StepSettings`]):
            What the recipe says.

    Returns:
        [`Trace`]: of the worst moment.
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
    Walk through every layer.

    Args:
        config ([`~transformers.PretrainedConfig`]), settings ([`StepSettings`]):
            See [`trace`].

    Returns:
        `dict[str, Counter]`: by phase, the bytes of each category at its worst moment.
    """
    # bitsandbytes keeps its table for the process: made below, it would have no content, and a real model would get it.
    quantize_4bit(torch.ones(64, 64), compress_statistics=True)
    counter = LiveBytes(CUDA_BLOCK if settings.emulate_cuda else 1, _cuda_scratch() if settings.emulate_cuda else None)
    with contextlib.ExitStack() as stack:
        for patch in _patches(settings, counter):
            stack.enter_context(patch)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(counter)
        model = build_model(config, settings, counter)
        # Held here, as the optimizer holds it between steps.
        state = optimizer_state(model, settings)
        for tensor in state:
            counter.assign(tensor, OPTIMIZER)
        trainer = _stand_in(model, settings, counter)
        gc.collect()  # what building the model left in circles
        _train(trainer, settings, counter)
        _evaluate(trainer, settings, counter)
    return counter.peaks


def build_model(config: PretrainedConfig, settings: StepSettings, counter: LiveBytes) -> nn.Module:
    """The base model with its linear layers in 4 bits, its adapter in fp32 and TRL's fused head, as the trainer holds it."""
    dtype = torch.float32 if settings.dtype in ("auto", None) else getattr(torch, settings.dtype)

    with no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=settings.attn_implementation or "sdpa"
        )
    model.tie_weights()
    if settings.load_in_4bit:
        _quantize(model, settings, dtype, counter)
        model.is_loaded_in_4bit, model.quantization_method = True, "bitsandbytes"
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    for parameter in model.parameters():
        if not hasattr(parameter, "quant_state"):
            counter.assign(parameter, EMBEDDINGS if id(parameter) in embeddings else OTHER_WEIGHTS)
    for buffer in model.buffers():
        counter.assign(buffer, OTHER_WEIGHTS)

    targets = settings.lora_target_modules
    lora = peft.LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        use_dora=settings.use_dora,
        task_type="CAUSAL_LM",
    )
    # Module.to() swaps tensors in place, which tensors without content refuse; here nothing has to move.
    with mock.patch.object(nn.Module, "to", lambda self, *args, **kwargs: self):
        model = peft.get_peft_model(model, lora)
    _adapters_in_fp32(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            counter.assign(parameter, ADAPTER)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.disable_dropout:
        disable_dropout_in_model(model)
    trl.trainer.utils.add_fused_lm_head(
        model.get_base_model(), outputs=("log_probs", "entropy", "mean_logits", "is_top1")
    )
    if settings.fp16 or settings.bf16:
        inner, half = model.forward, torch.float16 if settings.fp16 else torch.bfloat16

        def forward(*args, **kwargs):
            with torch.autocast("cpu", dtype=half):
                return inner(*args, **kwargs)

        model.forward = forward
    return model


def _quantize(model: nn.Module, settings: StepSettings, dtype: torch.dtype, counter: LiveBytes) -> None:

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, nn.Linear | Conv1D) or layer is head:
                continue
            weight = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
            packed, state = quantize_4bit(
                weight.data.contiguous(),
                compress_statistics=settings.use_bnb_nested_quant,
                quant_type=settings.bnb_4bit_quant_type,
            )
            # Params4bit refuses tensors without content; a plain parameter with a quant_state runs the same forward pass.
            linear = Linear4bit.__new__(Linear4bit)
            nn.Module.__init__(linear)
            linear.weight = nn.Parameter(packed, requires_grad=False)
            linear.weight.quant_state = linear.quant_state = state
            linear.weight.compress_statistics = settings.use_bnb_nested_quant
            linear.weight.quant_type = settings.bnb_4bit_quant_type
            linear.bias = layer.bias
            linear.out_features, linear.in_features = weight.shape
            linear.compute_dtype, linear.compute_type_is_set = dtype, True
            linear.quant_storage, linear.support_avx512bf16_for_cpu = torch.uint8, False
            setattr(parent, name, linear)
            held = [packed, state.absmax, state.code, state.offset]
            held += [state.state2.absmax, state.state2.code] if settings.use_bnb_nested_quant else []
            for tensor in held:
                if isinstance(tensor, torch.Tensor):
                    counter.assign(tensor, WEIGHTS_4BIT)


def _adapters_in_fp32(model: nn.Module) -> None:
    """As [`~preferans.training.guards.GuardedTrainer`] does, for tensors whose `.data` cannot be exchanged."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad and parameter.dtype != torch.float32:
                module._parameters[name] = nn.Parameter(parameter.detach().float())


def optimizer_state(model: nn.Module, settings: StepSettings) -> list[torch.Tensor]:
    """
    What Adam keeps between steps.

    bitsandbytes keeps 8 bits a moment from 4,096 elements on, with one fp32 number in 256. It pages only tensors from 100,000
    elements on, and on Windows paged memory stays on the card, so paging is not counted as a saving.
    """
    state = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if "8bit" in settings.optim and parameter.numel() >= 4096:
            blocks = -(-parameter.numel() // 256)
            state += [torch.zeros_like(parameter, dtype=torch.uint8) for _ in range(2)]
            state += [torch.zeros(blocks) for _ in range(2)]
        else:
            state += [torch.zeros_like(parameter) for _ in range(2)]
            if not settings.emulate_cuda:  # the number of steps, which PyTorch keeps on the CPU
                state.append(torch.zeros(()))
    return state


class _StandIn(PreferenceTrainer):
    """The trainer without the rest of a run: what its loss asks of it, and nothing else."""

    def __init__(self):
        pass


def _stand_in(model: nn.Module, settings: StepSettings, counter: LiveBytes) -> _StandIn:
    scale = GRADIENT_SCALE if settings.fp16 else 1.0

    def backward(loss: torch.Tensor) -> None:
        counter.phase = counter.phase.replace("forward", "backward, upper half")
        with counter.counted_as(BACKWARD):
            loss = loss * scale
            loss.backward()

    trainer = _StandIn()
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
    trainer.maybe_activation_offload_context = contextlib.nullcontext()
    if settings.activation_offloading:
        trainer.maybe_activation_offload_context = _Offload(model)
    return trainer


def _batch(settings: StepSettings, pairs: int) -> dict[str, torch.Tensor]:
    """A batch of longest pairs, as TRL's collator pads it; with content, since it decides shapes."""

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


def _train(trainer: _StandIn, settings: StepSettings, counter: LiveBytes) -> None:
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
        if settings.separate_passes:
            trainer.backward_separately(model, batch)
        else:
            with trainer.maybe_activation_offload_context:
                loss = trainer._compute_loss(model, batch, return_outputs=False)
                trainer.accelerator.backward(loss)
    for hook in hooks:
        hook.remove()
    for parameter in trained:
        parameter.grad = None


def _evaluate(trainer: _StandIn, settings: StepSettings, counter: LiveBytes) -> None:
    trainer.model.eval()
    batch = _batch(settings, settings.evaluated_pairs)
    for tensor in batch.values():
        counter.assign(tensor, INPUTS)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    counter.phase = "an evaluation batch"
    with torch.no_grad(), counter.counted_as(FORWARD):
        trainer.model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)


class _Offload(torch.autograd.graph.saved_tensors_hooks):
    """Saved activations of 1,024 bytes and more lie in the machine's memory, as TRL's offloading puts them; parameters stay."""

    def __init__(self, model: nn.Module):
        super().__init__(self._pack, self._unpack)
        self.stay = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def _pack(self, tensor):
        if tensor.untyped_storage()._cdata in self.stay or tensor.nbytes < 1024 or not tensor.is_floating_point():
            return tensor
        return tensor.to("meta")

    @staticmethod
    def _unpack(packed):
        return torch.empty_like(packed, device="cpu") if packed.device.type == "meta" else packed


class _Grid:
    """In the place of a Triton kernel, which writes into what it is given and allocates nothing."""

    def __getitem__(self, grid):
        return lambda *args, **kwargs: None


def _patches(settings: StepSettings, counter: LiveBytes) -> list:
    function = chunked.ChunkedLogProbFunction
    head_forward, head_backward = function.forward, function.backward

    def forward(ctx, hidden, weight, bias, *rest):
        # Every whole tile takes the same, one after the other: the first two will do.
        rows = min(weight.shape[0], 2 * settings.head_tile)
        with counter.counted_as(HEAD):
            return head_forward(ctx, hidden, weight[:rows], None if bias is None else bias[:rows], *rest)

    def backward(ctx, *gradients):
        with counter.counted_as(HEAD):
            return head_backward(ctx, *gradients)

    patches = [
        mock.patch.object(trl.trainer.utils, "_use_triton", lambda device: True),  # score completions only
        mock.patch.object(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", settings.head_tile),
        mock.patch.object(function, "forward", staticmethod(forward)),
        mock.patch.object(function, "backward", staticmethod(backward)),
        mock.patch(
            "transformers.integrations.sdpa_attention.use_gqa_in_sdpa",
            lambda mask, key, value: settings.grouped_heads and mask is None,
        ),
    ]
    if settings.emulate_cuda:
        patches.append(mock.patch.object(F, "scaled_dot_product_attention", _efficient_attention))
        patches.append(mock.patch.object(chunked, "_addmm_fp32", _addmm_in_place))
        for owner, name in ((F, "layer_norm"), (torch, "pow")):
            patches.append(mock.patch.object(owner, name, _in_fp32_under_autocast(getattr(owner, name))))
    if settings.emulate_cuda and settings.triton:
        patches += [
            mock.patch.object(chunked, "_use_triton", lambda device: True),
            mock.patch.object(chunked, "_forward_kernel", _Grid()),
            mock.patch.object(chunked, "_backward_kernel", _Grid()),
            mock.patch.object(chunked, "triton", types.SimpleNamespace(cdiv=lambda a, b: -(-a // b)), create=True),
        ]
    return patches


def _addmm_in_place(accumulator: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    if a.dtype == torch.float32:
        accumulator.addmm_(a, b)


def _efficient_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """CUDA's memory-efficient attention, which cards before Ampere take; FlashAttention on later ones needs no more."""
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:  # the kernel takes a mask to be added
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
        attn_mask = attn_mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    with_gradient = torch.is_grad_enabled() and query.requires_grad
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, with_gradient, dropout_p, is_causal, scale=scale
    )[0]


def _cuda_scratch() -> dict:
    def dequantized(args) -> int:  # the product of a whole batch unpacks the weights, and their scales twice
        inputs, (rows, columns) = args[0], args[2]
        return rows * columns * inputs.element_size() + 2 * 4 * (rows * columns // 64)

    def attention_backward(args) -> int:  # a number a query, and the query's gradient, in fp32
        query = args[1]
        return 4 * query.numel() // query.shape[-1] + 4 * query.numel()

    return {
        torch.ops.bitsandbytes.gemm_4bit.default: dequantized,
        torch.ops.aten._scaled_dot_product_efficient_attention_backward.default: attention_backward,
    }


def _in_fp32_under_autocast(function):
    """Autocast computes some functions in fp32 on CUDA but not on the CPU: those of GPT-2's norms and activation."""

    def wide(*args, **kwargs):
        if torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.float(), (args, kwargs))
        return function(*args, **kwargs)

    return wide
