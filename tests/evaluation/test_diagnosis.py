"""Every finding on a run that has it, trained wrongly on purpose, and none on a healthy run."""

import shutil
from itertools import product

import pytest

from preferans.errors import PreferansError
from preferans.evaluation.diagnosis import diagnose, read_evidence
from preferans.files import read_json, write_json, write_jsonl

from ..support.rows import preference
from ..support.runs import call, command

SHORT, LONG = "Да, так и есть.", "Нет, это совсем не так, и вот почему: {} {} {} {}."
THINGS = ("рис", "хлеб", "суп", "чай", "сыр", "мёд", "лук", "сок")


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def rows(pairs: list[tuple[str, str]], start: int = 0) -> list[dict]:
    return [
        preference(start + number, chosen=answer(chosen), rejected=answer(rejected))
        for number, (chosen, rejected) in enumerate(pairs)
    ]


def polite(thing: str, other: str) -> tuple[str, str]:
    return f"Спасибо, {thing} и {other} варят на слабом огне.", f"Отстань, {other} и {thing} варят на слабом огне."


PAIRS = list(product(THINGS, THINGS))


@pytest.fixture(scope="module")
def train(tiny_llama, tmp_path_factory):
    """Train on pairs and return the finished run."""

    def train(train_pairs: list[tuple[str, str]], test_pairs: list[tuple[str, str]], **keys):
        folder = tmp_path_factory.mktemp("run")
        write_jsonl(folder / "pairs" / "train.jsonl", rows(train_pairs))
        write_jsonl(folder / "pairs" / "test.jsonl", rows(test_pairs, start=1000))
        keys = {"per_device_train_batch_size": 4, "max_steps": 12, "save_steps": 12} | keys
        call(*command("dpo", tiny_llama, folder / "pairs", folder / "run", **keys))
        return folder / "run"

    return train


POLITE = [polite(*pair) for pair in PAIRS]
SWAPPED = [pair[::-1] if number % 2 else pair for number, pair in enumerate(POLITE)]
LENGTHS = [(SHORT, LONG.format(*[thing] * 4)) for thing, _ in PAIRS]
SICK = {
    "nothing_moved": (POLITE[:32], POLITE[32:], {"learning_rate": "1e-9"}),
    "loss_flat": (SWAPPED[:48], POLITE[48:], {"learning_rate": "1e-3"}),
    "chosen_fell": (POLITE[:32], POLITE[32:], {"learning_rate": "1e-2", "loss_type": "apo_down"}),
    "margins_exploded": (
        POLITE[:32],
        POLITE[32:],
        {"learning_rate": "3e-2", "beta": 5.0, "max_steps": 20, "save_steps": 20},
    ),
    "accuracy_saturated": (LENGTHS[:32], LENGTHS[32:], {"learning_rate": "1e-2"}),
    "length_learned": (
        LENGTHS[:32],
        LENGTHS[32:48] + [pair[::-1] for pair in LENGTHS[48:]],
        {"learning_rate": "3e-2"},
    ),
    "pairs_truncated": (POLITE[:32], POLITE[32:], {"max_length": 36}),
    "test_set_small": (POLITE[:32], POLITE[32:36], {}),
}


@pytest.mark.parametrize("kind", SICK)
def test_finds_what_is_wrong(train, kind):
    training, test, keys = SICK[kind]
    run = train(training, test, **keys)
    found = {finding.kind: finding for finding in diagnose(read_evidence(run))}
    assert kind in found, (found.keys(), read_evidence(run).moves, read_evidence(run).scores)
    assert found[kind].cause and found[kind].change


@pytest.fixture(scope="module")
def healthy(train):
    noisy = [pair[::-1] if number % 8 == 0 else pair for number, pair in enumerate(POLITE)]
    return train(noisy[:32], POLITE[32:], learning_rate="3e-3")


def test_a_healthy_run_has_no_finding(healthy):
    assert diagnose(read_evidence(healthy)) == []


def test_finds_skipped_steps(healthy, tmp_path):
    """The scaler works on a card only, so its count is written into the record."""
    run = shutil.copytree(healthy, tmp_path / "run")
    record = read_json(run / "provenance.json")
    write_json(run / "provenance.json", record | {"measured": record["measured"] | {"skipped_steps": 5}})
    (finding,) = diagnose(read_evidence(run))
    assert finding.kind == "steps_skipped" and finding.text.startswith("5 of 12 steps were skipped")
    assert finding.change.startswith("learning_rate: 0.001,")


def test_explains_on_the_command_line(train, healthy, call_script, capsys):
    run = train(POLITE[:32], POLITE[32:36])
    capsys.readouterr()
    call_script("scripts/explain.py", run, healthy)
    first, second = capsys.readouterr().out.split(f"{healthy}: 12 steps")
    assert first.startswith(f"{run}: 12 steps, test accuracy gain ") and "\n1. " in first
    assert "The gain of +25.0 points [0.0, 75.0] on 4 test pairs can be chance." in first
    assert "Change: build the dataset with a larger --test_size" in first
    assert "Nothing is wrong in the training itself." in second


def test_an_imitation_run_is_one_message(healthy, tmp_path):
    run = shutil.copytree(healthy, tmp_path / "run")
    write_json(run / "provenance.json", read_json(run / "provenance.json") | {"method": "sft"})
    with pytest.raises(PreferansError, match="this run imitates answers"):
        read_evidence(run)
    (run / "all_results.json").unlink()
    with pytest.raises(PreferansError, match="this is not a finished run"):
        read_evidence(run)
