"""LoRA adapters on a base model: which base one belongs to, and several on one loaded base."""

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
    A base model as far as it is known without loading it.

    Attributes:
        name (`str`): Folder or Hub id.
        sha256 (`frozenset[str]`): Checksums of its weights; empty where they are not known, as of a model on the Hub.
    """

    name: str
    sha256: frozenset[str]

    def __str__(self) -> str:
        weights = "".join(f", weights {checksum[:12]}…" for checksum in sorted(self.sha256)[:1])
        return f"{self.name}{weights}"

    def differs_from(self, other: "Base") -> bool:
        """Whether the two are known to be different models. One with a trimmed vocabulary has the layers of the full one."""
        if self.sha256 and self.sha256 == other.sha256:
            return False
        full, others = ((trimmed_from(base.name) or {}).get("source", base.name).rstrip("/") for base in (self, other))
        trimmed = full != self.name.rstrip("/") or others != other.name.rstrip("/")
        if self.sha256 and other.sha256 and not trimmed:
            return True
        return Path(full).name.lower() != Path(others).name.lower()


def base_here(name: str) -> Base:
    """The model of that name as it is on this machine."""
    return Base(name, frozenset(_sha256s(name).values()))


@cache
def _sha256s(folder: str) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(Path(folder).glob("*.safetensors"))}


def run_keys(adapter: str | Path) -> dict[str, Any]:
    """Keys of the run that made an adapter; empty for one that another program made."""
    path = Path(adapter) / "provenance.json"
    return read_json(path)["keys"] if path.is_file() else {}


def base_of(adapter: str | Path) -> Base:
    """
    The model that an adapter was trained on, as its run recorded it, or else peft.

    Raises:
        [`PreferansError`]: when there is no adapter in the folder, or it names no base.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (Path(adapter) / name).is_file():
            raise PreferansError(
                f"--adapter {adapter}: there is no adapter in it ({name} is missing). Name the folder of a finished run."
            )
    path = Path(adapter) / "provenance.json"
    if path.is_file():
        model = read_json(path)["model"]
        return Base(model["name"], frozenset(model["weights_sha256"].values()))
    name = read_json(Path(adapter) / "adapter_config.json").get("base_model_name_or_path")
    if not name:
        raise PreferansError(
            f"--adapter {adapter}: its adapter_config.json names no base model. Write it there as base_model_name_or_path."
        )
    return Base(name, frozenset())


def check_bases(adapters: list[str], model: str) -> None:
    """
    Check, before it is loaded, that a model is the one that every adapter was trained on.

    Args:
        adapters (`list[str]`):
            Folders of the adapters.
        model (`str`):
            Folder or Hub id of the model that is to be loaded.

    Raises:
        [`PreferansError`]: names an adapter of another base, and both bases.
    """
    here = base_here(model)
    for adapter in adapters:
        own = base_of(adapter)
        if own.differs_from(here):
            cure = (
                "Make it again with the command that made it."
                if own.name == model
                else "Leave --model_name_or_path out, and give adapters of different bases a command each."
            )
            raise PreferansError(
                f"--adapter {adapter}: it was trained on the base model {own}, and the one to load is {here}. On other weights an adapter "
                f"means nothing. {cure}"
            )


def load_adapter(
    model: PreTrainedModel, adapter: str | Path, name: str = "default", trainable: bool = False
) -> PreTrainedModel:
    """
    Put a LoRA adapter onto a loaded base model, beside those that are on it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The base model, or what this function gave for another adapter.
        adapter (`str` or `Path`):
            Folder of the adapter.
        name (`str`, *optional*, defaults to `"default"`):
            What peft shall call it. The first adapter is the active one until `set_adapter` names another.
        trainable (`bool`, *optional*, defaults to `False`):
            Whether its weights shall be trained further.

    Raises:
        [`PreferansError`]: when there is no adapter in the folder, or it was trained on another architecture.
    """

    if not (Path(adapter) / "adapter_config.json").is_file():
        raise PreferansError(
            f"--adapter {adapter}: there is no adapter_config.json in it. Name the folder of a finished run."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # an error below
            if isinstance(model, PeftModel):
                model.load_adapter(str(adapter), adapter_name=name, is_trainable=trainable)
            else:
                model = PeftModel.from_pretrained(model, str(adapter), adapter_name=name, is_trainable=trainable)
        with safe_open(Path(adapter) / "adapter_model.safetensors", "pt") as file:
            there = {key for key in file.keys() if "lora_" in key}  # noqa: SIM118
        here = {
            key
            for key in get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
            if "lora_" in key
        }
        if there != here:
            raise ValueError(
                f"{len(there - here)} of its {len(there)} tensors have no place in it, {len(here - there)} of its layers have no tensor"
            )
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        own = read_json(Path(adapter) / "adapter_config.json").get("base_model_name_or_path")
        loaded = model.get_base_model() if isinstance(model, PeftModel) else model
        raise PreferansError(
            f"--adapter {adapter}: it does not fit the base model {loaded.name_or_path}; was it trained on another one? It names {own}. "
            f"({' '.join(str(error).split()):.200})"
        ) from None
    return model
