import json

import pytest

from preferans.data.corpus import read_texts
from preferans.errors import PreferansError
from preferans.files import write_jsonl

from ..support.rows import preference


def test_reads_the_texts_of_lines_and_of_datasets(tmp_path, preference_folder):
    lines = tmp_path / "texts.txt"
    lines.write_text("\ufeffПервый текст.\n\nВторой.\n", encoding="utf-8")
    assert read_texts(str(lines)) == ["Первый текст.", "Второй."]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "x", "text": "половина \ud83d"}) + "\n", encoding="utf-8")
    assert read_texts(str(rows)) == ["половина \ufffd"]
    texts = read_texts(str(preference_folder))
    assert len(texts) == 8 * 3
    assert preference(0)["prompt"][0]["content"] in texts and preference(7)["rejected"][0]["content"] in texts
    write_jsonl(rows, [{"id": "x", "lang": "ru"}])
    with pytest.raises(PreferansError, match="it has no texts"):
        read_texts(str(rows))
    with pytest.raises(PreferansError, match=r"--corpus .*absent\.txt"):
        read_texts(str(tmp_path / "absent.txt"))
    lines.write_bytes(b"\xcf\xf0")
    with pytest.raises(PreferansError, match="--corpus: .*this is not UTF-8 text"):
        read_texts(str(lines))
