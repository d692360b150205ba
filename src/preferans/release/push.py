"""Push a run to the Hub while it trains."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from ..errors import PreferansError
from ..files import read_json, write_json
from .bundle import adapter_config, check_no_secret, pack, publish
from .hub import check_can_push, upload

STRATEGIES = ("every_save", "end")


def check_push_keys(recipe_keys: dict[str, Any], place: str) -> bool:
    """
    Check a recipe's Hub keys and the write access, before anything is loaded.

    Returns:
        `bool`: whether the recipe pushes the run.

    Raises:
        [`PreferansError`]: see [`~preferans.release.hub.check_can_push`]; also if a key is missing or unsupported.
    """
    if not recipe_keys.get("push_to_hub"):
        return False
    strategy = recipe_keys.get("hub_strategy", "every_save")
    if strategy not in STRATEGIES:
        raise PreferansError(
            f"{place}: hub_strategy {strategy} is not supported. every_save pushes the adapter with each checkpoint, end after training."
        )
    if not recipe_keys.get("hub_model_id"):
        raise PreferansError(f"{place}: push_to_hub needs hub_model_id: NAMESPACE/NAME.")
    check_can_push(
        recipe_keys["hub_model_id"],
        "model",
        private=recipe_keys.get("hub_private_repo") is not False,
        option=f"{place}: hub_model_id",
    )
    return True


class CheckpointPusher(TrainerCallback):
    """
    Pushes the adapter of each checkpoint in the background, one at a time.

    Args:
        repo_id (`str`): Checked by [`check_push_keys`].
        private (`bool`): Visibility of a repository that is created.
        each_save (`bool`): Whether to push checkpoints.

    Attributes:
        failed (`list[int]`): Steps whose adapter did not reach the Hub.
    """

    def __init__(self, repo_id: str, private: bool, each_save: bool):
        self.repo_id, self.private, self.each_save = repo_id, private, each_save
        self.failed: list[int] = []
        self._thread: threading.Thread | None = None

    def on_save(self, args, state, control, **kwargs):
        if not (self.each_save and state.is_world_process_zero):
            return
        if self._thread and self._thread.is_alive():
            print(
                f"Step {state.global_step} is not pushed: an earlier push is still running. The next push includes it.",
                flush=True,
            )
            return
        try:
            copied = self._copy(Path(args.output_dir), state.global_step)
        except (OSError, PreferansError) as error:  # such as a full disk
            self._report(state.global_step, error)
            return
        self._thread = threading.Thread(target=self._push, args=(copied, state.global_step), daemon=True)
        self._thread.start()

    def _copy(self, run: Path, step: int) -> Path:
        """Copy the adapter: its checkpoint may be deleted during the push."""
        checkpoint, copied = run / f"checkpoint-{step}", Path(tempfile.mkdtemp(prefix="preferans-"))
        try:
            shutil.copyfile(checkpoint / "adapter_model.safetensors", copied / "adapter_model.safetensors")
            write_json(copied / "adapter_config.json", adapter_config(checkpoint, read_json(run / "provenance.json")))
        except (OSError, PreferansError):
            shutil.rmtree(copied, ignore_errors=True)
            raise
        return copied

    def _report(self, step: int, error: Exception) -> None:
        self.failed.append(step)
        print(f"*** Step {step} was not pushed: {error} Training continues. ***", flush=True)

    def _push(self, folder: Path, step: int) -> None:
        files = {path.name: path for path in folder.iterdir()}
        try:
            check_no_secret(files)
            done = upload(files, self.repo_id, "model", f"Adapter after step {step}", self.private)
            print(f"Step {step} is on the Hub: {done.address}")
        except Exception as error:  # a thread cannot raise it to the trainer
            self._report(step, error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def wait(self) -> None:
        """Wait for the running push, and list the failed ones."""
        if self._thread and self._thread.is_alive():
            print("Waiting for the last push …", flush=True)
            self._thread.join()
        if self.failed:
            print(f"Not pushed while training: {', '.join(f'step {step}' for step in self.failed)}.", flush=True)


@contextmanager
def pushing_checkpoints(trainer: Trainer, recipe_keys: dict[str, Any]) -> Iterator[None]:
    """
    Push the adapter of each checkpoint while the block runs, if the recipe has `push_to_hub`. The last push ends before the block
    does, so that it cannot arrive after a later one.
    """
    if not recipe_keys.get("push_to_hub"):
        yield
        return
    pusher = CheckpointPusher(
        recipe_keys["hub_model_id"],
        private=recipe_keys.get("hub_private_repo") is not False,
        each_save=recipe_keys.get("hub_strategy", "every_save") == "every_save",
    )
    trainer.add_callback(pusher)
    try:
        yield
    except Exception:
        pusher.wait()
        raise
    pusher.wait()


def publish_run(folder: str | Path, recipe_keys: dict[str, Any]) -> None:
    """
    Publish a finished run with its card, as set in its recipe.

    Raises:
        [`PreferansError`]: if publishing fails; the message names the command to publish later.
    """
    repo_id, private = recipe_keys["hub_model_id"], recipe_keys.get("hub_private_repo") is not False
    try:
        with pack(folder, repo_id) as parcel:
            done = publish(parcel, repo_id, private, "Publish the finished run with Preferans")
    except (PreferansError, OSError) as error:  # a full disk, too
        raise PreferansError(
            f"The finished run is in {folder}, but publishing failed. {error} Publish later: python scripts/publish.py {folder} --repo_id {repo_id}"
        ) from None
    print(f"Published and verified: {done.address}")
