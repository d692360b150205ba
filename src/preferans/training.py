"""
DPO on a small card: TRL's trainer with adapters in fp32 and a guard against numbers that are none.

[Direct Preference Optimization](https://huggingface.co/papers/2305.18290) and
[QLoRA](https://huggingface.co/papers/2305.14314) are TRL's and PEFT's work; this module holds what a 4 GB card without bf16
needs besides.
"""

import dataclasses
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerState,
)
from trl import DPOTrainer, ModelConfig, get_quantization_config
from trl.models.utils import disable_gradient_checkpointing

from .errors import PreferansError, TrainingDiverged
from .files import read_json, sha256_of, write_json, write_text
from .hardware import Device

PACKAGES = ("torch", "trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "preferans")
# The scaler starts at 65,536 and halves at each skipped step: after this many it has gone below any useful scale.
MAX_SKIPPED_STEPS = 25


@dataclasses.dataclass
class PreferansArguments:
    """
    Keys of a recipe that TRL's DPO script does not know.

    Args:
        chat_template_path (`str`, *optional*):
            Jinja file with the chat template, for a base model that has none.
    """

    chat_template_path: str | None = dataclasses.field(
        default=None, metadata={"help": "Jinja file with the chat template, for a base model that has none."}
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
    return (
        f"model_name_or_path {name}: the model cannot be loaded ({' '.join(str(error).split()):.300}). Check the name; a gated "
        "model (Llama) also needs access granted on its page and `hf auth login`."
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
    try:
        AutoConfig.from_pretrained(model_args.model_name_or_path, revision=model_args.model_revision)
        model = AutoModelForCausalLM.from_pretrained(
            model_args.model_name_or_path,
            revision=model_args.model_revision,
            dtype=model_args.dtype if model_args.dtype in ("auto", None) else getattr(torch, model_args.dtype),
            attn_implementation=model_args.attn_implementation,
            quantization_config=quantization,
            device_map={"": 0 if device.kind == "cuda" else "cpu"},
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


class PreferenceTrainer(DPOTrainer):
    """
    [`~trl.DPOTrainer`] whose adapters train in fp32 and which stops at the first number that is none.

    TRL casts the adapters of a quantized model to bf16 (`DPOTrainer.__init__`, "When using QLoRA"). There a gradient scaler
    cannot unscale them (trl#4901), and at DPO's small learning rates most updates are rounded away. They are cast back here,
    before the optimizer exists.

    Takes the arguments of [`~trl.DPOTrainer`].
    """

    def __init__(self, *args, **kwargs):
        score_completions_only()
        super().__init__(*args, **kwargs)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.add_callback(_NumberGuard(self))
        self.add_callback(_StopOnInterrupt())

    def training_step(self, model, inputs, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        value = loss.item()
        if value != value or abs(value) == float("inf"):
            raise TrainingDiverged(
                f"The loss is {value} in step {self.state.global_step + 1}. {self._last_good_state()} The usual causes: weights "
                "or activations that overflow in fp16 (Gemma does; use dtype: float32), or a learning rate far too high."
            )
        if value == 0.0:
            raise TrainingDiverged(
                f"The loss is exactly 0 in step {self.state.global_step + 1}, so nothing is learned. {self._last_good_state()} The "
                "usual causes: fp16 weights whose log-probabilities overflowed, a beta or learning rate far too high, or answers "
                "cut away by max_length."
            )
        return loss

    def train_from(self, checkpoint: str | None) -> dict[str, float]:
        """
        Train from the start or from a checkpoint, and do nothing where the checkpoint is that of the last step: there
        [`~transformers.Trainer`] would take a step too many.

        Args:
            checkpoint (`str`, *optional*):
                Folder of a complete checkpoint.

        Returns:
            `dict[str, float]`: the trainer's metrics of this session.
        """
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json")))
            if state.global_step >= state.max_steps:
                print(f"Training was finished in {checkpoint}.")
                self.state = state
                self._load_from_checkpoint(checkpoint)
                return {}
            print(f"Going on from {checkpoint}.")
        return self.train(resume_from_checkpoint=checkpoint).metrics

    def _last_good_state(self) -> str:
        """Save the state before the bad step, unless a checkpoint of it is there, and say where it lies."""
        if self.state.global_step == 0:
            return "No step was completed, so there is nothing to keep."
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if not is_complete(folder):
            self._save_checkpoint(self.model, trial=None)
        return f"The state before it is kept in {folder}."

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
        loader = DataLoader(
            prepared, batch_size=self.args.per_device_eval_batch_size, sampler=order, collate_fn=self.data_collator
        )
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        scored = []
        with torch.no_grad(), disable_gradient_checkpointing(model, self.args.gradient_checkpointing_kwargs):
            for batch in tqdm(loader, desc=description, disable=self.args.disable_tqdm):
                batch = self._prepare_inputs(batch)
                inputs = {key: value for key, value in batch.items() if key != "completion_mask"} | {
                    "use_cache": False
                }
                mask = batch["completion_mask"]
                if use_reference:
                    chosen, rejected = self.compute_ref_log_probs(model, batch)
                else:
                    labels = batch["input_ids"].masked_fill(mask == 0, -100)
                    with self.accelerator.autocast():
                        chosen, rejected = (
                            model(**inputs, labels=labels, fused_lm_head=True).log_probs.sum(dim=1).chunk(2)
                        )
                chosen_tokens, rejected_tokens = mask[:, 1:].sum(dim=1).chunk(2)
                for values in zip(chosen, rejected, chosen_tokens, rejected_tokens, strict=True):
                    names = ("chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens")
                    scored.append(dict(zip(names, (value.item() for value in values), strict=True)))
        model.train(was_training)
        return [row for _, row in sorted(zip(order, scored, strict=True), key=lambda item: item[0])]

    def create_model_card(self, *args, **kwargs) -> None:
        """TRL's card names a licence called "license" and a model called None; `dpo.py` writes the run's own card."""


class _NumberGuard(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights, or such weights reach a checkpoint."""

    def __init__(self, trainer: PreferenceTrainer):
        self.trainer = trainer
        self.skipped_steps = 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            self.skipped_steps = 0
            return
        # With fp16 the scaler meets such gradients by skipping the step and halving its scale; only many in a row are a fault.
        self.skipped_steps += 1
        if self.trainer.accelerator.scaler is not None and self.skipped_steps < MAX_SKIPPED_STEPS:
            print(
                f"Step {state.global_step + 1} is skipped: a gradient overflowed fp16, and the scaler lowers its scale."
            )
            return
        raise TrainingDiverged(
            f"A gradient is not a number in step {state.global_step + 1}. {self.trainer._last_good_state()} The usual causes: "
            "activations that overflow in fp16, or a learning rate far too high."
        )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                # This state must not be saved: the checkpoint before it is the last good one.
                raise TrainingDiverged(
                    f"The weights of {name} are no longer numbers after step {state.global_step}. Earlier checkpoints in "
                    f"{args.output_dir} are untouched. The usual cause: an optimizer whose epsilon vanishes in half precision, or a "
                    "learning rate far too high."
                )


class _StopOnInterrupt(TrainerCallback):
    """At Ctrl-C, finishes the step, saves a checkpoint and stops; a second Ctrl-C stops at once."""

    def __init__(self):
        self.asked = False
        self.previous = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(signal.SIGINT, self.previous)
        print("\nStopping after this step; once more Ctrl-C stops at once.", file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGINT, self.previous)
        if self.asked:
            raise KeyboardInterrupt


# rng_state.pth, or rng_state_0.pth and so on with several processes
CHECKPOINT_FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state*.pth",
    "trainer_state.json",
)


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint folder was written to its end, so that training can go on from it."""
    if not all(any(checkpoint.glob(name)) for name in CHECKPOINT_FILES):
        return False
    try:
        read_json(checkpoint / "trainer_state.json")  # written last
    except PreferansError:
        return False
    return True


def last_checkpoint(output_dir: str | Path) -> str | None:
    """
    Newest complete checkpoint of a run. Folders that a kill left half-written are passed over.

    Args:
        output_dir (`str` or `Path`):
            Folder of the run.

    Returns:
        `str` or `None`: path of the checkpoint.
    """
    folders = [folder for folder in Path(output_dir).glob("checkpoint-*") if folder.name.split("-")[1].isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name.split("-")[1]), reverse=True):
        if is_complete(folder):
            return str(folder)
    return None


LOCK_NAME = "process.json"


@contextmanager
def only_process(output_dir: str | Path) -> Iterator[None]:
    """
    Keep a second process out of a run's folder: after Ctrl-C the launcher is gone before the training process has saved.

    Args:
        output_dir (`str` or `Path`):
            Folder of the run.

    Raises:
        [`PreferansError`]: when another living process works in the folder.
    """
    import psutil

    lock = Path(output_dir) / LOCK_NAME
    if lock.exists():
        holder = read_json(lock)
        try:
            alive = psutil.Process(holder["pid"]).create_time() == holder["created"]
        except psutil.NoSuchProcess:
            alive = False
        if alive:
            raise PreferansError(
                f"output_dir {output_dir}: process {holder['pid']} is still at work in it. Wait until it has saved its checkpoint, "
                "or end it."
            )
    write_json(lock, {"pid": os.getpid(), "created": psutil.Process().create_time()})
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def provenance(recipe: str | None, said: dict[str, Any], dataset: dict[str, Any], seed: int) -> dict[str, Any]:
    """
    Where a run comes from: all that is needed to make it again.

    Args:
        recipe (`str`, *optional*):
            Path of the recipe.
        said (`dict`):
            Every key that the recipe or the command line sets.
        dataset (`dict`):
            Name, fingerprint and sizes of the dataset.
        seed (`int`):
            Seed of the run.

    Returns:
        `dict`: ready for JSON.
    """
    model_name = said.get("model_name_or_path", "")
    template = said.get("chat_template_path")
    weights = sorted(Path(model_name).glob("*.safetensors")) if Path(model_name).is_dir() else []
    return {
        "recipe": recipe,
        "keys": dict(sorted(said.items())),
        "dataset": dataset,
        "model": {
            "name": model_name,
            "revision": said.get("model_revision", "main") if not weights else None,
            "weights_sha256": {file.name: sha256_of(file) for file in weights},
        },
        "chat_template_sha256": sha256_of(template) if template and Path(template).is_file() else None,
        "seed": seed,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _git_commit() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def check_run_dir(output_dir: str | Path, run: dict[str, Any]) -> None:
    """
    Check that a run's folder is free, or already holds the same run, so that two runs never mix.

    Args:
        output_dir (`str` or `Path`):
            Folder of the run.
        run (`dict`):
            See [`provenance`].

    Raises:
        [`PreferansError`]: when the folder holds another run, or something that is no run.
    """
    path = Path(output_dir) / "provenance.json"
    if not path.exists():
        if Path(output_dir).exists() and {entry.name for entry in Path(output_dir).iterdir()} - {LOCK_NAME}:
            raise PreferansError(f"output_dir {output_dir}: the folder is not empty and holds no run. Name a new one.")
        return
    old = read_json(path)
    keys = sorted(set(old["keys"]) | set(run["keys"]))
    differences = [
        f"{key}: {old['keys'].get(key)!r} there, {run['keys'].get(key)!r} here"
        for key in keys
        if old["keys"].get(key) != run["keys"].get(key)
    ]
    differences += [
        f"{what}: another content than then"
        for what, same in (
            ("dataset_name", old["dataset"]["fingerprint"] == run["dataset"]["fingerprint"]),
            ("model_name_or_path", old["model"]["weights_sha256"] == run["model"]["weights_sha256"]),
            ("chat_template_path", old["chat_template_sha256"] == run["chat_template_sha256"]),
        )
        if not same
    ]
    if differences:
        raise PreferansError(
            f"output_dir {output_dir}: the folder holds a run of another recipe ({'; '.join(differences)}). Name another "
            "output_dir, or delete the folder."
        )


def write_run_card(output_dir: str | Path, run: dict[str, Any], summary: str) -> None:
    """
    Write the `README.md` of a run.

    Args:
        output_dir (`str` or `Path`):
            Folder of the run.
        run (`dict`):
            See [`provenance`].
        summary (`str`):
            Lines on what was measured.
    """
    write_text(
        Path(output_dir) / "README.md",
        f"""---
base_model: {run["model"]["name"]}
library_name: peft
pipeline_tag: text-generation
tags: [dpo, lora, preferans]
---
# A LoRA adapter trained with Preferans

Base model: `{run["model"]["name"]}`, whose licence also covers this adapter. Dataset: `{run["dataset"]["name"]}`, fingerprint
`{run["dataset"]["fingerprint"]}`. Recipe: `{run["recipe"]}`; every key, version and checksum is in `provenance.json`.

{summary}
""",
    )
