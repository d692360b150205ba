"""The record of a trimmed vocabulary."""

from preferans.files import write_json
from preferans.models.trimmed import RECORD_NAME, trimmed_from, trimming_in_words

RECORD = {"source": "org/model", "tokens_before": 128_256, "tokens_after": 32_768}


def test_a_model_without_a_record_has_its_full_vocabulary(tmp_path):
    assert trimmed_from(tmp_path) is None and trimming_in_words(tmp_path) == ""


def test_the_record_in_words(tmp_path):
    write_json(tmp_path / RECORD_NAME, RECORD)
    assert trimmed_from(tmp_path) == RECORD
    assert trimming_in_words(tmp_path) == (
        " The adapter was trained with a vocabulary trimmed from that of `org/model`, 32,768 of 128,256 tokens, and fits the full model: "
        "scripts/merge.py."
    )


def test_a_merged_model_needs_the_merged_adapters(tmp_path):
    write_json(tmp_path / RECORD_NAME, RECORD | {"merged_with": ["runs/sft"]})
    assert "fits the full model once it has that of `runs/sft` as well" in trimming_in_words(tmp_path)
