"""Pushes during and after training, and names of the Hub in a recipe."""

import errno
import json
import math
import re
import time
from types import SimpleNamespace

import pytest

from preferans.errors import PreferansError
from preferans.files import read_json
from preferans.release.model_card import card_metadata
from preferans.release.push import CheckpointPusher

from ..support.loophub.cards import check_card
from ..support.runs import call, command


class TestPushing:
    def test_failed_pushes_are_reported_and_training_continues(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        words = command("dpo", tiny_llama, pairs, run, push_to_hub="true", hub_model_id="alice/run")
        hub.fault("POST", "/alice/run/commit/", status=403)
        done = hub.run(words)
        shown = " ".join(done.stdout.split())
        assert re.search(r"\*\*\* Step \d was not pushed: .*You have no permission.* Training continues\.", shown), (
            shown
        )
        assert re.search(r"Not pushed while training: step \d\. Published and verified", shown)
        files = hub.files("model", "alice/run")
        assert files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()
        assert "README.md" in files and "training_args.bin" not in files
        secret = hub.token("alice")
        assert secret not in done.stdout + done.stderr
        assert not [path for path in run.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert not [place for place, content in hub.everything() if secret.encode() in content]
        commits = len(hub.repositories["model", "alice/run"].history())
        again = hub.run(words).stdout
        assert "This run is finished" in again and "Published and verified" in again
        assert len(hub.repositories["model", "alice/run"].history()) == commits

    def test_a_full_disk_does_not_stop_training(self, run, monkeypatch, capsys, tmp_path):
        def write(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("preferans.release.push.shutil.copyfile", write)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        pusher = CheckpointPusher("alice/run", private=True, each_save=True)
        pusher.on_save(
            SimpleNamespace(output_dir=str(run)), SimpleNamespace(global_step=2, is_world_process_zero=True), None
        )
        pusher.wait()
        assert pusher.failed == [2] and list(tmp_path.iterdir()) == []
        assert (
            "*** Step 2 was not pushed: [Errno 28] No space left on device Training continues. ***"
            in capsys.readouterr().out
        )

    def test_an_sft_run_is_published(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        done = hub.run(command("sft", tiny_llama, pairs, run, push_to_hub="true", hub_model_id="alice/imitation"))
        assert "Published and verified" in done.stdout
        text = hub.files("model", "alice/imitation")["README.md"].decode()
        assert check_card(text, "model")[0] == []
        assert "| Perplexity of the chosen answers |" in text and "imitate the chosen answers" in text
        assert "sft" in card_metadata(text)["tags"]

    def test_a_revoked_token_loses_no_work(self, hub, tiny_llama, pairs, tmp_path):
        run = tmp_path / "run"
        keys = {"push_to_hub": "true", "hub_model_id": "alice/run", "hub_strategy": "end"}
        token = hub.token("alice", scopes=(("of", "its own"),))
        hub.fault("POST", "/api/repos/create", then=lambda: hub.revoke(token))
        done = hub.run(command("dpo", tiny_llama, pairs, run, **keys), token=token, check=False)
        shown = " ".join(done.stderr.split())
        assert done.returncode == 2 and "The finished run is in" in shown and "scripts/publish.py" in shown, shown
        assert (run / "all_results.json").exists() and math.isfinite(
            read_json(run / "all_results.json")["test_reward_margin"]
        )
        assert "Published" in hub.run(command("dpo", tiny_llama, pairs, run, **keys)).stdout

    @pytest.mark.parametrize(
        "keys, message",
        [
            ({"hub_strategy": "checkpoint"}, "hub_strategy checkpoint is not supported"),
            ({"hub_model_id": ""}, "push_to_hub needs hub_model_id"),
            ({"hub_token": "hf_x"}, "it would be written to files"),
        ],
    )
    def test_unsupported_hub_keys_are_rejected(self, tiny_llama, pairs, tmp_path, keys, message):
        with pytest.raises(PreferansError, match=message):
            call(
                *command(
                    "dpo",
                    tiny_llama,
                    pairs,
                    tmp_path / "run",
                    **({"push_to_hub": "true", "hub_model_id": "alice/run"} | keys),
                )
            )
        assert not (tmp_path / "run").exists()


def test_a_recipe_accepts_names_with_revisions_and_adapters(hub, tiny_llama, pairs, run, tmp_path):
    """A model, an adapter and a dataset at a revision each; then all of it offline, and what is not in the cache is named at once."""
    model = hub.seed("model", "meta/tiny", {path.name: path.read_bytes() for path in tiny_llama.iterdir()})
    hub.add_tag(model, "v1", "main")
    model.add_commit("main", {}, "Emptied", "", "meta")
    config = read_json(run / "adapter_config.json") | {"base_model_name_or_path": "meta/tiny", "revision": "v1"}
    files = {
        name: (run / name).read_bytes()
        for name in ("adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json")
    }
    files |= {
        "chat_template.jinja": (run / "chat_template.jinja").read_bytes(),
        "adapter_config.json": json.dumps(config).encode(),
    }
    adapter = hub.seed("model", "alice/adapter", files, private=True)
    hub.add_tag(adapter, "v2", "main")
    adapter.add_commit("main", {}, "Emptied", "", "alice")
    data = {path.relative_to(pairs).as_posix(): path.read_bytes() for path in pairs.rglob("*") if path.is_file()}
    dataset = hub.seed("dataset", "alice/pairs", data, private=True)
    hub.add_tag(dataset, "v3", "main")
    dataset.add_commit("main", {}, "Emptied", "", "alice")

    home = tmp_path / "home"
    words = {"max_steps": 1}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model_name_or_path: meta/tiny@v1\ndataset_name: alice/pairs@v3\n")
    plain = [word for word in command("dpo", "M", "D", tmp_path / "plain", **words)]
    for key in ("--model_name_or_path", "--dataset_name"):
        del plain[plain.index(key) : plain.index(key) + 2]
    hub.run([plain[0], recipe, *plain[1:]], home=home)
    origin = read_json(tmp_path / "plain" / "provenance.json")
    assert origin["model"]["revision"] == model.tags["v1"] and origin["dataset"]["name"] == "alice/pairs@v3"

    done = hub.run(command("dpo", "alice/adapter@v2", "alice/pairs@v3", tmp_path / "more", **words), home=home)
    assert "Starting from the adapter alice/adapter on meta/tiny" in done.stdout
    [first] = [
        entry for entry in read_json(tmp_path / "more" / "trainer_state.json")["log_history"] if "loss" in entry
    ]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    before = read_json(tmp_path / "more" / "test_log_probs_before.json")
    assert before != read_json(tmp_path / "plain" / "test_log_probs_before.json")

    with hub.down():
        offline = {"home": home, "HF_HUB_OFFLINE": "1", "check": False}
        again = hub.run(command("dpo", "alice/adapter@v2", "alice/pairs@v3", tmp_path / "again", **words), **offline)
        assert again.returncode == 0, again.stderr
        start = time.perf_counter()
        no_model = hub.run(command("dpo", "meta/other", "alice/pairs@v3", tmp_path / "none", **words), **offline)
        no_data = hub.run(command("dpo", "meta/tiny@v1", "alice/other", tmp_path / "none", **words), **offline)
        assert time.perf_counter() - start < 60
    for done, name in ((no_model, "model_name_or_path meta/other"), (no_data, "dataset_name alice/other")):
        shown = " ".join(done.stderr.split())
        assert done.returncode == 2 and name in shown and "HF_HUB_OFFLINE is set" in shown, shown


def test_a_gated_model_is_named_with_how_to_get_access(hub, pairs, tmp_path):
    hub.seed("model", "meta/llama", {"config.json": b"{}"}, gated="manual")
    done = hub.run(command("dpo", "meta/llama", pairs, tmp_path / "run"), check=False)
    shown = " ".join(done.stderr.split())
    assert done.returncode == 2 and "Request access on its page" in shown and "meta/llama" in shown, shown
