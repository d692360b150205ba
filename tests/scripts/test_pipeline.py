"""The scripts as users run them: the complete path once, and mistakes that write nothing."""

import configparser
import importlib.metadata
import json
import re
import shutil
import sys

import pytest
import yaml
from datasets import load_dataset
from safetensors.torch import load_file

from preferans.errors import PreferansError
from preferans.files import read_json, read_jsonl, sha256_of, write_jsonl

from ..support.commands import run_command
from ..support.rows import message, preference
from ..support.tiny import ROOT, SAMPLE, make_gemma3, make_gpt2, make_llama, make_qwen2, make_qwen3

LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--quiet",
    "--config_file",
    "accelerate_configs/cpu.yaml",
]
OTHER_PAIRS = "samples/other_defects_ru.jsonl"
# Keys that run a card's recipe on a CPU.
ON_CPU = ["--use_cpu", "true", "--fp16", "false", "--dtype", "float32", "--optim", "adamw_torch"]


def test_data_to_report(tiny_llama, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    build = [sys.executable, "data_builders/oasst1_ru.py", "--source", SAMPLE, "--turns", "all", "--output_dir", data]
    built = run_command(*build).stdout
    assert "Rows read: 692. In a pair or its prompt: 600; valid, but in no pair: 67; dropped:" in built
    assert "Rule: lang ru, turns all, pairing best_worst," in built
    assert sha256_of(SAMPLE) in built
    assert "already in" in run_command(*build).stdout
    card = (data / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["language"] == ["ru"]
    assert {part["split"] for part in head["configs"][0]["data_files"]} == {"train", "test"}
    assert "| read | 692 |" in card
    pairs = load_dataset(str(data), cache_dir=str(tmp_path / "cache"))
    assert sum(pairs.num_rows.values()) == 200

    model = ["--model_name_or_path", tiny_llama, "--dataset_name", data]
    train = [*LAUNCH, "scripts/dpo.py", "recipes/llama1b_ru.yaml", *ON_CPU, *model, "--output_dir", run]
    train += [
        "--max_steps",
        "4",
        "--save_steps",
        "2",
        "--max_length",
        "256",
        "--logging_steps",
        "1",
        "--learning_rate",
        "1e-3",
        "--eval_pairs",
        OTHER_PAIRS,
    ]
    trained = run_command(*train)
    assert "all valid" in trained.stdout
    assert "Traceback" not in trained.stderr

    adapter = load_file(run / "adapter_model.safetensors")
    assert all(str(weight.dtype) == "torch.float32" for weight in adapter.values())
    assert all(weight.abs().sum() > 0 for name, weight in adapter.items() if "lora_B" in name)
    origin = read_json(run / "provenance.json")
    assert origin["recipe"] == "recipes/llama1b_ru.yaml"
    assert origin["keys"]["learning_rate"] == 1e-3
    assert origin["dataset"]["fingerprint"] in card
    assert origin["packages"]["trl"] == importlib.metadata.version("trl")
    assert origin["measured"]["world_size"] == 1
    assert origin["measured"]["tokens_per_second"] > 0
    results = read_json(run / "all_results.json")
    assert 0 <= results["test_normalised_accuracy_before"] <= 1
    losses = [row["loss"] for row in read_json(run / "trainer_state.json")["log_history"] if "loss" in row]
    assert len(losses) == 4
    assert all(0 < loss < 5 for loss in losses)
    assert "finished" in run_command(*train).stdout
    assert f"{OTHER_PAIRS}: 30 pairs" in trained.stdout
    evaluate = [sys.executable, "scripts/evaluate_pairs.py", OTHER_PAIRS, "--adapter", run, "--use_cpu"]
    run_command(*evaluate, "--output_dir", tmp_path / "pairs")
    [own], [again] = (read_json(folder / "pairs.json")["datasets"] for folder in (run, tmp_path / "pairs"))
    for figure in ("test_normalised_accuracy_before", "test_normalised_accuracy_after", "test_reward_accuracy"):
        values = [record["systems"][0]["scores"][figure]["value"] for record in (own, again)]
        assert values[0] == pytest.approx(values[1], abs=0.04)  # batches differ, so a near tie may fall either way

    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    generate = [
        sys.executable,
        "scripts/generate.py",
        "--dataset_name",
        data,
        "--max_prompts",
        "3",
        "--max_new_tokens",
        "8",
        "--use_cpu",
    ]
    run_command(
        *generate, "--model_name_or_path", tiny_llama, "--load_in_4bit", "--label", "before", "--output", before
    )
    run_command(*generate, "--adapter", run, "--label", "after", "--output", after)
    answers = read_jsonl(after)
    assert [row["id"] for row in answers] == pairs["test"]["id"][:3]
    assert [row["prompt"] for row in answers] == [row["prompt"] for row in read_jsonl(before)]

    report = tmp_path / "report"
    printed = run_command(
        sys.executable, "scripts/score.py", run, after, "--baseline", before, "--output_dir", report
    ).stdout
    assert str(report / "report.html") in printed
    scores = read_json(report / "scores.json")
    assert scores["pairs"] == [own]
    assert scores["runs"][0]["pairs"]["test_reward_accuracy"]["value"] == results["test_reward_accuracy"]
    assert [system["name"] for system in scores["systems"]] == ["before", "after"]
    assert [system["scores"]["empty"]["cases"] for system in scores["systems"]] == [3, 3]
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    # nothing is asked of the network: addresses stand only in the SVG's namespace declarations
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!#)", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page))
    assert "@import" not in page and "url(http" not in page


def test_a_dataset_of_texts_needs_no_chat_template(tmp_path, call_script, capsys):
    model, data, run = tmp_path / "model", tmp_path / "data", tmp_path / "run"
    make_llama(model, chat_template=None)
    call_script("data_builders/oasst1_ru.py", "--source", SAMPLE, "--format", "text", "--output_dir", data)
    row = load_dataset(str(data), split="train", cache_dir=str(tmp_path / "cache"))[0]
    assert row["prompt"].startswith("Вопрос: ")
    assert row["prompt"].endswith("\nОтвет:")
    done = run_command(
        *LAUNCH,
        "scripts/dpo.py",
        "recipes/llama1b_ru.yaml",
        *ON_CPU,
        *["--model_name_or_path", model, "--dataset_name", data, "--output_dir", run, "--max_steps", "2"],
        *["--max_length", "256", "--learning_rate", "1e-3"],
    )
    assert "all valid" in done.stdout
    answers = tmp_path / "answers.jsonl"
    call_script(
        "scripts/generate.py", "--adapter", run, "--dataset_name", data, "--output", answers, "--max_new_tokens", "4"
    )
    answer = read_jsonl(answers)[0]
    assert answer["prompt"][0]["role"] == "user"
    assert answer["prompt"][0]["content"].endswith("Ответ:")
    call_script("scripts/score.py", run, answers, "--output_dir", tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_killed_run_resumes_and_ends_the_same(tiny_llama, preference_folder, tmp_path):
    command = [*LAUNCH, "scripts/dpo.py", "recipes/llama1b_ru.yaml", *ON_CPU]
    command += [
        "--model_name_or_path",
        tiny_llama,
        "--dataset_name",
        preference_folder,
        "--max_steps",
        "6",
        "--save_steps",
        "1",
    ]
    command += ["--save_total_limit", "10", "--gradient_accumulation_steps", "1", "--learning_rate", "1e-3"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_command(*command, "--output_dir", whole)
    # what a kill after step 3 leaves behind, with a checkpoint half-written
    shutil.copytree(whole, cut)
    for name in ("all_results.json", "adapter_model.safetensors", "test_log_probs.json", "trainer_state.json"):
        (cut / name).unlink()
    for step in (5, 6):
        shutil.rmtree(cut / f"checkpoint-{step}")
    (cut / "checkpoint-4" / "trainer_state.json").unlink()
    origin = read_json(cut / "provenance.json")
    origin["keys"]["output_dir"] = str(cut)
    (cut / "provenance.json").write_text(json.dumps(origin), encoding="utf-8")
    assert "Resuming from" in run_command(*command, "--output_dir", cut).stdout
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (whole, cut))
    assert all((found[name] == weight).all() for name, weight in expected.items())


# Tiny models of the same architecture as each recipe's.
ARCHITECTURES = {"llama": make_llama, "rugpt3": make_gpt2, "gemma": make_gemma3}
ARCHITECTURES |= {"qwen3": make_qwen3, "qvikhr": make_qwen3, "qwen": make_qwen2}
RECIPES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.yaml"))


def script_of(recipe: str) -> str:
    """Return the script in a recipe's own commands."""
    text = (ROOT / recipe).read_text(encoding="utf-8")
    return re.search(rf"(scripts/\w+\.py) {re.escape(recipe)}$", text, re.MULTILINE)[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_on_a_tiny_model(recipe, preference_folder, tmp_path, call_script):
    recipe_keys = yaml.safe_load((ROOT / recipe).read_text(encoding="utf-8"))
    model = recipe_keys["model_name_or_path"].lower()
    make = next(make for name, make in ARCHITECTURES.items() if name in model)
    base = make(tmp_path / "base")
    call_script(
        script_of(recipe), recipe, *ON_CPU, "--bf16", "false", "--model_name_or_path", base, "--dataset_name", preference_folder,
        "--max_steps", "2", "--learning_rate", "1e-2", "--lr_scheduler_type", "constant", "--output_dir", tmp_path / "run",
        "--disable_tqdm",
    )  # fmt: skip
    adapter = load_file(tmp_path / "run" / "adapter_model.safetensors")
    moved = [name for name, tensor in adapter.items() if "lora_B" in name and tensor.abs().max() > 0]
    assert len(moved) == len(adapter) / 2  # LoRA's B starts at zero: every layer has learned
    assert read_json(tmp_path / "run" / "provenance.json")["keys"]["load_in_4bit"] is True


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_its_commands_and_its_own_folder(recipe):
    text = (ROOT / recipe).read_text(encoding="utf-8")
    recipe_keys = yaml.safe_load(text)
    others = [yaml.safe_load((ROOT / other).read_text(encoding="utf-8")) for other in RECIPES if other != recipe]
    assert recipe_keys["output_dir"] not in [other["output_dir"] for other in others]
    assert (
        f"--output_dir {recipe_keys['dataset_name']}" in text or f"{recipe_keys['dataset_name']}/train.jsonl" in text
    )
    for named in re.findall(r"recipes/[\w/]+\.(?:yaml|jinja)", text.replace("recipes/NAME.yaml", "")):
        assert (ROOT / named).is_file(), named


def test_help_needs_no_heavy_imports():
    for path in [
        "scripts/sft.py",
        "scripts/dpo.py",
        "scripts/merge.py",
        "scripts/plan.py",
        "scripts/generate.py",
        "scripts/score.py",
        "scripts/prepare_gemma.py",
        "scripts/check_data.py",
        "scripts/doctor.py",
        "scripts/plan.py",
        "scripts/trim_vocab.py",
        *(path.relative_to(ROOT) for path in sorted((ROOT / "data_builders").glob("*.py"))),
    ]:
        done = run_command(sys.executable, "-X", "importtime", path, "--help")
        assert "python " in done.stdout or "accelerate launch" in done.stdout
        slow = re.search(r"\| +(torch|transformers|trl|datasets|matplotlib|pyarrow)$", done.stderr, re.MULTILINE)
        assert not slow, f"{path} --help imports {slow[1]}"


def test_an_error_is_one_message_with_status_2():
    done = run_command(sys.executable, "scripts/dpo.py", "recipes/llama1b_ru.yaml", "--beta", "abc", check=False)
    assert done.returncode == 2
    assert done.stderr.strip().startswith("Error: Command line: beta must be a number")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# Mistakes of newcomers, each with the words its message must contain; nothing may be written.


def refused(call_script, *command) -> str:
    with pytest.raises(PreferansError) as caught:
        call_script(*command)
    return str(caught.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("beta: abc", ["broken.yaml, line", "beta must be a number"]),
        ("learning_rat: 1e-5", ["the key 'learning_rat' is unknown", "Did you mean 'learning_rate'"]),
        ("beta: 0.1\nbeta: 0.2", ["'beta' is already set in line"]),
    ],
)
def test_rejects_a_broken_recipe(lines, words, tmp_path, call_script, tiny_llama, preference_folder):
    recipe = tmp_path / "broken.yaml"
    text = f"model_name_or_path: {tiny_llama}\ndataset_name: {preference_folder}\noutput_dir: {tmp_path / 'run'}\n"
    recipe.write_text(text + lines, encoding="utf-8")
    paragraph = refused(call_script, "scripts/dpo.py", recipe)
    for word in words:
        assert word in paragraph
    assert not (tmp_path / "run").exists()


def cpu_run(tmp_path, **keys) -> list:
    return [
        "scripts/dpo.py",
        "recipes/llama1b_ru.yaml",
        *ON_CPU,
        "--output_dir",
        tmp_path / "run",
        *(word for key, value in keys.items() for word in (f"--{key}", value)),
    ]


def test_rejects_a_row_without_chosen(tmp_path, call_script, tiny_llama, preference_folder):
    rows = [preference(number) for number in range(6)]
    del rows[2]["chosen"]
    write_jsonl(preference_folder / "train.jsonl", rows)
    paragraph = refused(call_script, *cpu_run(tmp_path, model_name_or_path=tiny_llama, dataset_name=preference_folder))
    assert "split train, row 3 (id c2:r2): 'chosen' is missing" in paragraph
    assert not (tmp_path / "run").exists()


def test_rejects_a_missing_model_folder(tmp_path, call_script, preference_folder):
    absent = tmp_path / "absent"
    paragraph = refused(call_script, *cpu_run(tmp_path, model_name_or_path=absent, dataset_name=preference_folder))
    assert f"model_name_or_path {absent}: there is no such folder" in paragraph
    assert not (tmp_path / "run").exists()


def test_rejects_fp16_without_a_card(tmp_path, call_script, tiny_llama, preference_folder):
    command = ["scripts/dpo.py", "recipes/llama1b_ru.yaml", "--use_cpu", "true", "--model_name_or_path", tiny_llama]
    paragraph = refused(call_script, *command, "--dataset_name", preference_folder, "--output_dir", tmp_path / "run")
    assert "--fp16 false --dtype float32" in paragraph
    assert not (tmp_path / "run").exists()


def test_rejects_a_dataset_without_a_test_split(tmp_path, call_script, tiny_llama, preference_folder):
    (preference_folder / "test.jsonl").unlink()
    paragraph = refused(call_script, *cpu_run(tmp_path, model_name_or_path=tiny_llama, dataset_name=preference_folder))
    assert "no split 'test', only train" in paragraph


def test_rejects_a_truncated_source(tmp_path, call_script):
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(message("a")) + '\n{"message_id": "b", "text": "обры', encoding="utf-8")
    paragraph = refused(
        call_script, "data_builders/oasst1_ru.py", "--source", source, "--output_dir", tmp_path / "out"
    )
    assert "rows.jsonl, line 2: this is not valid JSON" in paragraph
    assert not (tmp_path / "out").exists()


def test_rejects_an_unknown_pairing(tmp_path):
    done = run_command(
        sys.executable,
        "data_builders/oasst1_ru.py",
        "--pairing",
        "best",
        "--output_dir",
        tmp_path / "out",
        check=False,
    )
    assert done.returncode == 2
    assert "invalid choice: 'best' (choose from" in done.stderr
    assert "best_worst" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_rejects_a_language_that_is_not_in_the_source(tmp_path, call_script):
    paragraph = refused(
        call_script, "data_builders/oasst1_ru.py", "--source", SAMPLE, "--lang", "de", "--output_dir", tmp_path / "out"
    )
    assert "no pair is left for --lang de. Its languages are en, ru" in paragraph


def test_checks_the_push_before_the_work(tmp_path, call_script):
    """Who may push where is asked of a Hub in test_publishing.py."""
    command = ["data_builders/oasst1_ru.py", "--source", SAMPLE, "--output_dir", tmp_path / "out", "--push_to_hub"]
    assert "name the repository as NAMESPACE/NAME" in refused(call_script, *command)
    assert "the Hub does not allow this name" in refused(call_script, *command, "--repo_id", "anna/x..y")
    assert "HF_HUB_OFFLINE is set" in refused(call_script, *command, "--repo_id", "anna/pairs")
    assert not (tmp_path / "out").exists()


def test_requirements_are_pinned_as_installed():
    """All requirements are pinned, so that a fresh environment equals the tested one."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {name: lines.split() for name, lines in config["options.extras_require"].items()}
    browser = extras.pop("browser")  # installed for other tests only
    wanted = [*config["options"]["install_requires"].split(), *(line for lines in extras.values() for line in lines)]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
        if "==" in line
    )
    assert set(browser) <= pinned.keys()
    for requirement in wanted:
        name = re.split(r"[<>=]", requirement)[0].replace("_", "-").lower()
        assert name in pinned, f"{name} is not in constraints.txt"
        installed = importlib.metadata.version(name).split("+")[0]
        assert pinned[name] == installed


@pytest.mark.parametrize("script", ["dpo", "sft"])
def test_a_dataset_with_some_conversations_missing_is_trained_and_scored(
    script, tiny_llama, preference_folder, tmp_path, call_script
):
    """Two datasets joined: only one of them has conversation trees."""
    for split in ("train", "test"):
        rows = read_jsonl(preference_folder / f"{split}.jsonl")
        write_jsonl(
            preference_folder / f"{split}.jsonl",
            [row | {"message_tree_id": None if number % 2 else f"tree{row['id']}"} for number, row in enumerate(rows)],
        )
    keys = [
        "--model_name_or_path",
        tiny_llama,
        "--dataset_name",
        preference_folder,
        "--output_dir",
        tmp_path / "run",
        *ON_CPU,
    ]
    keys += [
        "--max_steps",
        "1",
        "--use_peft",
        "true",
        "--lora_target_modules",
        "all-linear",
        "--bf16",
        "false",
        "--report_to",
        "none",
    ]
    call_script(f"scripts/{script}.py", *map(str, keys))
    assert len(set(read_json(tmp_path / "run" / "test_log_probs.json")["groups"])) == 2
    assert (tmp_path / "run" / "all_results.json").is_file()
