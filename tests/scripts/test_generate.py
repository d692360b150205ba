"""scripts/generate.py: several adapters on one base, personas, resuming, mistakes."""

import shutil
import sys

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from preferans.data.persona import load_persona
from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, sha256_of, write_json, write_jsonl

from ..support.commands import run_command
from ..support.tiny import ROOT, make_llama, make_parrot


def make_adapter(folder, base, seed: int):
    import torch

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, base_model_name_or_path=str(base)
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_llama, tmp_path_factory):
    """Two adapters of tiny_llama with a clear effect."""
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / name, tiny_llama, seed) for seed, name in enumerate(("one.v1", "two"))]


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(f"{'Почему? ' * (i % 3)}Вопрос {i}" for i in range(5)), encoding="utf-8")
    return path


@pytest.fixture
def command(tiny_llama, questions):
    def make(*options, model: bool = True) -> list:
        named = ["--model_name_or_path", tiny_llama] if model else []
        return [
            "scripts/generate.py", *named, "--prompts", questions, "--use_cpu", "--max_new_tokens", "6", "--batch_size", "2", *options,
        ]  # fmt: skip

    return make


def test_the_base_answers_beside_its_adapter(tmp_path, command, call_script, adapters, tiny_llama):
    call_script(*command("--adapter", adapters[0], "--with_base", "--output", tmp_path / "out"))
    call_script(*command("--output", tmp_path / "alone.jsonl"))
    tuned, base = (read_jsonl(tmp_path / "out" / f"{name}.jsonl") for name in (adapters[0].name, tiny_llama.name))
    assert [row["answer"] for row in base] != [row["answer"] for row in tuned]
    assert tuned[0]["sampling"] == base[0]["sampling"] and base[0]["model"] == tiny_llama.name
    alone = read_jsonl(tmp_path / "alone.jsonl")
    assert [row["answer"] for row in base] == [row["answer"] for row in alone]
    assert base[0]["weights"]["sha256"] == alone[0]["weights"]["sha256"] != tuned[0]["weights"]["sha256"]
    with pytest.raises(PreferansError, match="--with_base: name the adapter with --adapter"):
        call_script(*command("--with_base", "--output", tmp_path / "out"))
    with pytest.raises(PreferansError, match=r"one\.jsonl: several systems write several files"):
        call_script(*command("--adapter", adapters[0], "--with_base", "--output", tmp_path / "one.jsonl"))


def test_several_answers_to_each_prompt(tmp_path, command, call_script, capsys):
    call_script(*command("--num_answers", "3", "--max_prompts", "2", "--output", tmp_path / "three.jsonl"))
    assert "6 (100%) were cut at --max_new_tokens 6." in capsys.readouterr().out
    rows = read_jsonl(tmp_path / "three.jsonl")
    assert [row["id"].rpartition("#")[2] for row in rows] == ["0", "1", "2"] * 2
    assert len({row["prompt"][0]["content"] for row in rows}) == 2 and len({row["answer"] for row in rows}) == 6
    with pytest.raises(PreferansError, match="--num_answers 2: .* with --temperature 0 all answers are the same"):
        call_script(*command("--num_answers", "2", "--sampling", "greedy", "--output", tmp_path / "x.jsonl"))


def test_resumes_with_another_batch_size_and_the_same_answers(tmp_path, command, call_script):
    call_script(*command("--output", tmp_path / "whole.jsonl"))
    # just before the second batch and before the file in order are there for good
    for write, answers in ((3, 4), (3, 5)):
        cut = command("--output", tmp_path / "cut.jsonl")
        assert run_command(sys.executable, "tests/support/killed.py", write, *cut, check=False).returncode == 137
        assert (tmp_path / "cut.jsonl").read_bytes().count(b"\n") == answers
    with open(tmp_path / "cut.jsonl", "r+b") as file:  # and a line of which a kill left a part
        file.truncate((tmp_path / "cut.jsonl").stat().st_size - 9)
    call_script(*command("--output", tmp_path / "cut.jsonl", "--batch_size", "3"))
    assert (tmp_path / "cut.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    ids = [row["id"] for row in read_jsonl(tmp_path / "cut.jsonl")]
    assert ids == ["1", "2", "3", "4", "5"]
    stats = read_json(tmp_path / "cut.stats.json")
    assert (stats["answers"], stats["batch_size"], stats["device"]) == (1, 3, "cpu")
    assert read_json(tmp_path / "whole.stats.json")["new_tokens"] == sum(
        row["new_tokens"] for row in read_jsonl(tmp_path / "whole.jsonl")
    )


def test_several_adapters_answer_like_each_alone(tmp_path, adapters, command, call_script, monkeypatch):
    from preferans.models import load_samplers

    for adapter in adapters:
        call_script(*command("--adapter", adapter, "--output", tmp_path / f"{adapter.name}.jsonl", model=False))
    loads, load_model = [], load_samplers.load_model
    monkeypatch.setattr(load_samplers, "load_model", lambda *a: loads.append(a) or load_model(*a))
    call_script(*command("--adapter", *adapters, "--output", tmp_path / "both", model=False))
    assert len(loads) == 1
    texts = []
    for adapter in adapters:
        together = tmp_path / "both" / f"{adapter.name}.jsonl"
        assert together.read_bytes() == (tmp_path / f"{adapter.name}.jsonl").read_bytes()
        rows = read_jsonl(together)
        assert {row["model"] for row in rows} == {adapter.name}
        assert sha256_of(adapter / "adapter_model.safetensors") in rows[0]["weights"]["sha256"]
        texts.append([row["answer"] for row in rows])
    assert texts[0] != texts[1]


def refused(call_script, command) -> str:
    with pytest.raises(PreferansError) as caught:
        call_script(*command)
    return str(caught.value)


@pytest.fixture
def no_loading(monkeypatch):
    """A model that is loaded now is loaded too early."""
    monkeypatch.setattr("preferans.models.load_samplers.load_samplers", lambda *_: pytest.fail("a model was loaded"))


def test_rejects_an_adapter_of_another_base_by_name(tmp_path, adapters, tiny_llama, command, call_script, no_loading):
    other = make_llama(tmp_path / "other_llama")
    for options in (
        ["--adapter", adapters[0], "--model_name_or_path", other],
        ["--adapter", *adapters, "--model_name_or_path", other],
    ):
        paragraph = refused(
            call_script,
            command("--output", tmp_path / ("a.jsonl" if len(options) == 4 else "a"), *options, model=False),
        )
        assert f"--adapter {adapters[0]}: it was trained on the base model {tiny_llama}" in paragraph
        assert f"the model to load is {other}" in paragraph
    mixed = [adapters[0], make_adapter(tmp_path / "third", other, 3)]
    paragraph = refused(call_script, command("--adapter", *mixed, "--output", tmp_path / "a", model=False))
    assert f"--adapter {mixed[1]}: it was trained on the base model {other}" in paragraph
    assert str(tiny_llama) in paragraph
    assert not (tmp_path / "a").exists()


def test_rejects_a_base_with_changed_weights(tmp_path, adapters, tiny_llama, command, call_script, no_loading):
    run = shutil.copytree(adapters[0], tmp_path / "run")
    model = {"name": str(tiny_llama), "weights_sha256": {"model.safetensors": "0" * 64}}
    write_json(run / "provenance.json", {"keys": {"model_name_or_path": str(tiny_llama)}, "model": model})
    paragraph = refused(call_script, command("--adapter", run, "--output", tmp_path / "a.jsonl", model=False))
    assert "weights 000000000000…" in paragraph
    assert f"weights {sha256_of(tiny_llama / 'model.safetensors')[:12]}…" in paragraph
    assert "Create it again with the original command" in paragraph


def test_accepts_the_same_base_in_another_folder(tmp_path, adapters, tiny_llama, command, call_script):
    moved = shutil.copytree(tiny_llama, tmp_path / "moved_away")
    run = shutil.copytree(adapters[0], tmp_path / "run")
    model = {"name": str(tiny_llama), "weights_sha256": {"model.safetensors": sha256_of(moved / "model.safetensors")}}
    write_json(run / "provenance.json", {"keys": {"model_name_or_path": str(tiny_llama)}, "model": model})
    call_script(
        *command("--adapter", run, "--model_name_or_path", moved, "--output", tmp_path / "a.jsonl", model=False)
    )
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 5


def test_runs_with_different_precision_do_not_share_a_base(
    tmp_path, adapters, tiny_llama, command, call_script, no_loading
):
    for adapter, dtype in zip(adapters, ("float32", "float16"), strict=True):
        run = shutil.copytree(adapter, tmp_path / adapter.name)
        keys = {"model_name_or_path": str(tiny_llama), "dtype": dtype}
        write_json(run / "provenance.json", {"keys": keys, "model": {"name": str(tiny_llama), "weights_sha256": {}}})
    runs = [tmp_path / adapter.name for adapter in adapters]
    paragraph = refused(call_script, command("--adapter", *runs, "--output", tmp_path / "a", model=False))
    assert "its run has dtype 'float16'" in paragraph


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--output", "a.txt"], "must end in .jsonl"),
        (["--output", "a.jsonl", "--adapter", "x", "y"], "Name a folder"),
        (["--output", "a", "--adapter", "x/run", "y/run"], "two have the same name"),
        (["--output", "a", "--adapter", "x", "y", "--label", "before"], "2 names are needed"),
        (["--output", "a.jsonl", "--adapter", "absent"], "this folder has no adapter"),
        (["--output", "a.jsonl", "--persona", "personas/siena.yaml"], "Did you mean.*sienna"),
        (["--output", "a.jsonl", "--top_p", "0"], "--top_p 0"),
    ],
)
def test_rejects_mistakes_before_a_model_is_loaded(command, call_script, no_loading, options, words):
    with pytest.raises(PreferansError, match=words):
        call_script(*command(*options))


def test_rejects_truncated_prompts(questions, tmp_path, command, call_script, no_loading):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "1", "prompt": "Да?"}\n{"id": "2", "prom', encoding="utf-8")
    with pytest.raises(PreferansError, match=r"rows\.jsonl, line 2: this is not valid JSON"):
        call_script(*command("--prompts", path, "--output", tmp_path / "a.jsonl"))
    assert not (tmp_path / "a.jsonl").exists()


def test_a_persona_is_before_the_prompt_but_not_recorded_in_it(tmp_path, command, call_script):
    plain, sienna = tmp_path / "plain.jsonl", tmp_path / "sienna.jsonl"
    call_script(*command("--output", plain))
    call_script(*command("--output", sienna, "--persona", "personas/sienna.yaml"))
    without, with_persona = read_jsonl(plain), read_jsonl(sienna)
    assert [row["prompt"] for row in without] == [row["prompt"] for row in with_persona]
    assert [row["answer"] for row in without] != [row["answer"] for row in with_persona]
    assert {row["persona"]["name"] for row in with_persona} == {"sienna"}
    assert "persona" not in without[0]
    with pytest.raises(PreferansError, match="this answer has persona {'name': 'sienna'"):
        call_script(*command("--output", sienna))

    # the same as if the instruction had been written into the prompts
    persona = load_persona(ROOT / "personas" / "sienna.yaml")
    rows = [{"id": row["id"], "prompt": persona.instruct(row["prompt"])} for row in without]
    write_jsonl(tmp_path / "instructed.jsonl", rows)
    call_script(*command("--prompts", tmp_path / "instructed.jsonl", "--output", tmp_path / "by_hand.jsonl"))
    by_hand = [row["answer"] for row in read_jsonl(tmp_path / "by_hand.jsonl")]
    assert by_hand == [row["answer"] for row in with_persona]


def test_counts_answers_that_are_only_thinking(tmp_path, command, call_script, capsys):
    thinker = make_parrot(tmp_path / "thinker", "<think>Хм, небо")
    call_script(*command("--model_name_or_path", thinker, "--output", tmp_path / "a.jsonl", model=False))
    assert {row["answer"] for row in read_jsonl(tmp_path / "a.jsonl")} == {""}
    assert (
        "5 of the empty answers are only thinking, which is removed. Raise --max_new_tokens."
        in capsys.readouterr().out
    )
