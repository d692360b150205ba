"""Load a model and its tokenizer, and check what was loaded."""

import dataclasses
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from bitsandbytes.nn import Linear4bit
from huggingface_hub.constants import HF_HUB_OFFLINE
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, get_quantization_config

from ..data.chat_template import check_template, with_variables
from ..errors import PreferansError
from ..hardware.device import Device
from ..hardware.processes import is_sharded, receives_weights
from ..hub_names import unreadable


def load_checked_tokenizer(
    name: str, chat_template_path: str | None, conversational: bool, chat_template_kwargs: dict[str, Any] | None = None
) -> PreTrainedTokenizerBase:
    """
    Load the tokenizer of a model without its weights.

    Args:
        name (`str`): Folder or Hub id.
        chat_template_path (`str`, *optional*): Jinja file that replaces the tokenizer's chat template.
        conversational (`bool`): Whether a chat template is needed.
        chat_template_kwargs (`dict`, *optional*): Variables of the chat template.

    Raises:
        [`PreferansError`]: if it cannot be read, or lacks an end token or a chat template that is needed.
    """
    if not Path(name).is_dir():
        check_model_exists(name)
    tokenizer = load_tokenizer(name, "main", chat_template_path, conversational, chat_template_kwargs)
    if tokenizer.eos_token is None:
        raise PreferansError(
            f"model_name_or_path {name}: its tokenizer has no eos_token, which TRL needs. Set one in the tokenizer."
        )
    return tokenizer


def check_model_exists(name: str | None) -> None:
    """
    Check that a model's folder exists and has a configuration, without reading the weights.

    Raises:
        [`PreferansError`]: if there is no name, or no model at a path.
    """
    if not name:
        raise PreferansError("model_name_or_path is missing: name a folder, or a model on the Hub.")
    path = Path(name)
    if path.exists():
        if not (path / "config.json").is_file():
            raise PreferansError(f"model_name_or_path {name}: it has no config.json, so it is not a model folder.")
    elif len(path.parts) != 2 or name.startswith((".", "/", "~", "cache/")):
        cure = " Make it with: python scripts/prepare_gemma.py" if "gemma-3-270m" in name else ""
        raise PreferansError(f"model_name_or_path {name}: there is no such folder.{cure}")


def load_config(name: str, revision: str) -> PretrainedConfig:
    """Load a model's configuration; it raises as [`load_model`] does."""
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise PreferansError(_not_loaded(name, error)) from None


def load_tokenizer(
    name: str,
    revision: str,
    chat_template_path: str | None,
    chat: bool = True,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> PreTrainedTokenizerBase:
    """
    Load a tokenizer for training: with left padding, a padding token and, for messages, a chat template.

    Args:
        name (`str`): Model folder or Hub id.
        revision (`str`): Revision on the Hub.
        chat_template_path (`str`, *optional*): Jinja file that replaces the tokenizer's chat template.
        chat (`bool`, *optional*, defaults to `True`): Whether prompts are messages. Plain texts need no template.
        chat_template_kwargs (`dict`, *optional*): Variables of the template, see [`~preferans.data.chat_template.with_variables`].

    Raises:
        [`PreferansError`]: if the tokenizer or the template cannot be read, or messages have no chat template or a broken one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise PreferansError(_not_loaded(name, error)) from None
    if chat_template_path is not None:
        try:
            tokenizer.chat_template = Path(chat_template_path).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise PreferansError(f"chat_template_path {chat_template_path}: cannot be read ({error}).") from None
    if chat and tokenizer.chat_template is None:
        raise PreferansError(
            f"{name} has no chat template, so messages cannot be turned into text. Set chat_template_path (for a Russian base model: "
            "recipes/chat_templates/plain_ru.jinja), or build the dataset with --format text."
        )
    if chat and chat_template_kwargs:
        tokenizer.chat_template = with_variables(tokenizer.chat_template, chat_template_kwargs)
    if chat:
        check_template(tokenizer, f"chat_template_path {chat_template_path}" if chat_template_path else name)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_token_ids(tokenizer: PreTrainedTokenizerBase, embeddings: int, texts: Iterable[str], location: str) -> None:
    """
    Check that a model has an embedding for every token of texts, because some tokenizers have more tokens than their model.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer.
        embeddings (`int`): Number of the model's embeddings.
        texts (`Iterable[str]`): Texts with special tokens. They are tokenized only if the tokenizer has too many tokens.
        location (`str`): Location for messages.

    Raises:
        [`PreferansError`]: names a token without an embedding.
    """
    if max(tokenizer.get_vocab().values()) < embeddings:
        return
    special = [token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None]
    for ids in chain([special], (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)):
        if max(ids, default=0) >= embeddings:
            token = tokenizer.convert_ids_to_tokens(max(ids))
            raise PreferansError(
                f"{location}: its tokenizer has the token '{token}' (id {max(ids)}), but the model has only {embeddings} embeddings. "
                "Use the tokenizer of the model without added tokens."
            )


def _not_loaded(name: str, error: Exception) -> str:
    if HF_HUB_OFFLINE and not Path(name).exists():
        return (
            f"model_name_or_path {name}: HF_HUB_OFFLINE is set, and the model is not completely in the cache. Unset it once and download the model: "
            f"hf download {name}."
        )
    if not Path(name).exists():
        return f"model_name_or_path {name}: {unreadable(name, error, 'model')}"
    return f"model_name_or_path {name}: the model cannot be loaded ({' '.join(str(error).split()):.300})."


def load_model(model_args: ModelConfig, device: Device) -> PreTrainedModel:
    """
    Load a causal language model on one device.

    Args:
        model_args ([`~trl.ModelConfig`]): Name, dtype, quantization and attention of the model.
        device ([`~preferans.hardware.device.Device`]):
            The device. `device_map="auto"` would move layers to the CPU if the card is nearly full.

    Raises:
        [`PreferansError`]: if it cannot be loaded, or a linear layer is not in 4 bits as required.
    """
    dtype = model_args.dtype if model_args.dtype in ("auto", None) else getattr(torch, model_args.dtype)
    config = load_config(model_args.model_name_or_path, model_args.model_revision)
    check_stored_bits(config, model_args.load_in_4bit, model_args.load_in_8bit, model_args.model_name_or_path)
    quantization = _quantization(model_args, config)
    try:
        if receives_weights():
            # The main process loads the weights, and sends each process its part when training starts.
            with init_empty_weights(include_buffers=False):
                model = AutoModelForCausalLM.from_config(
                    config, dtype=dtype, attn_implementation=model_args.attn_implementation
                )
            model.tie_weights()
            return model
        model = AutoModelForCausalLM.from_pretrained(
            model_args.model_name_or_path,
            revision=model_args.model_revision,
            dtype=dtype,
            attn_implementation=model_args.attn_implementation,
            config=config,
            **quantization,
            # The trainer places a sharded model; otherwise each process has its own card.
            device_map=None if is_sharded() else {"": torch.cuda.current_device() if device.kind == "cuda" else "cpu"},
        )
    except torch.OutOfMemoryError:
        raise PreferansError(
            f"model_name_or_path {model_args.model_name_or_path}: the card's memory is too small for the weights alone. Close other "
            "programs that use the card, set load_in_4bit: true, or use a smaller model."
        ) from None
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise PreferansError(_not_loaded(model_args.model_name_or_path, error)) from None
    if model_args.load_in_4bit:
        check_4bit(model)
        keep_4bit_differentiable(model)
    return model


def check_stored_bits(config: PretrainedConfig, load_in_4bit: bool, load_in_8bit: bool, location: str) -> None:
    """
    Check that a model whose weights are stored in 4 or 8 bits is loaded as such, because the weights cannot be restored.

    Args:
        config ([`~transformers.PretrainedConfig`]): Configuration of the model.
        load_in_4bit (`bool`), load_in_8bit (`bool`): Keys of the run.
        location (`str`): Location for messages.

    Raises:
        [`PreferansError`]: names the missing key, or another method of quantization.
    """
    stored = getattr(config, "quantization_config", None) or {}
    if stored.get("quant_method", "bitsandbytes") != "bitsandbytes":
        raise PreferansError(
            f"{location}: the weights of {config.name_or_path} are quantized with {stored['quant_method']}, which cannot be trained here. Name "
            "the model with weights in 16 bits; load_in_4bit: true quantizes them."
        )
    for key, is_set in (("load_in_4bit", load_in_4bit), ("load_in_8bit", load_in_8bit)):
        if stored.get(key) and not is_set:
            raise PreferansError(
                f"{location}: {key} is false, but the weights of {config.name_or_path} are stored in {key[8]} bits. Set {key}: true "
                f"(--{key}), or name the model with weights in 16 bits."
            )


def _quantization(model_args: ModelConfig, config: PretrainedConfig) -> dict[str, Any]:
    """Return the option with which the model is quantized: empty if it is not, or if its weights are stored in few bits."""
    dtype = model_args.dtype
    if dtype in ("auto", None):
        dtype = str(config.get_text_config().dtype or torch.float32).removeprefix("torch.")
    stored = getattr(config, "quantization_config", None)
    if stored:
        if stored.get("load_in_4bit"):  # most such models are stored with bfloat16, which a card may lack
            config.quantization_config = stored | {"bnb_4bit_compute_dtype": dtype}
        return {}
    try:
        quantization = get_quantization_config(dataclasses.replace(model_args, dtype=dtype))
    except ValueError as error:
        raise PreferansError(
            f"The model cannot be quantized with these keys: {' '.join(str(error).split())}"
        ) from None
    return {"quantization_config": quantization} if quantization else {}


def check_4bit(model: torch.nn.Module) -> int:
    """
    Check that every linear layer except the head is in 4 bits, and return their number.

    Raises:
        [`PreferansError`]: names a layer that is not.
    """
    head = model.get_output_embeddings()
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }
    plain = [
        name
        for name, module in linears.items()
        if not isinstance(module, Linear4bit)
        or module.weight.dtype != torch.uint8
        or module.weight.quant_state is None
    ]
    if plain or not linears:
        raise PreferansError(
            f"load_in_4bit is true, but {len(plain)} of {len(linears)} linear layers are not in 4 bits ({', '.join(plain[:3])} …). "
            "The run would need more memory than planned: check bitsandbytes and the model's architecture."
        )
    return len(linears)


def keep_4bit_differentiable(model: torch.nn.Module) -> None:
    """
    Prevent bitsandbytes from repacking 4-bit weights for CPU inference.

    On a CPU with AVX512-BF16, the first forward pass in evaluation mode, such as for the reference log-probabilities, repacks the
    weights for a kernel without a backward pass, and bitsandbytes 0.50 keeps using it in training: gradients no longer flow through
    the base model's layers, with only a warning.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
