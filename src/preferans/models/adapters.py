"""LoRA adapters: their base models, and several adapters on one loaded base."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from ..errors import PreferansError
from ..files import read_json, sha256_of
from .trimmed import trimmed_from


class Base(NamedTuple):
    """
    A base model, as known without loading it.

    Attributes:
        name (`str`): Folder or Hub id.
        sha256 (`frozenset[str]`): Checksums of its weights; empty if unknown, as for a model on the Hub.
    """

    name: str
    sha256: frozenset[str]

    def __str__(self) -> str:
        weights = "".join(f", weights {checksum[:12]}…" for checksum in sorted(self.sha256)[:1])
        return f"{self.name}{weights}"

    def differs_from(self, other: "Base") -> bool:
        """Check whether two models are known to differ. A model with a trimmed vocabulary has the layers of the full one."""
        if self.sha256 and self.sha256 == other.sha256:
            return False
        full, others = ((trimmed_from(base.name) or {}).get("source", base.name).rstrip("/") for base in (self, other))
        trimmed = full != self.name.rstrip("/") or others != other.name.rstrip("/")
        if self.sha256 and other.sha256 and not trimmed:
            return True
        return Path(full).name.lower() != Path(others).name.lower()


def base_here(name: str) -> Base:
    """Return the model with this name on this machine."""
    return Base(name, frozenset(_sha256s(name).values()))


@cache
def _sha256s(folder: str) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(Path(folder).glob("*.safetensors"))}


def run_keys(adapter: str | Path) -> dict[str, Any]:
    """Return the keys of the run that trained an adapter; empty if it was trained by another program."""
    path = Path(adapter) / "provenance.json"
    return read_json(path)["keys"] if path.is_file() else {}


def has_tokenizer(adapter: str | Path) -> bool:
    """Check whether an adapter's folder has its own tokenizer, perhaps with a chat template that the base model lacks."""
    return (Path(adapter) / "tokenizer_config.json").is_file()


def base_of(adapter: str | Path) -> Base:
    """
    Return the model that an adapter was trained on, from its run's record or else from peft's.

    Raises:
        [`PreferansError`]: if the folder has no adapter, or the adapter has no record of its base.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (Path(adapter) / name).is_file():
            raise PreferansError(
                f"--adapter {adapter}: this folder has no adapter ({name} is missing). Name the folder of a finished run."
            )
    path = Path(adapter) / "provenance.json"
    if path.is_file():
        model = read_json(path)["model"]
        return Base(model["name"], frozenset(model["weights_sha256"].values()))
    name = read_json(Path(adapter) / "adapter_config.json").get("base_model_name_or_path")
    if not name:
        raise PreferansError(
            f"--adapter {adapter}: its adapter_config.json has no base model. Add it as base_model_name_or_path."
        )
    return Base(name, frozenset())


def check_bases(adapters: list[str], model: str) -> None:
    """
    Check before loading that every adapter was trained on this model.

    Args:
        adapters (`list[str]`): Folders of the adapters.
        model (`str`): Folder or Hub id of the model.

    Raises:
        [`PreferansError`]: names an adapter with another base, and both bases.
    """
    here = base_here(model)
    for adapter in adapters:
        own = base_of(adapter)
        if own.differs_from(here):
            cure = (
                "Create it again with the original command."
                if own.name == model
                else "Remove --model_name_or_path, and use a separate command for adapters of each base."
            )
            raise PreferansError(
                f"--adapter {adapter}: it was trained on the base model {own}, but the model to load is {here}. An adapter does not work "
                f"with other weights. {cure}"
            )


def load_adapter(
    model: PreTrainedModel, adapter: str | Path, name: str = "default", trainable: bool = False
) -> PreTrainedModel:
    """
    Put a LoRA adapter on a loaded base model, beside its other adapters.

    Args:
        model ([`~transformers.PreTrainedModel`]): The base model, or the result of this function for another adapter.
        adapter (`str` or `Path`): Folder of the adapter.
        name (`str`, *optional*, defaults to `"default"`):
            peft's name for it. The first adapter is active until `set_adapter` activates another.
        trainable (`bool`, *optional*, defaults to `False`): Whether its weights are trained further.

    Raises:
        [`PreferansError`]: if the folder has no adapter, or it was trained on another architecture.
    """
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise PreferansError(
            f"--adapter {adapter}: this folder has no adapter_config.json. Name the folder of a finished run."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # an error below
            if isinstance(model, PeftModel):
                model.load_adapter(str(adapter), adapter_name=name, is_trainable=trainable)
            else:
                model = PeftModel.from_pretrained(model, str(adapter), adapter_name=name, is_trainable=trainable)
        with safe_open(Path(adapter) / "adapter_model.safetensors", "pt") as file:
            in_file = {key for key in file.keys() if "lora_" in key}  # noqa: SIM118
        in_model = {
            key
            for key in get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
            if "lora_" in key
        }
        if in_file != in_model:
            raise ValueError(
                f"{len(in_file - in_model)} of its {len(in_file)} tensors do not fit the model, {len(in_model - in_file)} layers have no tensor"
            )
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        own = read_json(Path(adapter) / "adapter_config.json").get("base_model_name_or_path")
        loaded = model.get_base_model() if isinstance(model, PeftModel) else model
        raise PreferansError(
            f"--adapter {adapter}: it does not fit the base model {loaded.name_or_path}; its configuration has the base model {own}. "
            f"({' '.join(str(error).split()):.200})"
        ) from None
    return model
