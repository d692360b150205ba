"""Read and write files; a written file is complete or absent."""

import codecs
import gzip
import hashlib
import json
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from .errors import PreferansError, did_you_mean, disk_errors

_TOML = "has 'key = value' (TOML or INI); write a colon instead of each '='"
STRAY_FILES = (".DS_Store", "desktop.ini", "Thumbs.db", "thumbs.db", "Desktop.ini")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically, in UTF-8 with Unix line endings."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_mark()}")
    try:
        with disk_errors(path):
            temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def decode_utf8(content: bytes, name: str) -> str:
    """
    Decode UTF-8, with or without a byte order mark.

    Raises:
        [`PreferansError`]: names the file, or the file and line, in `name`.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(name, error) from None


def _not_utf8(name: str, error: UnicodeDecodeError) -> PreferansError:
    high = [byte for byte in error.object[:10_000] if byte >= 0x80]
    encoding = ""
    if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = " It looks like UTF-16."
    elif sum(byte >= 0xE0 for byte in high) > 0.5 * len(high):  # small Russian letters
        encoding = " It looks like Windows-1251."
    return PreferansError(f"{name}: this is not UTF-8 text ({error}).{encoding} Save it as UTF-8.")


def is_stray(path: str | Path) -> bool:
    """Check whether a file manager or an office program left a file in a folder."""
    return Path(path).name in STRAY_FILES or Path(path).name.startswith(("._", "~$", ".~lock."))


def entries(folder: str | Path) -> list[Path]:
    """List what is in a folder, without the files that file managers leave."""
    return [entry for entry in Path(folder).iterdir() if not is_stray(entry)]


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` atomically, as readable JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_jsonl(path: str | Path, rows: list[dict]) -> None:
    """Write `rows` to `path` atomically, one JSON object a line."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: str | Path) -> Any:
    """
    Read a JSON file.

    Raises:
        [`PreferansError`]: if the file is missing or is not JSON.
    """
    try:
        return json.loads(decode_utf8(Path(path).read_bytes(), str(path)))
    except FileNotFoundError:
        raise PreferansError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise PreferansError(f"{path}: this is a folder; a file is needed.") from None
    except (ValueError, RecursionError) as error:
        raise PreferansError(f"{path}: this is not valid JSON ({error}).") from None


def read_jsonl(path: str | Path) -> list[dict]:
    """Read a file of JSON objects, one a line, as a list; see [`iter_jsonl`]."""
    return list(iter_jsonl(path))


def iter_jsonl(path: str | Path) -> Iterator[dict]:
    """Read a file of JSON objects, one a line; see [`numbered_jsonl`]."""
    return (row for _, row in numbered_jsonl(path))


def numbered_jsonl(path: str | Path) -> Iterator[tuple[int, dict]]:
    """
    Read a file of JSON objects, one a line.

    Args:
        path (`str` or `Path`): File in UTF-8, with or without a byte order mark, packed if it ends in `.gz`. Empty lines are skipped.

    Yields:
        `tuple[int, dict]`: the number of a line, from 1, and its object.

    Raises:
        [`PreferansError`]: if the file is missing, or a line is not one JSON object; the message names the line.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
            for number, content in enumerate(file, start=1):
                line = decode_utf8(content, f"{path}, line {number}")
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    cure = (
                        "This looks like one JSON array; write one object a line instead."
                        if number == 1 and line.startswith("[")
                        else "The file may be truncated: download or write it again, or remove the line."
                    )
                    raise PreferansError(f"{path}, line {number}: this is not valid JSON ({error}). {cure}") from None
                if not isinstance(row, dict):
                    raise PreferansError(
                        f"{path}, line {number}: expected a JSON object, got {type(row).__name__}. Write one object a line."
                    )
                yield number, row
    except FileNotFoundError:
        raise PreferansError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise PreferansError(f"{path}: this is a folder; a file is needed.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PreferansError(f"{path}: this archive cannot be unpacked ({error}). Fetch it again.") from None


def sha256_of(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """List the files in a folder and below it, without those that file managers leave."""
    return [file for file in sorted(Path(folder).rglob("*")) if file.is_file() and not is_stray(file)]


def visible_files(folder: str | Path) -> list[Path]:
    """List files as [`files_below`] does, without hidden files and folders."""
    return [
        file
        for file in files_below(folder)
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def checksums(folder: str | Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its relative path, without the files that file managers leave."""
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files_below(folder)}


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """
    Write a folder under a temporary name, and rename it when the block ends without an error.

    Args:
        path (`str` or `Path`): The folder. An existing folder is replaced, unless its files are equal.

    Yields:
        `Path`: the temporary folder to write into.
    """
    path = Path(path).resolve()  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    mark = _mark()
    temporary, old = path.with_name(f".{path.name}.{mark}.new"), path.with_name(f".{path.name}.{mark}.old")
    temporary.mkdir()
    try:
        with disk_errors(path):
            yield temporary
        if path.exists():
            if checksums(temporary) == checksums(path):
                return
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _mark() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _remove_leftovers(path: Path) -> None:
    """Delete, or move back, temporary files of killed processes beside `path`."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"(\d+)-[0-9a-f]{8}(\.new|\.old)?")
    for sibling in list(path.parent.iterdir()):
        match = pattern.fullmatch(sibling.name)
        if not match or psutil.pid_exists(int(match[1])):
            continue
        if match[2] == ".old" and not path.exists():  # killed between the two renames
            os.replace(sibling, path)
        elif match[2]:
            shutil.rmtree(sibling, ignore_errors=True)
        else:
            sibling.unlink(missing_ok=True)


def read_yaml(
    path: str | Path, what: str = "recipe", folder: str = "recipes"
) -> tuple[dict[str, Any], dict[str, int]]:
    """
    Read a recipe or another YAML file with one mapping.

    Args:
        path (`str` or `Path`): The file.
        what (`str`, *optional*, defaults to `"recipe"`): The kind of file, for messages.
        folder (`str`, *optional*, defaults to `"recipes"`): Folder of similar files, which a message lists.

    Returns:
        `tuple[dict, dict]`: values by key, and line numbers by key.

    Raises:
        [`PreferansError`]: if the file is missing, is not YAML or not a mapping, or has a key twice.
    """
    here = sorted(str(file) for file in Path(folder).glob("*.yaml"))
    available = f" Available: {', '.join(here)}." if here else ""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise PreferansError(f"{path}: there is no such {what}.{did_you_mean(str(path), here)}{available}") from None
    except UnicodeDecodeError as error:
        raise _not_utf8(str(path), error) from None
    except IsADirectoryError:
        raise PreferansError(f"{path}: this is a folder; a {what} is a file.{available}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise PreferansError(f"{path}: a {what} has lines 'key: value', and this file {_not_a_mapping(node)}.")
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str":
                raise PreferansError(
                    f"{path}, line {line}: a key must be a plain word such as 'beta', got {yaml_text(key_node)}."
                )
            key = key_node.value
            if key in lines:
                raise PreferansError(
                    f"{path}, line {line}: '{key}' is already set in line {lines[key]}. Keep one of the two."
                )
            lines[key] = line
        return yaml.safe_load(text), lines
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-45
        hint = f" It {_TOML}." if _is_toml(text) else ""
        raise PreferansError(f"{path}: this is not valid YAML ({' '.join(str(error).split())}).{hint}") from None


def _not_a_mapping(node: yaml.Node | None) -> str:
    """Describe a YAML file that is not a mapping, and what to do about it."""
    if node is None:
        return "is empty"
    if isinstance(node, yaml.SequenceNode):
        return "is a list; remove the dashes or brackets around its keys"
    return _TOML if _is_toml(str(node.value)) else "is plain text"


def _is_toml(text: str) -> bool:
    return bool(re.search(r"^\s*\w+\s*=", text, re.MULTILINE))


def yaml_text(node: yaml.Node) -> str:
    """A YAML node as one short line."""
    return repr(node.value if isinstance(node, yaml.ScalarNode) else "…")
