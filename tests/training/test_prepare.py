"""What a training script settles before its model is loaded."""

import pytest
import trl.trainer.utils
from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

import preferans.training.prepare
from preferans.errors import PreferansError
from preferans.hardware.decisions import restore_kernels
from preferans.hardware.device import profile_device
from preferans.training.arguments import HardwareArguments, PreferansArguments
from preferans.training.prepare import prepare

from ..support.tiny import make_gemma3

DPO = (PreferansArguments, ScriptArguments, ModelConfig, DPOConfig)
SFT = (HardwareArguments, ScriptArguments, ModelConfig, SFTConfig)


@pytest.fixture
def said(tiny_llama, preference_folder, tmp_path):
    yield {
        "model_name_or_path": str(tiny_llama),
        "dataset_name": str(preference_folder),
        "output_dir": str(tmp_path / "run"),
        "use_peft": True,
        "use_cpu": True,
    }
    restore_kernels()


@pytest.mark.parametrize("kinds", [DPO, SFT])
def test_what_is_decided_is_said_and_done(kinds, said, capsys):
    prepared = prepare(kinds, said, None)
    assert isinstance(prepared.training_args, kinds[-1]) and isinstance(prepared.model_args, ModelConfig)
    assert prepared.device.kind == "cpu" and prepared.tokenizer.padding_side == "left"
    told = capsys.readouterr().out
    assert f"Precision: {prepared.precision}; adapters in fp32." in told
    assert f"Kernels: {prepared.kernels.reason}." in told
    words = len(prepared.tokenizer)
    assert f"tiles of {words:,} words by PyTorch" in prepared.kernels.reason
    assert words == trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE


@pytest.mark.parametrize("kinds", [DPO, SFT])
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"activation_offloading": True}, "the CPU, where there is nothing to offload to"),
        ({"hardware_profile": "gtx165"}, "Did you mean 'gtx1650'"),
        ({"hardware_profile": "gtx1650"}, "this run computes on the CPU"),
        ({"model_name_or_path": "nobody/nothing"}, "model_name_or_path nobody/nothing: HF_HUB_OFFLINE is set"),
        ({"model_name_or_path": "./absent"}, "there is no such folder"),
        ({"output_dir": ""}, "Command line: the key 'output_dir' is missing"),
    ],
)
def test_mistakes_are_refused(kinds, keys, words, said):
    with pytest.raises(PreferansError) as caught:
        prepare(kinds, said | keys, None)
    assert words in str(caught.value)


def test_a_model_that_overflows_is_known_by_its_configuration(said, tmp_path, monkeypatch):
    monkeypatch.setattr(preferans.training.prepare, "find_device", lambda *args: profile_device("gtx1650"))
    keys = {"model_name_or_path": str(make_gemma3(tmp_path / "gemma")), "fp16": True, "dtype": "float16"}
    with pytest.raises(PreferansError, match="inside models of the type gemma3_text grow beyond 65,504"):
        prepare(DPO, said | keys, None)
