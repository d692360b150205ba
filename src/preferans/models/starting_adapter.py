"""The start of a run: model names with a revision, and adapters that training continues."""

from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import PreTrainedModel

from ..errors import PreferansError
from ..files import read_json, sha256_of
from ..hub_names import split_revision
from .adapters import check_bases, load_adapter

# Keys of a new adapter, by their names in an existing adapter's configuration.
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
    An adapter that training continues.

    Attributes:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): Revision on the Hub.
        folder (`Path`): Its folder on this machine.
        base (`str`): The model it was trained on.
        base_revision (`str`, *optional*): The model's revision on the Hub.
        keys (`dict`): A recipe's keys for such an adapter.
        sha256 (`str`): Checksum of its weights.
        has_tokenizer (`bool`): Whether it has its own tokenizer, perhaps with a chat template that the model lacks.
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
        """Return its entry in `provenance.json`."""
        return {"adapter": self.name, "revision": self.revision, "sha256": self.sha256}


def with_revision(recipe_keys: dict[str, Any], location: str) -> dict[str, Any]:
    """
    Split `model_name_or_path: NAME@REVISION` into TRL's two keys.

    Raises:
        [`PreferansError`]: if `model_revision` is another revision.
    """
    name, revision = split_revision(recipe_keys.get("model_name_or_path") or "")
    if revision is None:
        return recipe_keys
    if recipe_keys.get("model_revision", revision) != revision:
        raise PreferansError(
            f"{location}: model_name_or_path has revision {revision}, but model_revision is {recipe_keys['model_revision']}. Keep one of them."
        )
    return recipe_keys | {"model_name_or_path": name, "model_revision": revision}


def find_adapter(name: str, revision: str | None = None) -> StartingAdapter | None:
    """
    Return the adapter with this name (folder or Hub id), or `None` if it is not an adapter.

    Raises:
        [`PreferansError`]: if training cannot continue an adapter of its kind.
    """
    config = _file_of(name, "adapter_config.json", revision)
    if config is None or _file_of(name, "config.json", revision) is not None:
        return None
    found = read_json(config)
    weights = _file_of(name, "adapter_model.safetensors", revision)
    if found.get("peft_type") != "LORA" or weights is None:
        raise PreferansError(
            f"model_name_or_path {name}: it is an adapter of the kind {found.get('peft_type')}"
            f"{'' if weights else ' without adapter_model.safetensors'}. Training can continue LoRA adapters in safetensors only."
        )
    for key, plain in (("trainable_token_indices", None), ("bias", "none")):
        if found.get(key, plain) not in (plain, [], {}):
            raise PreferansError(
                f"model_name_or_path {name}: its adapter_config.json has {key}, and training can continue LoRA layers only. Merge the adapter "
                "into its base model first, or start from the base model."
            )
    if not found.get("base_model_name_or_path"):
        raise PreferansError(f"model_name_or_path {name}: its adapter_config.json has no base_model_name_or_path.")
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
    """Replace the keys of the model by the adapter's base model and the adapter's shape."""
    base = {"model_name_or_path": start.base} | (
        {"model_revision": start.base_revision} if start.base_revision else {}
    )
    return {key: value for key, value in recipe_keys.items() if key != "model_revision"} | base | start.keys


def _file_of(name: str, file: str, revision: str | None) -> Path | None:
    """Return a file of a model's folder or repository, or `None` if it is missing or cannot be downloaded."""
    if Path(name).is_dir():
        return Path(name, file) if Path(name, file).is_file() else None

    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError):  # the error is reported when the model itself is loaded
        return None


def put_on(model: PreTrainedModel, adapter: StartingAdapter) -> PreTrainedModel:
    """
    Put the adapter on its base model, trainable. TRL keeps a frozen copy of it as the reference.

    Raises:
        [`PreferansError`]: if it does not fit.
    """
    try:
        return load_adapter(model, adapter.folder, trainable=True)
    except PreferansError as error:
        raise _of_the_model(error, adapter) from None


def check_base(adapter: StartingAdapter) -> None:
    """
    Check before loading that the adapter's base model still has the weights it was trained on.

    Raises:
        [`PreferansError`]: if the weights have changed.
    """
    try:
        check_bases([str(adapter.folder)], adapter.base)
    except PreferansError as error:
        raise _of_the_model(error, adapter) from None


def _of_the_model(error: PreferansError, adapter: StartingAdapter) -> PreferansError:
    """Return the error with the adapter's name in the recipe."""
    return PreferansError(str(error).replace(f"--adapter {adapter.folder}", f"model_name_or_path {adapter.name}"))
