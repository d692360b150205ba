"""Load a preference dataset from a folder or from the Hub."""

import hashlib
import re
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict

from ..errors import PreferansError
from ..files import checksums
from ..hub_names import split_revision
from .preferences import check_leakage, check_rows


def stored_fingerprint(output_dir: str | Path) -> str | None:
    """Read the fingerprint in a dataset folder's card; `None` if the folder has no card, no fingerprint or no parquet files."""
    card = Path(output_dir) / "README.md"
    if not card.is_file() or not any(Path(output_dir, "data").glob("*.parquet")):
        return None
    match = re.search(r"fingerprint: `([0-9a-f]{64})`", card.read_text(encoding="utf-8"))
    return match[1] if match else None


def load_preferences(name: str, config: str | None = None) -> DatasetDict:
    """
    Load a preference dataset from a local folder or from the Hub.

    Args:
        name (`str`): Folder, or id of a dataset on the Hub, optionally with `@REVISION`.
        config (`str`, *optional*): Configuration of the dataset.

    Returns:
        [`~datasets.DatasetDict`]: the splits.

    Raises:
        [`PreferansError`]: if there is no such dataset, or it cannot be read.
    """
    # datasets (5.2) caches a local folder with a card by its name and not by its content, so that a rebuilt dataset, or another one with
    # the same name, would be read as the old one. So each content has its own cache.
    cache = None
    if Path(name).is_dir():
        contents = "\n".join(f"{file} {checksum}" for file, checksum in sorted(checksums(name).items()))
        cache = Path(datasets.config.HF_DATASETS_CACHE, "preferans", hashlib.sha256(contents.encode()).hexdigest())
    hub_name, revision = split_revision(name)
    try:
        return datasets.load_dataset(hub_name, name=config, revision=revision, cache_dir=str(cache) if cache else None)
    except Exception as error:  # datasets raises a dozen types, and all of them mean that the dataset cannot be loaded
        if cache:
            problem = "the folder cannot be read as a dataset"
        elif datasets.config.HF_HUB_OFFLINE:
            problem = (
                "there is no such folder, HF_HUB_OFFLINE is set, and the dataset is not in the cache. Unset HF_HUB_OFFLINE once to "
                "download it"
            )
        else:
            problem = (
                "there is no such folder, and no dataset of that name can be loaded from the Hub. Build it first (see data_builders/), or "
                "correct the name"
            )
        raise PreferansError(
            f"dataset_name {name}: {problem} ({type(error).__name__}: {str(error).strip():.300})."
        ) from None


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
    for split in (train_split, test_split):
        if split not in dataset:
            raise PreferansError(f"dataset_name {name}: there is no split '{split}', only {', '.join(dataset)}.")
        check_rows(dataset[split], f"{name}, split {split}")
    check_leakage(dataset[train_split], dataset[test_split], name)
    return dataset[train_split], dataset[test_split]
