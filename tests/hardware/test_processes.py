"""Two real processes on the CPU, and launches that do not get what they request."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import DistributedType, PartialState
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from preferans.errors import PreferansError
from preferans.files import read_json, write_jsonl
from preferans.hardware.processes import check_processes
from preferans.training.run_folder import LOCK_NAME, is_complete_checkpoint

from ..support.rows import preference
from ..support.tiny import ROOT

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
ACCELERATE = ("-m", "accelerate.commands.accelerate_cli", "launch")


def environment_of(config: str) -> dict[str, str]:
    """What `accelerate launch` exports for a config: torchrun does not read one, and accelerate starts nothing on the CPU."""
    options = ["--config_file", str(ROOT / "accelerate_configs" / config), "--main_process_port", "0", "script.py"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(options))
    exported = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in exported.items() if name.startswith(("FSDP_", "ACCELERATE_USE"))}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, tiny_llama) -> Path:
    """A recipe for two processes: one pair each and two steps of accumulation are a global batch of four."""
    folder = tmp_path_factory.mktemp("processes")
    write_jsonl(folder / "train.jsonl", [preference(number) for number in range(8)])
    write_jsonl(folder / "test.jsonl", [preference(number) for number in range(8, 11)])  # does not divide by two
    keys = {
        "model_name_or_path": str(tiny_llama),
        "dataset_name": str(folder),
        "load_in_4bit": True,
        "dtype": "float32",
        "bf16": False,
        "use_cpu": True,
        "use_peft": True,
        "lora_r": 4,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
        "learning_rate": 1e-3,
        "max_length": 256,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "logging_steps": 1,
        "precompute_ref_log_probs": True,
        "report_to": "none",
        "seed": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(keys), encoding="utf-8")
    return path


def launch(*command, **environment) -> subprocess.CompletedProcess:
    """Run a launcher to its end, one thread a process."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    return subprocess.run(
        [sys.executable, *map(str, command)] if command[0] != "bash" else [*map(str, command)],
        cwd=ROOT,
        env=clean | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(run / "trainer_state.json")["log_history"] if "loss" in entry]


def compare(run: Path, single: Path) -> None:
    """The losses, the log-probabilities of the test pairs and the adapter are those of one process."""
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert len(losses(run)) == 4
    ours, theirs = read_json(run / "test_log_probs.json"), read_json(single / "test_log_probs.json")
    for when in ("before", "after"):
        for one, other in zip(ours[when], theirs[when], strict=True):
            assert one == pytest.approx(other, rel=1e-5)
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (run, single))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == torch.float32
        assert torch.allclose(weight, theirs[name], rtol=0, atol=1e-5), name


def test_the_job_file_trains_like_a_single_process(tmp_path, recipe, call_script):
    """Two machines simulated by one: a replacement of srun starts both halves of the job, and accelerate does the rest."""
    single, run = tmp_path / "single", tmp_path / "run"
    call_script("scripts/dpo.py", recipe, "--gradient_accumulation_steps", "4", "--output_dir", single)
    (tmp_path / "bin").mkdir()
    stand_ins = {
        "scontrol": "echo 127.0.0.1",
        "srun": 'shift; SLURM_NODEID=1 "$@" & SLURM_NODEID=0 "$@" && wait -n',
        "accelerate": f'exec {sys.executable} {" ".join(ACCELERATE[:2])} "$@"',
    }
    for name, text in stand_ins.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    with socket.socket() as free:  # the job takes its port from its number
        while True:
            number = int.from_bytes(os.urandom(2), "big") % 20000
            try:
                free.bind(("127.0.0.1", 20000 + number))
                break
            except OSError:
                continue
    slurm = {"JOB_ID": number, "JOB_NODELIST": "a,b", "JOB_NUM_NODES": 2, "GPUS_ON_NODE": 1, "STEP_NUM_TASKS": 2}
    done = launch(
        *("bash", "jobs/slurm.sbatch", "accelerate_configs/ddp.yaml", recipe, "--output_dir", run),
        **{f"SLURM_{name}": str(value) for name, value in slurm.items()},
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    compare(run, single)
    assert done.stdout.count("Training 8,192 parameters") == 1
    origin = read_json(run / "provenance.json")
    assert origin["measured"]["world_size"] == origin["num_processes"] == 2
    assert not (run / LOCK_NAME).exists()
    # The folder now belongs to a run of two processes.
    with pytest.raises(PreferansError, match="num_processes: 2 there, 1 here"):
        call_script("scripts/dpo.py", recipe, "--output_dir", run)


def test_sharded_training_resumes_and_ends_like_a_single_process(tmp_path, recipe, call_script, tiny_llama):
    """In bf16, where accelerate alone rounds log-probabilities until no pair differs from its reference."""
    keys = ("--load_in_4bit", "false", "--dtype", "bfloat16", "--bf16", "true", "--precompute_ref_log_probs", "false")
    single, run = tmp_path / "single", tmp_path / "run"
    padded = ("--pair_layout", "padded")  # as with a sharded model; in bf16 another layout rounds differently
    call_script("scripts/dpo.py", recipe, *keys, *padded, "--gradient_accumulation_steps", "4", "--output_dir", single)
    assert losses(single) == sorted(set(losses(single)), reverse=True)
    fsdp = environment_of("fsdp2.yaml")
    support = ("tests/support/launched.py", "--as_cards")
    script = ("scripts/dpo.py", recipe, *keys, "--output_dir", run, "--save_steps", "4")
    stopped = launch(*TORCHRUN, *support, "--in_the_last", "interrupt", *script, **fsdp)
    assert "Stopped. What is finished is on disk" in stopped.stderr
    assert is_complete_checkpoint(run / "checkpoint-2", 2) and not (run / "checkpoint-4").exists()
    done = launch(*TORCHRUN, *support, *script, **fsdp)
    assert done.returncode == 0, done.stderr
    assert f"Resuming from {run / 'checkpoint-2'}" in done.stdout
    compare(run, single)
    tokens, logits = torch.arange(10, 30)[None], []
    for adapter in (single, run):
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), adapter)
        with torch.no_grad():
            logits.append(model(tokens).logits)
    with torch.no_grad(), model.disable_adapter():
        assert not torch.allclose(model(tokens).logits, logits[0], atol=1e-3)
    assert torch.allclose(*logits, atol=1e-5)


def test_a_nan_loss_in_one_process_stops_all(tmp_path, recipe):
    run = tmp_path / "run"
    done = launch(
        *TORCHRUN, "tests/support/launched.py", "--in_the_last", "nan", "scripts/dpo.py", recipe, "--output_dir", run
    )
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "Error: The loss is NaN in another process in step 2." in words
    assert f"saved in {run}/checkpoint-1." in words
    assert is_complete_checkpoint(run / "checkpoint-1", 2)
    assert all(
        torch.isfinite(weight).all() for weight in load_file(run / "checkpoint-1/adapter_model.safetensors").values()
    )


def stops(tmp_path: Path, recipe: Path, *command, **environment) -> str:
    done = launch(*command, "scripts/dpo.py", recipe, "--output_dir", tmp_path / "run", **environment)
    assert done.returncode != 0
    assert not (tmp_path / "run").exists()
    paragraphs = [part for part in done.stderr.split("\n\n") if part.lstrip().startswith("Error")]
    assert len(paragraphs) == 1
    return " ".join(done.stderr.split())


def test_rejects_one_process_instead_of_two(tmp_path, recipe):
    words = stops(tmp_path, recipe, *ACCELERATE, "--cpu", "--num_processes", "2")
    assert "Error: Several processes are requested" in words
    assert "but one process runs. On cards, use accelerate launch" in words


def test_rejects_fsdp_that_accelerate_ignores(tmp_path, recipe):
    words = stops(tmp_path, recipe, *TORCHRUN, **environment_of("fsdp2.yaml"))
    assert "Error: The launch requests FSDP, but accelerate ignores it on the CPU" in words


def test_the_recipe_can_request_a_number_of_processes(tmp_path, recipe, call_script):
    with pytest.raises(PreferansError, match="num_processes is 2, but one process runs"):
        call_script("scripts/dpo.py", recipe, "--num_processes", "2", "--output_dir", tmp_path / "run")


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, {}, "Several processes are requested"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, {}, "srun started 4 tasks that are not connected"),
        ({"SLURM_STEP_NUM_NODES": "2"}, {}, "srun started this on 2 machines"),
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "ignores it in a single process"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "The launch requests DeepSpeed"),
        ({"SLURM_STEP_NUM_TASKS": "1", "MASTER_ADDR": "a"}, {"wanted": 1, "load_in_4bit": True}, None),
    ],
)
def test_compares_the_environment_with_the_processes(monkeypatch, environment, options, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if words is None:
        check_processes(**({"wanted": None} | options))
    else:
        with pytest.raises(PreferansError, match=words):
            check_processes(**({"wanted": None} | options))


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({}, {}, None),
        ({"FSDP_VERSION": "1"}, {}, "Write fsdp_version: 2"),
        ({"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, {}, "Write it under fsdp_config"),
        ({}, {"load_in_4bit": True}, "Write load_in_4bit: false"),
        ({}, {"precompute_ref_log_probs": True}, "Write false"),
    ],
)
def test_rejects_what_cannot_be_sharded(monkeypatch, environment, options, words):
    state = PartialState()
    monkeypatch.setattr(state, "num_processes", 2)
    monkeypatch.setattr(state, "distributed_type", DistributedType.MULTI_GPU)
    for name, value in (environment_of("fsdp2.yaml") | environment).items():
        monkeypatch.setenv(name, value)
    if words is None:
        check_processes(2, **options)
    else:
        with pytest.raises(PreferansError, match=words):
            check_processes(2, **options)


CONFIGS = sorted(path.name for path in (ROOT / "accelerate_configs").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_each_config(name):
    """Also the keys inside fsdp_config and deepspeed_config, which accelerate ignores if they are unknown."""
    config = load_config_from_file(str(ROOT / "accelerate_configs" / name))
    assert isinstance(config, ClusterConfig)
    assert config.mixed_precision == "no"  # the recipe sets the precision
    known = {action.dest for action in launch_command_parser()._actions}
    for key in (*config.fsdp_config, *config.deepspeed_config):
        assert key in known, key


def test_the_table_of_memory_matches_its_formulas():
    page = (ROOT / "docs" / "several_cards.md").read_text(encoding="utf-8")
    shapes = {  # hidden, layers, intermediate, keys and values, vocabulary, tied
        "Llama-3.2-3B": (3072, 28, 8192, 1024, 128256, True),
        "Llama-3.1-8B": (4096, 32, 14336, 1024, 128256, False),
        "Llama-3.3-70B": (8192, 80, 28672, 1024, 128256, False),
    }
    for model, (h, layers, i, kv, vocabulary, tied) in shapes.items():
        p = 2 * h * h + 2 * h * kv + 3 * h * i
        embeddings = vocabulary * h * (1 if tied else 2)
        parameters = p * layers + embeddings
        adapter = 16 * (2 * 2 * h + 2 * (h + kv) + 3 * (h + i)) * layers
        tokens = 2 * 1024
        activations = 2 * tokens * h * layers + 2 * tokens * (10 * h + 4 * i)
        cells = [
            0.516 * (parameters - embeddings) + 2 * embeddings + 16 * adapter + activations,
            2 * parameters + 16 * adapter + activations,
        ] + [(2 * parameters + 16 * adapter) / cards + 4 * p + 2 * embeddings + activations for cards in (2, 4, 8, 16)]
        assert f"| {model} | " + " | ".join(f"{cell / 2**30:.1f}" for cell in cells) + " |" in page


def test_the_sharding_config_creates_its_plugin(monkeypatch):
    for name, value in environment_of("fsdp2.yaml").items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
