import codecs

import pandas as pd
import pytest

from preferans.data.ratings import export_files, read_ratings
from preferans.errors import PreferansError
from preferans.people.export import EXPORTS, check_export, export_ratings

from ..support.ratings import judgement, scores


@pytest.mark.parametrize("suffix", EXPORTS)
def test_every_format_comes_back_the_same(tmp_path, suffix):
    judgements = [
        judgement("Анна", "a1", 1, comment='Да; «так»,\nи "иначе"', seconds=3.5, marks=True),
        judgement("7", None, 2, scores=scores(a1=20)),
        judgement("Борис", "tie", 3, thumbs={"a1": "up", "a2": "up"}, seconds=1.0),
    ]
    export_ratings(judgements, tmp_path / "new" / f"ratings{suffix}")
    assert read_ratings(export_files([tmp_path / "new"])) == judgements


def test_a_csv_file_opens_in_excel(tmp_path):
    export_ratings([judgement()], tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_bytes().startswith(codecs.BOM_UTF8)
    assert pd.read_csv(tmp_path / "r.csv")["rater"].tolist() == ["anna"]


def test_other_endings_are_an_error():
    with pytest.raises(PreferansError, match=r"--export r\.xlsx: the file must end in \.jsonl, \.csv, \.parquet"):
        check_export("r.xlsx")
