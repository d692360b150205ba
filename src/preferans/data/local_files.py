"""Local dataset files: names and separators that `datasets` cannot read, and what is wrong with a file."""

import csv
import gzip
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import datasets
import pandas
import pyarrow.parquet as pq
from filelock import FileLock

from ..errors import PreferansError
from ..files import decode_utf8, new_folder, numbered_jsonl, read_json, visible_files

TEXT_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", "readme.md")
DATASET_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz")
SPLIT_NAMES = ("train", "validation", "test")
SEPARATORS = (";", "\t")
GLOB_CHARACTERS = re.compile(r"[\[\]*?]")


def dataset_files(name: str | Path) -> list[Path]:
    """
    List the files of a local dataset, which is a folder or a single file, without hidden ones.

    Raises:
        [`PreferansError`]: if a single file has another ending.
    """
    path = Path(name)
    if path.is_dir():
        return visible_files(path)
    if not path.name.lower().endswith(DATASET_ENDINGS):
        raise PreferansError(
            f"dataset_name {name}: a file must end in {', '.join(DATASET_ENDINGS)}. Convert it to JSON lines with prompt, chosen and rejected."
        )
    return [path]


def check_lines(files: list[Path]) -> None:
    """
    Check what `datasets` does not: text files are UTF-8, and no row of JSON lines is `null`, which ends pyarrow's process.

    Raises:
        [`PreferansError`]: names the file and the line.
    """
    for file in files:
        name = file.name.lower()
        packed = name.endswith(".gz")
        if not name.removesuffix(".gz").endswith(TEXT_ENDINGS):
            continue
        with suppress(EOFError, gzip.BadGzipFile, zlib.error), (gzip.open if packed else open)(file, "rb") as opened:
            begun = False
            for number, line in enumerate(opened, start=1):
                text = decode_utf8(line, f"{file}, line {number}").lstrip()
                if ".json" in name and text.startswith("null") and (".jsonl" in name or not begun):
                    raise PreferansError(f"{file}, line {number}: expected a JSON object, got null. Remove the line.")
                begun = begun or bool(text)


def readable_folder(name: str, files: list[Path], cache: Path) -> str:
    """
    Return a folder that `datasets` can read: the dataset itself or a copy.

    A single file is copied, and so is a folder with `[`, `*` or capital letters in its names, or with CSV files that are separated by
    semicolons or tabs.

    Args:
        name (`str`): The dataset.
        files (`list[Path]`): Its files.
        cache (`Path`): Folder for the copy; it depends on the content.
    """
    path = Path(name)
    single = path.is_file()
    old = {
        file: "train" + "".join(file.suffixes[-2:]) if single else file.relative_to(path).as_posix() for file in files
    }
    new = {file: _clean_name(clean) for file, clean in old.items()}
    separators = {file: separator for file in files if (separator := _other_separator(file))}
    if not single and not separators and old == new and not GLOB_CHARACTERS.search(str(path.resolve())):
        return name
    same = next((file for file in files if list(new.values()).count(new[file]) > 1), None)
    if same:
        raise PreferansError(
            f"dataset_name {name}: {old[same]} differs from another file only in capital letters or brackets. Rename one."
        )
    # Not in the cache itself, where datasets puts its own folder of the same name. The processes of a run copy at the same time.
    copy = cache / "copy" / "dataset"
    with FileLock(f"{cache}.lock"), new_folder(copy) as folder:
        for file, clean in new.items():
            target = folder / clean
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in separators:
                _write_with_commas(file, separators[file], target)
            else:
                shutil.copy2(file, target)
    return str(copy)


def _clean_name(name: str) -> str:
    """Return a name without characters of a pattern, and with its ending and the name of a split in lower case."""
    ending = next((ending for ending in DATASET_ENDINGS if name.lower().endswith(ending)), "")
    stem = GLOB_CHARACTERS.sub("_", name[: len(name) - len(ending)])
    return (stem.lower() if stem.lower() in SPLIT_NAMES else stem) + ending


def _other_separator(file: Path) -> str | None:
    """Find the separator of a CSV file whose header has no comma."""
    if file.suffix.lower() != ".csv":
        return None
    with open(file, encoding="utf-8-sig") as opened:
        header = opened.readline()
    return next((separator for separator in SEPARATORS if separator in header and "," not in header), None)


def _write_with_commas(file: Path, separator: str, target: Path) -> None:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with (
        open(file, encoding="utf-8-sig", newline="") as source,
        open(target, "w", encoding="utf-8", newline="") as out,
    ):
        csv.writer(out).writerows(csv.reader(source, delimiter=separator))


def check_cache() -> None:
    """
    Check that the cache of `datasets` can be written.

    Raises:
        [`PreferansError`]: names the folder and the variable that moves it.
    """
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe = cache / ".preferans-probe"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise PreferansError(
            f"HF_DATASETS_CACHE {cache}: the cache of datasets cannot be written ({error.strerror}). Set HF_DATASETS_CACHE, or HF_HOME for "
            "all caches, to a folder of your own with free space."
        ) from None


def check_readable(name: str, files: list[Path]) -> None:
    """
    Find the file that keeps a dataset from being read.

    Raises:
        [`PreferansError`]: names the file, and the line if there is one.
    """
    data = [file for file in files if file.name.lower().endswith((*DATASET_ENDINGS, ".arrow"))]
    if not data:
        raise PreferansError(f"dataset_name {name}: the folder has no file that ends in {', '.join(DATASET_ENDINGS)}.")
    for file in data:
        with open(file, "rb") as opened:
            start = opened.read(64).lstrip().lower()
        if not start:
            raise PreferansError(f"{file}: the file is empty. Remove it, or write it again.")
        if start.startswith(b"version https://git-lfs"):
            raise PreferansError(
                f"{file}: this is a pointer of Git LFS and not the data. Fetch the data: git lfs pull."
            )
        if start.startswith((b"<!doctype", b"<html")):
            raise PreferansError(f"{file}: this is a web page. Download the file itself.")
        for _ in _rows(file):
            pass


def _rows(file: Path) -> Iterator[object]:
    try:
        if file.suffix == ".arrow":
            return
        if file.suffix.lower() == ".parquet":
            yield from pq.ParquetFile(file).iter_batches()
        elif ".csv" in file.name.lower() or ".tsv" in file.name.lower():
            yield pandas.read_csv(file, sep="\t" if ".tsv" in file.name.lower() else ",")
        elif file.suffix.lower() == ".json" and _is_array(file):
            yield read_json(file)
        else:
            yield from numbered_jsonl(file)
    except (OSError, ValueError, EOFError) as error:  # those of pyarrow and pandas are such errors
        raise PreferansError(
            f"{file}: this file cannot be read ({' '.join(str(error).split()):.200}). Write or download it again."
        ) from None


def _is_array(file: Path) -> bool:
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        return opened.read(1000).lstrip().startswith("[")
