"""Load a preference dataset from a folder, a file or the Hub."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import datasets
import yaml
from datasets import Dataset, DatasetDict

from ..errors import PreferansError, is_file_problem
from ..files import sha256_of
from ..hub_names import can_be_on_hub, split_revision, unreadable
from .local_files import DATASET_ENDINGS, check_cache, check_lines, check_readable, dataset_files, readable_folder
from .preferences import check_leakage, check_rows


def load_preferences(name: str, config: str | None = None) -> DatasetDict:
    """
    Load a preference dataset from a local folder or file, or from the Hub.

    Args:
        name (`str`): Folder, file, or id of a dataset on the Hub, optionally with `@REVISION`. A single file is the split `train`.
        config (`str`, *optional*): Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        [`PreferansError`]: if there is no such dataset, or it cannot be read.
    """
    if Path(name).exists():
        return _load_local(name, config)
    if not can_be_on_hub(name) or name.lower().endswith(DATASET_ENDINGS):
        home = " '~' is not expanded here: write the whole path." if name.startswith("~") else ""
        address = " Write the id alone, such as NAMESPACE/NAME." if "://" in name else ""
        raise PreferansError(
            f"dataset_name {name}: there is no such file or folder.{home}{address} Build it first (see data_builders/), or correct the name."
        )
    check_cache()
    hub_name, revision = split_revision(name)
    try:
        return datasets.load_dataset(hub_name, name=config, revision=revision)
    except Exception as error:  # datasets raises a dozen types; nearly all mean that the dataset cannot be loaded
        if is_file_problem(error.__cause__ or error):
            raise error.__cause__ or error from None
        raise PreferansError(f"dataset_name {name}: {_config_problem(error) or unreadable(hub_name, error)}") from None


def readable_name(name: str) -> tuple[str, Path]:
    """
    Check a local dataset, and return a folder that `datasets` can read.

    Returns:
        `tuple[str, Path]`: the dataset itself or a copy, see [`~preferans.data.local_files.readable_folder`], and the cache for it.

    Raises:
        [`PreferansError`]: if a text file is not UTF-8 or has `null` as a row, or the cache cannot be written.
    """
    files = dataset_files(name)
    check_lines(files)
    check_cache()
    # datasets (5.2) caches a local folder with a card by its name and not by its content, so that a rebuilt dataset, or another one with
    # the same name, would be read as the old one. So each content has its own cache.
    folder = Path(name) if Path(name).is_dir() else Path(name).parent
    contents = "\n".join(f"{file.relative_to(folder).as_posix()} {sha256_of(file)}" for file in files)
    cache = Path(datasets.config.HF_DATASETS_CACHE, "preferans", hashlib.sha256(contents.encode()).hexdigest())
    return readable_folder(name, files, cache), cache


def _load_local(name: str, config: str | None) -> DatasetDict:
    folder, cache = readable_name(name)
    try:
        return datasets.load_dataset(folder, name=config, cache_dir=str(cache))
    except Exception as error:  # as above
        check_readable(name, dataset_files(name))
        reason = error.__cause__ or error  # a DatasetGenerationError has no reason of its own
        if is_file_problem(reason):
            raise reason from None
        card = " in the header of README.md" if isinstance(reason, yaml.YAMLError) else ""
        if "corresponds to no data" in str(reason):
            raise PreferansError(f"dataset_name {name}: the dataset is empty.") from None
        problem = (
            f"this cannot be read as a dataset ({type(reason).__name__}{card}: {' '.join(str(reason).split()):.300})."
        )
        if isinstance(reason, (TypeError, ValueError)):
            problem += f" Rows may have values of different types: python scripts/check_data.py {name} names them."
        raise PreferansError(f"dataset_name {name}: {_config_problem(error) or problem}") from None


def _config_problem(error: Exception) -> str | None:
    """Name the key if the dataset has other configurations."""
    words = " ".join(str(error).split())
    if "BuilderConfig" in words or "Config name is missing" in words:
        return f"dataset_config names no configuration of it ({words:.300})."
    return None


def missing_splits(wanted: dict[str, str], splits: Collection[str], form: str = "{}: {}") -> str | None:
    """
    Describe splits that a dataset does not have, and what to write instead.

    Args:
        wanted (`dict[str, str]`): Names of the splits by the key or option that sets them.
        splits (`Collection[str]`): Splits that the dataset has.
        form (`str`, *optional*): Form of a key with its value.

    Returns:
        `str` or `None`: the message, or `None` if the dataset has them all.
    """
    missing = {key: name for key, name in wanted.items() if name not in splits}
    if not missing:
        return None
    problem = f"there is no split {' and no split '.join(map(repr, missing.values()))}, only {', '.join(splits)}."
    if len(splits) == 1 and len(wanted) > 1:
        return (
            f"{problem} Hold out pairs for the test: put them into a file test.jsonl, and the others into train.jsonl in the same folder "
            f"({' and '.join(wanted)} name the splits)."
        )
    likely = {key: _likely_split(name, splits) for key, name in missing.items()}
    return f"{problem} Write {' and '.join(repr(form.format(key, name)) for key, name in likely.items())}."


def _likely_split(wanted: str, splits: Collection[str]) -> str:
    if len(splits) == 1:
        return next(iter(splits))
    beginnings = ("train",) if wanted.startswith("train") else ("test", "val", "dev", "eval")
    likely = [name for beginning in beginnings for name in splits if name.lower().startswith(beginning)]
    return min(likely, key=lambda name: "pref" not in name, default="NAME")  # train_prefs, beside train_sft


def load_checked_splits(name: str, config: str | None, train_split: str, test_split: str) -> tuple[Dataset, Dataset]:
    """
    Load a run's two splits and check them.

    Args:
        name (`str`), config (`str`, *optional*): As for [`load_preferences`].
        train_split (`str`), test_split (`str`): Names of the splits.

    Returns:
        `tuple[Dataset, Dataset]`: the training and the test rows.

    Raises:
        [`PreferansError`]: if a split is missing, a row violates the contract, or a tree is in both splits.
    """
    dataset = load_preferences(name, config)
    wanted = {"dataset_train_split": train_split, "dataset_test_split": test_split}
    if missing := missing_splits(wanted, dataset):
        raise PreferansError(f"dataset_name {name}: {missing}")
    for split in wanted.values():
        check_rows(dataset[split], f"{name}, split {split}")
    check_leakage(dataset[train_split], dataset[test_split], name)
    return dataset[train_split], dataset[test_split]
