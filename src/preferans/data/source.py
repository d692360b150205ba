"""Describe the source of a dataset: files with checksums, or a revision on the Hub."""

from pathlib import Path

from ..files import files_below, sha256_of

DATA_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
APACHE_SOURCES = ("OpenAssistant/oasst1", "OpenAssistant/oasst2")


def source_files(source: str | Path) -> list[Path]:
    """List the data files in a folder, or the file itself."""
    path = Path(source)
    if not path.is_dir():
        return [path]
    return [file for file in files_below(path) if file.name.lower().endswith(DATA_ENDINGS)]


def describe_source(source: str, revision: str | None = None) -> tuple[str, str]:
    """
    Describe a source in words that are true on every machine.

    Args:
        source (`str`): File, folder, or id of a dataset on the Hub.
        revision (`str`, *optional*): Revision of a dataset on the Hub.

    Returns:
        `tuple[str, str]`: description with revision or checksums, and the licence as the Hub names it.
    """
    path = Path(source)
    if not path.exists():
        licence, words = ("apache-2.0", "Apache-2.0") if source in APACHE_SOURCES else ("other", "that of the source")
        return f"`{source}` on the Hub, revision `{revision or 'main'}`; licence: {words}", licence
    checksums = ", ".join(
        f"`{file.relative_to(path).as_posix() if path.is_dir() else file.name}` (SHA-256 `{sha256_of(file)}`)"
        for file in source_files(path)
    )
    return f"local files: {checksums}; licence: that of the source", "other"
