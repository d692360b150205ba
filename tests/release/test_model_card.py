"""The card of an adapter: terms, results, limits, and example code that runs."""

import re

import pytest
import torch

from preferans.files import read_json, write_json
from preferans.release.model_card import card_metadata, licence_of, model_card, portable

from ..support.loophub.cards import check_card
from ..support.runs import on_base


class TestCards:
    @pytest.mark.parametrize(
        "base, licence, notice",
        [
            ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2", "Built with Llama."),
            ("google/gemma-3-270m", "gemma", "Gemma Terms of Use"),
            ("ai-forever/rugpt3medium_based_on_gpt2", "other", ""),
        ],
    )
    def test_the_header_has_base_model_licence_and_results(self, things, tmp_path, base, licence, notice):
        text = model_card(on_base(things["run"], tmp_path / "run", base), "alice/run")
        assert check_card(text, "model") == ([], [])
        head = card_metadata(text)
        assert (head["license"], head["base_model"], head["datasets"]) == (licence, base, ["alice/pairs"])
        assert (head["library_name"], head["base_model_relation"]) == ("peft", "adapter")
        [result] = head["model-index"][0]["results"]
        tested = read_json(things["run"] / "all_results.json")
        values = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert values["test_normalised_accuracy_after"] == pytest.approx(
            tested["test_normalised_accuracy_after"], abs=1e-4
        )
        assert notice in text and f'from_pretrained("{base}"' in text and 'from_pretrained(base, "alice/run")' in text
        assert licence_of(base)[0] == licence
        assert "revision `" + "a" * 40 in text

    @pytest.mark.parametrize(
        "base, licence",
        [
            ("unsloth/Llama-3.2-1B-Instruct", "llama3.2"),
            ("meta-llama/Meta-Llama-3.1-8B", "llama3.1"),
            ("Vikhrmodels/Vikhr-Llama-3.2-1B-Instruct", "llama3.2"),
            ("unsloth/gemma-3-1b-it", "gemma"),
            ("google/gemma-2b", "gemma"),
            ("google/gemma-3n-E2B", "gemma"),
            ("google/gemma-4-E2B-it", "other"),  # Apache 2.0
            ("meta-llama/Meta-Llama-3-8B", "other"),
            (None, "other"),
        ],
    )
    def test_the_licence_follows_the_model_in_any_namespace(self, base, licence):
        assert licence_of(base)[0] == licence

    def test_the_example_code_runs(self, things, tiny_llama, tmp_path):
        """The first block of the card's code, on this machine's folders."""
        text = model_card(things["run"])
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        code = code.replace('from_pretrained("' + tiny_llama.name, f'from_pretrained("{tiny_llama}').replace(
            "max_new_tokens=150", "max_new_tokens=3"
        )
        exec(compile(code, "card", "exec"), {})

    @pytest.mark.parametrize("nested", [True, False])
    def test_the_4_bit_example_has_the_settings_of_the_run(self, run, tmp_path, nested):
        folder = on_base(run, tmp_path / "run", "meta-llama/Llama-3.2-1B-Instruct")
        origin = read_json(folder / "provenance.json")
        origin["keys"] |= {"load_in_4bit": True, "dtype": "float16", "use_bnb_nested_quant": nested}
        write_json(folder / "provenance.json", origin)
        code = re.search(r"```python\n(.*?)```", model_card(folder, "alice/run"), re.DOTALL)[1]
        lines = code[: code.index("tokenizer = ")]
        names = {}
        exec(compile(lines, "card", "exec"), names)
        assert names["quantization"].bnb_4bit_compute_dtype == torch.float16
        assert names["quantization"].bnb_4bit_use_double_quant is nested
        assert "inputs.to(model.device)" in code, "weights in 4 bits lie on the card, and the question does not"

    def test_the_example_for_a_trimmed_model_loads_the_full_tokenizer(self, run, tmp_path):
        """The card in the run's folder reads the folder, that on the Hub the Hub."""
        base, folder = tmp_path / "base", tmp_path / "run"
        base.mkdir()
        write_json(base / "trimmed_vocabulary.json", {"source": "org/full", "tokens_before": 9, "tokens_after": 3})
        on_base(run, folder, str(base))
        shown = [re.search(r"tokenizer.chat_template = (.*)", model_card(folder, name))[1] for name in (None, "a/b")]
        assert eval(shown[0]) == (run / "chat_template.jinja").read_text(encoding="utf-8")
        assert 'hf_hub_download("a/b", "chat_template.jinja")' in shown[1]

    def test_the_limits_are_stated(self, run, tmp_path):
        """A card without figures claims none, and mentions rounded weights."""
        base, folder = tmp_path / "base", tmp_path / "run"
        base.mkdir()
        write_json(base / "preferans_base.json", {"base_model": "google/gemma-3-270m", "gguf_sha256": "f" * 64})
        on_base(run, folder, str(base))
        write_json(
            folder / "test_log_probs.json", read_json(run / "test_log_probs.json") | {"before": [], "after": []}
        )
        text = model_card(folder, "alice/run")
        assert "the adapter itself was not measured" in text and "figures above" not in text and "0 pairs" not in text
        assert "GGUF file (SHA-256 `" + "f" * 64 in text and "GGUF" not in model_card(run, "alice/run")

    def test_the_card_of_a_merged_model(self, things):
        text = (things["merged"] / "README.md").read_text()
        assert check_card(text, "model")[0] == []
        assert (
            card_metadata(text)["library_name"] == "transformers" and "| On held-out pairs | before | after |" in text
        )

    def test_portable_values_contain_no_local_folder(self):
        cleaned = portable(
            {
                "a": ["/home/anna/x", "C:\\Users\\anna\\y", "~/z", "\\\\server\\v", "org/name", "data/x"],
                "b": "/a\n/b",
                "c": 1,
            }
        )
        assert cleaned == {"a": ["x", "y", "z", "v", "org/name", "data/x"], "b": "/a\n/b", "c": 1}
