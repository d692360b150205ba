"""A model, its adapter and its optimizer state as tensors without content."""

from unittest import mock

import peft
import torch
import trl.trainer.utils
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D
from trl.trainer.utils import disable_dropout_in_model

from ..training.packed_pairs import pack_pairs
from .live_bytes import LiveBytes
from .settings import StepSettings

WEIGHTS_4BIT, EMBEDDINGS, OTHER_WEIGHTS, ADAPTER = (
    "weights in 4 bits",
    "embeddings and head",
    "other weights",
    "adapter weights",
)


def fake_model(config: PretrainedConfig, settings: StepSettings, counter: LiveBytes) -> nn.Module:
    """Build the base model with linear layers in 4 bits, the adapter in fp32 and TRL's fused head, as the trainer does."""
    dtype = torch.float32 if settings.dtype in ("auto", None) else getattr(torch, settings.dtype)
    with no_init_weights():
        attention = settings.attn_implementation  # by default, transformers chooses what the architecture supports
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    model.tie_weights()
    if settings.load_in_4bit:
        _quantize(model, settings, dtype, counter)
        model.is_loaded_in_4bit, model.quantization_method = True, "bitsandbytes"
    _assign_weights(model, counter)
    model = _with_adapter(model, settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            counter.assign(parameter, ADAPTER)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if settings.disable_dropout:
        disable_dropout_in_model(model)
    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
    trl.trainer.utils.add_fused_lm_head(model.get_base_model(), outputs=outputs)
    if settings.pair_layout == "packed":
        pack_pairs(model.get_base_model())
    if settings.fp16 or settings.bf16:
        _autocast(model, torch.float16 if settings.fp16 else torch.bfloat16)
    return model


def _assign_weights(model: nn.Module, counter: LiveBytes) -> None:
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if not hasattr(parameter, "quant_state"):
            counter.assign(parameter, EMBEDDINGS if id(parameter) in embeddings else OTHER_WEIGHTS)
    for buffer in model.buffers():
        counter.assign(buffer, OTHER_WEIGHTS)


def _with_adapter(model: nn.Module, settings: StepSettings) -> nn.Module:
    targets = settings.lora_target_modules
    lora = peft.LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        use_dora=settings.use_dora,
        task_type="CAUSAL_LM",
    )
    # Module.to() swaps tensors in place, which fails for tensors without content; nothing needs to move here.
    with mock.patch.object(nn.Module, "to", lambda self, *args, **kwargs: self):
        model = peft.get_peft_model(model, lora)
    # As GuardedTrainer does, for tensors whose `.data` cannot be replaced.
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad and parameter.dtype != torch.float32:
                module._parameters[name] = nn.Parameter(parameter.detach().float())
    return model


def _autocast(model: nn.Module, half: torch.dtype) -> None:
    inner = model.forward

    def forward(*args, **kwargs):
        with torch.autocast("cpu", dtype=half):
            return inner(*args, **kwargs)

    model.forward = forward


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
            # Params4bit fails for tensors without content; a plain parameter with a quant_state runs the same forward pass.
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


def optimizer_state(model: nn.Module, settings: StepSettings) -> list[torch.Tensor]:
    """
    Return what Adam keeps between steps.

    bitsandbytes stores moments of at least 4,096 elements in 8 bits, with one fp32 number per 256 elements. It pages only tensors
    of at least 100,000 elements, and on Windows paged memory stays on the card, so paging is not counted as a saving.
    """
    state: list[torch.Tensor] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if "8bit" in settings.optim and parameter.numel() >= 4096:
            blocks = -(-parameter.numel() // 256)
            state += [torch.zeros_like(parameter, dtype=torch.uint8) for _ in range(2)]
            state += [torch.zeros(blocks) for _ in range(2)]
        else:
            state += [torch.zeros_like(parameter) for _ in range(2)]
            if not settings.emulate_cuda:  # the step count, which PyTorch keeps on the CPU
                state.append(torch.zeros(()))
    return state
