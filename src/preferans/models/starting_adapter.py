"""Where a run starts from: names with a revision, and an adapter instead of a model."""

from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import PreTrainedModel

from ..errors import PreferansError
from ..files import read_json, sha256_of
from ..hub_names import split_revision
from .adapters import check_bases, load_adapter

# Keys of a new adapter, which one that is there already has decided.
ADAPTER_KEYS = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_target_modules": "target_modules",
    "use_dora": "use_dora",
    "use_rslora": "use_rslora",
}


class StartingAdapter(NamedTuple):
    """
    An adapter that training goes on from.

    Attributes:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): On the Hub.
        folder (`Path`): Where it lies on this machine.
        base (`str`): The model it was trained on.
        base_revision (`str`, *optional*): On the Hub.
        keys (`dict`): What a recipe would say of such an adapter.
        sha256 (`str`): Checksum of its weights.
        has_tokenizer (`bool`): Whether a tokenizer lies beside it, perhaps with a chat template that the model lacks.
    """

    name: str
    revision: str | None
    folder: Path
    base: str
    base_revision: str | None
    keys: dict[str, Any]
    sha256: str
    has_tokenizer: bool

    def described(self) -> dict[str, str | None]:
        """What `provenance.json` says of it."""
        return {"adapter": self.name, "revision": self.revision, "sha256": self.sha256}


def with_revision(recipe_keys: dict[str, Any], place: str) -> dict[str, Any]:
    """
    Keys in which `model_name_or_path: NAME@REVISION` stands apart as the two keys that TRL knows.

    Raises:
        [`PreferansError`]: when `model_revision` names another revision.
    """
    name, revision = split_revision(recipe_keys.get("model_name_or_path") or "")
    if revision is None:
        return recipe_keys
    if recipe_keys.get("model_revision", revision) != revision:
        raise PreferansError(
            f"{place}: model_name_or_path says revision {revision} and model_revision says {recipe_keys['model_revision']}. Keep one of them."
        )
    return recipe_keys | {"model_name_or_path": name, "model_revision": revision}


def find_adapter(name: str, revision: str | None = None) -> StartingAdapter | None:
    """
    See whether a name is that of an adapter instead of a model.

    Args:
        name (`str`):
            Folder or Hub id.
        revision (`str`, *optional*):
            On the Hub.

    Returns:
        [`StartingAdapter`] or `None`: `None` for anything that is no adapter.

    Raises:
        [`PreferansError`]: when it is an adapter of a kind that training cannot go on from.
    """
    config = _file_of(name, "adapter_config.json", revision)
    if config is None or _file_of(name, "config.json", revision) is not None:
        return None
    found = read_json(config)
    weights = _file_of(name, "adapter_model.safetensors", revision)
    if found.get("peft_type") != "LORA" or weights is None:
        raise PreferansError(
            f"model_name_or_path {name}: it is an adapter of the kind {found.get('peft_type')}"
            f"{'' if weights else ' without adapter_model.safetensors'}. Training goes on from LoRA adapters in safetensors only."
        )
    if not found.get("base_model_name_or_path"):
        raise PreferansError(
            f"model_name_or_path {name}: its adapter_config.json does not say which model it belongs to."
        )
    keys = {key: found[theirs] for key, theirs in ADAPTER_KEYS.items() if found.get(theirs) is not None}
    return StartingAdapter(
        name,
        revision,
        config.parent,
        found["base_model_name_or_path"],
        found.get("revision"),
        keys,
        sha256_of(weights),
        _file_of(name, "tokenizer_config.json", revision) is not None,
    )


def on_its_base(recipe_keys: dict[str, Any], start: StartingAdapter) -> dict[str, Any]:
    """Keys of a run that goes on from an adapter: its base model, and the adapter's own shape."""
    base = {"model_name_or_path": start.base} | (
        {"model_revision": start.base_revision} if start.base_revision else {}
    )
    return {key: value for key, value in recipe_keys.items() if key != "model_revision"} | base | start.keys


def _file_of(name: str, file: str, revision: str | None) -> Path | None:
    """A file of a model's folder or repository; `None` where it has no such file or cannot be asked."""
    if Path(name).is_dir():
        return Path(name, file) if Path(name, file).is_file() else None

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError):  # what is wrong is recipe_keys where the model itself is read
        return None


def put_on(model: PreTrainedModel, adapter: StartingAdapter) -> PreTrainedModel:
    """
    Put the adapter onto its base model, ready to train. TRL then keeps a frozen copy of it as the reference.

    Raises:
        [`PreferansError`]: when it does not fit.
    """
    try:
        return load_adapter(model, adapter.folder, trainable=True)
    except PreferansError as error:
        raise _of_the_model(error, adapter) from None


def check_base(adapter: StartingAdapter) -> None:
    """
    Check, before it is loaded, that the model an adapter belongs to is the one that it was trained on.

    Raises:
        [`PreferansError`]: when it has other weights now.
    """
    try:
        check_bases([str(adapter.folder)], adapter.base)
    except PreferansError as error:
        raise _of_the_model(error, adapter) from None


def _of_the_model(error: PreferansError, adapter: StartingAdapter) -> PreferansError:
    """The error under the name that a recipe gives the adapter."""
    return PreferansError(str(error).replace(f"--adapter {adapter.folder}", f"model_name_or_path {adapter.name}"))
