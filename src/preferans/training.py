"""
DPO on a small card: TRL's trainer with adapters in fp32 and a guard against numbers that are none.

[Direct Preference Optimization](https://huggingface.co/papers/2305.18290) and
[QLoRA](https://huggingface.co/papers/2305.14314) are TRL's and PEFT's work; this module holds what a 4 GB card without bf16
needs besides.
"""

import contextlib
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
import trl.trainer.utils
from accelerate import init_empty_weights
from accelerate.utils import gather_object
from datasets import Dataset
from datasets.fingerprint import Hasher
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import GatedRepoError
from peft import PeftModel
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import ModelConfig, get_quantization_config
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from .errors import PreferansError
from .guards import GuardedTrainer
from .hardware import PROFILES, Device, peak_memory
from .processes import count, is_main, is_sharded, local_part, receives_weights
from .separate_passes import SeparatePassesTrainer


@dataclasses.dataclass
class HardwareArguments:
    """
    Keys of a recipe that no script of TRL's knows.

    Args:
        hardware_profile (`str`, *optional*):
            Card of [`~preferans.hardware.PROFILES`] that a bigger one shall behave like.
        num_processes (`int`, *optional*):
            Number of processes that the run must have, on all machines together. A launch that gets another number stops.
    """

    hardware_profile: str | None = dataclasses.field(
        default=None,
        metadata={"help": f"Card that a bigger one shall behave like, to try a recipe for it: {', '.join(PROFILES)}."},
    )
    num_processes: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Number of processes that the run must have, on all machines together; a launch that gets another stops."
        },
    )


@dataclasses.dataclass
class PreferansArguments(HardwareArguments):
    """
    Keys of a recipe that TRL's DPO script does not know; its SFTConfig has `chat_template_path` already.

    Args:
        chat_template_path (`str`, *optional*):
            Jinja file with the chat template, for a base model that has none.
        separate_passes (`bool`, *optional*):
            Whether the chosen and the rejected answer run through the model one after the other, see
            [`~preferans.separate_passes.SeparatePassesTrainer`]. Left out, they do where the memory plan needs it.
        head_tile (`int`, *optional*):
            Words of the vocabulary that the LM head scores at once. Left out, the memory plan chooses.
        longest_first (`bool`, *optional*):
            Whether the longest pairs are tried before the first step. Left out, they are on a card.
        ignore_plan (`bool`, *optional*, defaults to `False`):
            Whether to start a run that the memory plan says will not fit.

    Another one is that of [`HardwareArguments`].
    """

    chat_template_path: str | None = dataclasses.field(
        default=None, metadata={"help": "Jinja file with the chat template, for a base model that has none."}
    )
    separate_passes: bool | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Run chosen and rejected answers one after the other: less memory, about a sixth more time, the same gradients. "
            "Left out, the memory plan decides."
        },
    )
    head_tile: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Words of the vocabulary that the LM head scores at once. Left out, the memory plan decides."
        },
    )
    longest_first: bool | None = dataclasses.field(
        default=None, metadata={"help": "Try the longest pairs before the first step. Left out: on a card."}
    )
    ignore_plan: bool = dataclasses.field(
        default=False, metadata={"help": "Start even a run that the memory plan says will not fit."}
    )


def check_model_exists(name: str | None) -> None:
    """
    Check that a model folder can be one, without reading the weights.

    Raises:
        [`PreferansError`]: when no name is given, or it is a path where no model lies.
    """
    if not name:
        raise PreferansError("model_name_or_path is missing: name a folder, or a model on the Hub.")
    path = Path(name)
    if path.exists():
        if not (path / "config.json").is_file():
            raise PreferansError(
                f"model_name_or_path {name}: there is no config.json in it, so it is no model folder."
            )
    elif len(path.parts) != 2 or name.startswith((".", "/", "~", "cache/")):
        cure = " Make it with: python scripts/prepare_gemma.py" if "gemma-3-270m" in name else ""
        raise PreferansError(f"model_name_or_path {name}: there is no such folder.{cure}")


def load_config(name: str, revision: str) -> PretrainedConfig:
    """
    Read a model's configuration.

    Raises:
        [`PreferansError`]: when there is none, as for [`load_model`].
    """
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise PreferansError(_not_loaded(name, error)) from None


def load_tokenizer(
    name: str, revision: str, chat_template_path: str | None, chat: bool = True
) -> PreTrainedTokenizerBase:
    """
    Load a tokenizer that can be trained with: left padding, a padding token and, for messages, a chat template.

    Args:
        name (`str`):
            Model folder or id on the Hub.
        revision (`str`):
            Revision on the Hub.
        chat_template_path (`str`, *optional*):
            Jinja file that replaces the tokenizer's own chat template.
        chat (`bool`, *optional*, defaults to `True`):
            Whether messages have to be turned into text. Plain texts need no template.

    Raises:
        [`PreferansError`]: when the tokenizer or the template cannot be read, or there is no chat template for messages.
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
            f"{name} has no chat template, so messages cannot be turned into text. Name one with chat_template_path; "
            "recipes/chat_templates/plain_ru.jinja suits a Russian base model; or build the dataset with --format text."
        )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _not_loaded(name: str, error: Exception) -> str:
    if HF_HUB_OFFLINE and not Path(name).exists():
        return (
            f"model_name_or_path {name}: HF_HUB_OFFLINE is set, and the model is not in the cache as a whole. Unset that once and fetch it: "
            f"hf download {name}."
        )
    gated = isinstance(error.__cause__, GatedRepoError) or "gated" in str(error)
    return f"model_name_or_path {name}: the model cannot be loaded ({' '.join(str(error).split()):.300}). " + (
        f"Ask for access on its page, https://huggingface.co/{name}, and sign in: hf auth login."
        if gated
        else "Check the name; a gated model (Llama) also needs access granted on its page and `hf auth login`."
    )


def prompt_text(prompt: list[dict] | str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A prompt as the model reads it, with its special tokens, up to where the answer begins."""
    if isinstance(prompt, str):
        bos = tokenizer.bos_token_id
        return (tokenizer.bos_token if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else "") + prompt
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def drop_long_prompts(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int | None, origin: str
) -> Dataset:
    """
    Drop rows whose prompt alone fills `max_length`, so that no token of an answer would be left to learn from.

    TRL drops such rows as well, but says so nowhere; here their number is printed.

    Args:
        rows ([`~datasets.Dataset`]):
            Preference rows.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer with a chat template.
        max_length (`int`, *optional*):
            Tokens of prompt and answer together; `None` keeps every row.
        origin (`str`):
            What to call the rows in a message.

    Returns:
        [`~datasets.Dataset`]: the rows that are left.

    Raises:
        [`PreferansError`]: when no row is left.
    """
    if max_length is None:
        return rows
    lengths = [
        len(tokenizer(prompt_text(row["prompt"], tokenizer), add_special_tokens=False)["input_ids"]) for row in rows
    ]
    kept = [i for i, length in enumerate(lengths) if length < max_length]
    if not kept:
        raise PreferansError(
            f"{origin}: every prompt alone is longer than max_length {max_length} (the shortest has {min(lengths)} tokens). "
            "Raise max_length."
        )
    if len(kept) < len(rows):
        print(f"{origin}: {len(rows) - len(kept)} pairs dropped, whose prompt alone fills max_length {max_length}.")
    return rows.select(kept)


def load_model(model_args: ModelConfig, device: Device) -> PreTrainedModel:
    """
    Load a causal language model as the recipe says, whole on one device.

    Args:
        model_args ([`~trl.ModelConfig`]):
            Name, dtype, quantization and attention of the model.
        device ([`~preferans.hardware.Device`]):
            Where it shall live. Left to itself, `device_map="auto"` may spill layers to the CPU of a nearly full card.

    Raises:
        [`PreferansError`]: when it cannot be loaded, or was to be loaded in 4 bits and some linear layer is not.
    """
    quantization = get_quantization_config(model_args)
    dtype = model_args.dtype if model_args.dtype in ("auto", None) else getattr(torch, model_args.dtype)
    config = load_config(model_args.model_name_or_path, model_args.model_revision)
    try:
        if receives_weights():
            # The main process reads them, and hands each process its part when training begins.
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
            quantization_config=quantization,
            # A sharded model is placed by the trainer, part by part; else each process has its own card.
            device_map=None if is_sharded() else {"": torch.cuda.current_device() if device.kind == "cuda" else "cpu"},
        )
    except torch.OutOfMemoryError:
        raise PreferansError(
            f"model_name_or_path {model_args.model_name_or_path}: the card's memory is too small for the weights alone. Close other "
            "programs that use the card, write load_in_4bit: true, or take a smaller model."
        ) from None
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise PreferansError(_not_loaded(model_args.model_name_or_path, error)) from None
    if model_args.load_in_4bit:
        check_4bit(model)
        keep_4bit_differentiable(model)
    return model


def check_4bit(model: torch.nn.Module) -> int:
    """
    Check that every linear layer but the head is held in 4 bits.

    Args:
        model (`torch.nn.Module`):
            Loaded model.

    Returns:
        `int`: number of 4-bit layers.

    Raises:
        [`PreferansError`]: names a layer that is not.
    """
    from bitsandbytes.nn import Linear4bit
    from transformers.pytorch_utils import Conv1D

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
            "The memory of the run would not be what the recipe promises: check bitsandbytes and the model's architecture."
        )
    return len(linears)


def keep_4bit_differentiable(model: torch.nn.Module) -> None:
    """
    Keep bitsandbytes from repacking 4-bit weights for CPU inference.

    On a CPU with AVX512-BF16 the first forward pass in evaluation mode, such as the one for the reference
    log-probabilities, repacks the weights for a kernel without a backward pass, and bitsandbytes 0.50 goes on using it in
    training: gradients no longer flow through the base model's layers, with a mere warning.

    Args:
        model (`torch.nn.Module`):
            Model whose 4-bit layers stay as they are, in training and in evaluation.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def score_completions_only() -> None:
    """
    Let TRL's fused LM head project completion tokens only, on every device.

    Without Triton, TRL scores prompt and padding as well and throws the result away, so that tile shapes stay the same for
    devices that compile. On a CPU that is most of the head's work, and the head is most of a small model's step.
    """
    # The head's module asks this to choose the positions; the kernels ask their own copy and keep using torch.
    trl.trainer.utils._use_triton = lambda device: True


def pair_lengths(dataset: Dataset, max_length: int | None) -> tuple[list[int], list[int]]:
    """
    Tokens of every pair's two sequences, as the model reads them.

    Args:
        dataset ([`~datasets.Dataset`]):
            Tokenized by the trainer.
        max_length (`int`, *optional*):
            Tokens that a sequence is cut to.

    Returns:
        `tuple[list[int], list[int]]`: lengths with the chosen and with the rejected answer.
    """
    prompts = [len(ids) for ids in dataset["prompt_ids"]]
    longest = max_length or sys.maxsize
    return tuple(
        [min(prompt + len(ids), longest) for prompt, ids in zip(prompts, dataset[f"{side}_ids"], strict=True)]
        for side in ("chosen", "rejected")
    )


class PreferenceTrainer(GuardedTrainer, SeparatePassesTrainer):
    """
    [`~trl.DPOTrainer`] with [`~preferans.guards.GuardedTrainer`]'s fp32 adapters and guards, and passes that can be separate.

    Args:
        on_longest (`Callable[[int], None]`, *optional*):
            When given, the longest pairs are tried before the first step, and it is told the peak memory of that in bytes.

    Other arguments are those of [`~preferans.separate_passes.SeparatePassesTrainer`].
    """

    def __init__(self, *args, on_longest: Callable[[int], None] | None = None, **kwargs):
        score_completions_only()
        model = kwargs.get("model")
        start = (
            {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            if isinstance(model, PeftModel)
            else {}
        )
        super().__init__(*args, **kwargs)
        # TRL has rounded an adapter that training goes on from to bf16, and its frozen copy, the reference, not.
        for name, weight in start.items():
            self.model.get_parameter(name).data = weight.float()
        if start:
            # The copy is made anew from where the run starts: checkpoints and the result hold the trained adapter alone.
            self.model.save_pretrained = functools.partial(self.model.save_pretrained, selected_adapters=["default"])
        if on_longest:
            self.add_callback(_LongestFirst(self, on_longest))

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # TRL names its cache after the dataset's history, which holds every key of the recipe, and after the whole model with
        # the adapter's random start. The reference depends on the tokens, the base model and the precision alone.
        tokens = [dataset[f"{part}_ids"][:] for part in ("prompt", "chosen", "rejected")]
        args = self.args
        settings = (args.max_length, args.truncation_mode, args.fp16, args.bf16, args.ld_alpha)
        base = sorted(
            (name, weight)
            for name, weight in self.model.state_dict().items()
            if "lora_" not in name or ".ref." in name
        )
        self._precompute_model_hash = Hasher.hash([(name, _digest(weight)) for name, weight in base])
        content = Hasher.hash((tokens, settings))
        dataset = dataset.select_columns(dataset.column_names, new_fingerprint=content)
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if args.train_sampling_strategy == "group_by_length" and args.length_column_name not in dataset.column_names:
            lengths = [sum(tokens) for tokens in zip(*pair_lengths(dataset, args.max_length), strict=True)]
            dataset = dataset.add_column(args.length_column_name, lengths)
        return dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return _GroupedByLength(sampler, self.args.data_seed or self.args.seed)
        return sampler

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self.args.length_column_name not in self._signature_columns:  # or the sampler would not see the lengths
            self._signature_columns.append(self.args.length_column_name)

    def try_longest(self) -> int:
        """
        Run the longest pairs forward and backward, and leave everything as it was: weights, random state, metrics.

        Returns:
            `int`: the most bytes that this took, with room for the optimizer's state.
        """
        lengths = [max(pair) for pair in zip(*pair_lengths(self.train_dataset, self.args.max_length), strict=True)]
        longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[: self.args.per_device_train_batch_size]
        pairs = [self.train_dataset[i] for i in longest]
        counted, self.current_gradient_accumulation_steps = self._total_train_tokens, 1
        on_card = self.args.device.type == "cuda"
        state = torch.empty(self._bytes_to_come(), dtype=torch.uint8, device=self.args.device)
        if on_card:
            torch.cuda.reset_peak_memory_stats()
        with torch.random.fork_rng(devices=[self.args.device] if on_card else []):
            self.training_step(self.model_wrapped, self.data_collator(pairs))
        peak = peak_memory()
        del state
        self.model.zero_grad()
        self._metrics["train"].clear()
        self._total_train_tokens = counted
        return peak

    def _bytes_to_come(self) -> int:
        """What later steps hold besides: the optimizer's state, and gradients of earlier batches of the same step."""
        trained = sum(local_part(p).numel() for p in self.model.parameters() if p.requires_grad)
        moments = 0 if self.optimizer and self.optimizer.state else 2 if "8bit" in str(self.args.optim) else 8
        return trained * (moments + 4 * (self.args.gradient_accumulation_steps > 1))

    def completion_log_probs(self, dataset: Dataset, use_reference: bool, description: str) -> list[dict[str, float]]:
        """
        Log-probabilities of both answers of every pair.

        Args:
            dataset ([`~datasets.Dataset`]):
                Preference rows, as the trainer was given.
            use_reference (`bool`):
                Whether the reference speaks (the adapter switched off) instead of the model in training.
            description (`str`):
                What the progress bar says.

        Returns:
            `list[dict[str, float]]`: in the order of `dataset`, the sums over the tokens of an answer in nats,
            `chosen_logp` and `rejected_logp`, and the numbers of these tokens, `chosen_tokens` and `rejected_tokens`.
        """
        prepared = self._prepare_dataset(dataset, self.processing_class, self.args, "evaluation")
        if len(prepared) != len(dataset):
            raise ValueError(
                "TRL drops prompts that fill max_length: pass the dataset through drop_long_prompts first"
            )
        prepared = prepared.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
        # Long pairs first: less padding, and a memory error comes at once.
        order = sorted(range(len(prepared)), key=lambda i: -sum(len(ids) for ids in prepared[i].values()))
        # Every process takes as many pairs, some of them twice, because a sharded model computes in all processes at once.
        rounds = -(-len(order) // count())
        order = list(islice(cycle(order), rounds * count()))[self.args.process_index :: count()]
        loader = DataLoader(
            prepared, batch_size=self.args.per_device_eval_batch_size, sampler=order, collate_fn=self.data_collator
        )
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        scored = []
        with torch.no_grad(), disable_gradient_checkpointing(model, self.args.gradient_checkpointing_kwargs):
            for batch in tqdm(loader, desc=description, disable=self.args.disable_tqdm or not is_main()):
                batch = self._prepare_inputs(batch)
                inputs = {key: value for key, value in batch.items() if key != "completion_mask"} | {
                    "use_cache": False
                }
                mask = batch["completion_mask"]
                labels = batch["input_ids"].masked_fill(mask == 0, -100)
                # Plain sums for both: TRL's compute_ref_log_probs would weigh the reference's by ld_alpha.
                # A run that started from an adapter has a frozen copy of it for the reference.
                reference = "ref" if "ref" in model.peft_config else None
                adapter = use_adapter(model, adapter_name=reference) if use_reference else contextlib.nullcontext()
                with adapter, self.accelerator.autocast():
                    log_probs = model(**inputs, labels=labels, fused_lm_head=True).log_probs
                chosen, rejected = log_probs.sum(dim=1).chunk(2)
                chosen_tokens, rejected_tokens = mask[:, 1:].sum(dim=1).chunk(2)
                for values in zip(chosen, rejected, chosen_tokens, rejected_tokens, strict=True):
                    names = ("chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens")
                    scored.append(dict(zip(names, (value.item() for value in values), strict=True)))
        model.train(was_training)
        of_all = dict(gather_object(list(zip(order, scored, strict=True))))
        return [of_all[i] for i in range(len(dataset))]


def _digest(weight: torch.Tensor) -> str:
    """Checksum of a tensor's bytes, whatever its type and place."""
    return hashlib.sha256(weight.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


class _LongestFirst(TrainerCallback):
    """Tries the longest pairs when model and optimizer are ready, so that a lack of memory shows at once and not in an hour."""

    def __init__(self, trainer: PreferenceTrainer, tell: Callable[[int], None]):
        self.trainer, self.tell = trainer, tell

    def on_train_begin(self, args, state, control, **kwargs):
        self.tell(self.trainer.try_longest())


class _GroupedByLength(torch.utils.data.Sampler):
    """
    The same groups of lengths for the same seed and epoch. [`~transformers.trainer_pt_utils.LengthGroupedSampler`] draws from the
    process's random numbers, of which a run that goes on has used others, and would skip and repeat pairs.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int):
        self.sampler, self.seed, self.epoch = sampler, seed, 0

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(self.sampler)
