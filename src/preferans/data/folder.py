"""Read a preference dataset from a folder or from the Hub."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import datasets

from ..errors import PreferansError
from ..files import checksums
from ..hub_names import split_revision
from .preferences import check_leakage, check_rows

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def stored_fingerprint(output_dir: str | Path) -> str | None:
    """The fingerprint that a dataset folder's card gives its parquet files, or `None` where either is not there."""
    card = Path(output_dir) / "README.md"
    if not card.is_file() or not any(Path(output_dir, "data").glob("*.parquet")):
        return None
    match = re.search(r"fingerprint: `([0-9a-f]{64})`", card.read_text(encoding="utf-8"))
    return match[1] if match else None


def load_preferences(name: str, config: str | None = None) -> "DatasetDict":
    """
    Load a preference dataset from a local folder or from the Hub.

    Args:
        name (`str`):
            Folder, or id of a dataset on the Hub, which may end in `@REVISION`.
        config (`str`, *optional*):
            Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        [`PreferansError`]: when there is no such dataset, or it cannot be read.
    """

    # datasets (5.2) caches a local folder that has a card by the folder's name, not by what stands in it: a rebuilt dataset, or
    # another one of the same name, would come out of the cache as the old one. So each content gets a cache of its own.
    cache = None
    if Path(name).is_dir():
        contents = "\n".join(f"{file} {checksum}" for file, checksum in sorted(checksums(name).items()))
        cache = Path(datasets.config.HF_DATASETS_CACHE, "preferans", hashlib.sha256(contents.encode()).hexdigest())
    hub_name, revision = split_revision(name)
    try:
        return datasets.load_dataset(hub_name, name=config, revision=revision, cache_dir=str(cache) if cache else None)
    except Exception as error:  # datasets raises a dozen kinds, and each means: not to be had
        place = (
            "the folder is there, but cannot be read as a dataset"
            if Path(name).is_dir()
            else (
                "there is no such folder here, and the Hub does not give a dataset of that name. Build it first (see "
                "data_builders/), or correct the name"
                if not datasets.config.HF_HUB_OFFLINE
                else "there is no such folder here, HF_HUB_OFFLINE is set, and it is not in the cache. Unset that once and load it"
            )
        )
        raise PreferansError(
            f"dataset_name {name}: {place} ({type(error).__name__}: {str(error).strip():.300})."
        ) from None


def load_checked_splits(
    name: str, config: str | None, train_split: str, test_split: str
) -> tuple["Dataset", "Dataset"]:
    """
    Load the two splits a run needs, and check every row and their separation before anything else is loaded.

    Args:
        name (`str`):
            Folder, or id of a dataset on the Hub.
        config (`str`, *optional*):
            Configuration of the dataset.
        train_split (`str`), test_split (`str`):
            Names of the splits.

    Returns:
        `tuple[Dataset, Dataset]`: the training and the test rows.

    Raises:
        [`PreferansError`]: when a split is missing, a row breaks the contract, or a tree stands in both splits.
    """
    dataset = load_preferences(name, config)
    for split in (train_split, test_split):
        if split not in dataset:
            raise PreferansError(f"dataset_name {name}: it has no split '{split}', only {', '.join(dataset)}.")
        check_rows(dataset[split], f"{name}, split {split}")
    check_leakage(dataset[train_split], dataset[test_split], name)
    return dataset[train_split], dataset[test_split]
