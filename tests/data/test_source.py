import pytest

from preferans.data.source import describe_source, source_files
from preferans.files import sha256_of


@pytest.mark.parametrize(
    ("source", "words", "licence"),
    [
        (
            "OpenAssistant/oasst1",
            "`OpenAssistant/oasst1` on the Hub, revision `main`; licence: Apache-2.0",
            "apache-2.0",
        ),
        ("some/pairs", "`some/pairs` on the Hub, revision `main`; licence: that of the source", "other"),
    ],
)
def test_describes_a_dataset_on_the_hub(source, words, licence):
    assert describe_source(source) == (words, licence)
    assert describe_source(source, "v1")[0] == words.replace("main", "v1")


def test_describes_files_by_their_checksums(tmp_path):
    (tmp_path / "deeper").mkdir()
    files = [tmp_path / "a.jsonl", tmp_path / "deeper" / "b.parquet"]
    for file in (*files, tmp_path / "notes.txt", tmp_path / "._a.jsonl"):
        file.write_text(file.name, encoding="utf-8")
    assert source_files(tmp_path) == files
    first, second = (f"(SHA-256 `{sha256_of(file)}`)" for file in files)
    assert describe_source(str(tmp_path)) == (
        f"local files: `a.jsonl` {first}, `deeper/b.parquet` {second}; licence: that of the source",
        "other",
    )
    assert describe_source(str(files[1]))[0].startswith(f"local files: `b.parquet` {second}")
