"""
What keeps a training run sound: adapters in fp32, a stop at the first number that is none, and nothing lost at Ctrl-C.

With several processes every decision is taken by all of them together.
"""

import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
import trl.trainer.utils
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerState,
)

from ..errors import TrainingDiverged
from ..hardware.device import peak_memory
from ..hardware.processes import check_sharded, from_main, highest, is_main, local_part
from .run_folder import is_complete_checkpoint

# The scaler starts at 65,536 and halves at each skipped step: after this many it has gone below any useful scale.
MAX_SKIPPED_STEPS = 25
# The terminal sends Ctrl-C to every process, and the launcher passes it on once more.
SECONDS_OF_ONE_INTERRUPT = 5.0


class Session(NamedTuple):
    """
    One call of [`GuardedTrainer.train_from`].

    Attributes:
        metrics (`dict[str, float]`): The trainer's metrics, empty if nothing was left to train.
        seconds (`float`): Duration.
        resumed_from (`str`, *optional*): Checkpoint that training resumed from.
    """

    metrics: dict[str, float]
    seconds: float
    resumed_from: str | None


class GuardedTrainer(Trainer):
    """
    A mixin for TRL's trainers, whose adapters then train in fp32 and which stop at the first number that is none.

    TRL casts the adapters of a quantized model to bf16 (`DPOTrainer.__init__`, "When using QLoRA"). There a gradient scaler
    cannot unscale them (trl#4901), and at DPO's small learning rates most updates are rounded away. They are cast back here,
    before the optimizer exists.

    Takes the arguments of the trainer it is mixed into.

    Attributes:
        skipped_steps (`int`): Steps whose gradient overflowed fp16 and which changed nothing, in this session.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.skipped_steps = 0
        for module in self.model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter.is_meta:
                    # A process that receives the weights: accelerate tells the optimizer's parameters apart by their address.
                    setattr(
                        module,
                        name,
                        torch.nn.Parameter(torch.zeros_like(parameter, dtype=torch.float32, device="cpu")),
                    )
                elif parameter.requires_grad:
                    parameter.data = parameter.data.float()
        if self.args.ddp_find_unused_parameters is None:
            # Every adapter takes part in every step, so that looking for others would only cost time.
            self.args.ddp_find_unused_parameters = False
        if self.is_fsdp_enabled and self.accelerator.mixed_precision != "no":
            self._keep_log_probs_in_fp32()
        self.add_callback(_ShardGuard())
        self.add_callback(_NumberGuard(self))
        self.add_callback(_StopOnInterrupt())

    def _keep_log_probs_in_fp32(self) -> None:
        """
        Keep FSDP from casting what the model returns, and the gradients it sums up, to 16 bits.

        accelerate sets both. A log-probability of -150 in bf16 is a whole number, and DPO learns from differences of less.
        """
        plugin = self.accelerator.state.fsdp_plugin
        plugin.mixed_precision_policy = dataclasses.replace(
            plugin.mixed_precision_policy, output_dtype=None, reduce_dtype=torch.float32
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # a step of training, not an evaluation or the summary at the end
            logs["peak_memory_bytes"] = peak_memory()
        if self.accelerator.scaler is not None:
            logs["skipped_steps"] = self.skipped_steps
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_fsdp_enabled:
            return super().save_model(output_dir, _internal_call)
        # `Trainer` would collect the whole base model in the main process, only to save the adapter.
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        self._save(output_dir, state_dict=get_model_state_dict(self.model, options=options))

    def training_step(self, model, inputs, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        value = loss.item()
        finite = value == value and abs(value) != float("inf")
        worst = highest(2.0 if not finite else 1.0 if value == 0.0 else 0.0)
        if worst == 2.0:
            raise TrainingDiverged(
                f"The loss is {value if not finite else 'not a number in another process'} in step {self.state.global_step + 1}. "
                f"{self._last_good_state()} The usual causes: weights or activations that overflow in fp16 (Gemma does; use dtype: "
                "float32), or a learning rate far too high."
            )
        if worst == 1.0:
            raise TrainingDiverged(
                f"The loss is exactly 0 in step {self.state.global_step + 1}, so nothing is learned. {self._last_good_state()} The "
                "usual causes: fp16 weights whose log-probabilities overflowed, a beta or learning rate far too high, or answers "
                "cut away by max_length."
            )
        return loss

    def train_from(self, checkpoint: str | None) -> Session:
        """
        Train from the start or from a checkpoint. Nothing is trained if the checkpoint is that of the last step, because
        [`~transformers.Trainer`] would then take one step too many.

        Args:
            checkpoint (`str`, *optional*):
                Folder of a complete checkpoint.

        Returns:
            [`Session`].
        """
        trainable, total = self.model.get_nb_trainable_parameters()
        print(f"Training {trainable:,} parameters of {total:,}.")
        start = time.perf_counter()
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json")))
            if state.global_step >= state.max_steps:
                print(f"Training was finished in {checkpoint}.")
                self.state = state
                if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                    self._prepare_for_training(state.max_steps, None, checkpoint)
                else:
                    self._load_from_checkpoint(checkpoint)
                return Session({}, time.perf_counter() - start, checkpoint)
            print(f"Resuming from {checkpoint}.")
        metrics = self.train(resume_from_checkpoint=checkpoint).metrics
        return Session(metrics, time.perf_counter() - start, checkpoint)

    def _last_good_state(self) -> str:
        """Save the state before the bad step, unless a checkpoint of it is there, and say where it lies."""
        if self.state.global_step == 0:
            return "No step was completed, so there is nothing to keep."
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if not from_main(lambda: is_complete_checkpoint(folder, self.args.world_size)):
            self._save_checkpoint(self.model, trial=None)
        return f"The state before it is kept in {folder}."

    def create_model_card(self, *args, **kwargs) -> None:
        """TRL's card names a licence called "license" and a model called None; the scripts write the run's own card."""


class _ShardGuard(TrainerCallback):
    """Stops a run whose model is not shared out where FSDP was asked for."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        check_sharded(model)


class _NumberGuard(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights, or such weights reach a checkpoint."""

    def __init__(self, trainer: GuardedTrainer):
        self.trainer = trainer
        self.skipped_in_a_row = 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [local_part(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        if not highest(not all(torch.isfinite(gradient).all() for gradient in gradients)):
            self.skipped_in_a_row = 0
            return
        # With fp16 the scaler meets such gradients by skipping the step and halving its scale; only many in a row are a fault.
        self.skipped_in_a_row += 1
        if self.trainer.accelerator.scaler is not None and self.skipped_in_a_row < MAX_SKIPPED_STEPS:
            self.trainer.skipped_steps += 1
            print(
                f"Step {state.global_step + 1} is skipped ({self.trainer.skipped_steps} so far): a gradient overflowed fp16, and the scaler "
                "lowers its scale."
            )
            return
        raise TrainingDiverged(
            f"A gradient is not a number in step {state.global_step + 1}. {self.trainer._last_good_state()} The usual causes: "
            "activations that overflow in fp16, or a learning rate far too high."
        )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        bad = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not torch.isfinite(local_part(parameter)).all()
        ]
        if highest(bool(bad)):
            # This state must not be saved: the checkpoint before it is the last good one.
            raise TrainingDiverged(
                f"The weights of {bad[0] if bad else 'the adapter'} are no longer numbers after step {state.global_step}. Earlier "
                f"checkpoints in {args.output_dir} are untouched. The usual cause: an optimizer whose epsilon vanishes in half "
                "precision, or a learning rate far too high."
            )


class _StopOnInterrupt(TrainerCallback):
    """At Ctrl-C, finishes the step, saves a checkpoint and stops; a second Ctrl-C stops at once."""

    def __init__(self):
        self.asked_at = None
        self.stopping = False
        self.previous = None
        self.several = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.several = args.world_size > 1
        self.previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame):
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
            if is_main():
                print("\nStopping after this step; once more Ctrl-C stops at once.", file=sys.stderr)
        elif not self.several or now - self.asked_at > SECONDS_OF_ONE_INTERRUPT:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **kwargs):
        self.stopping = bool(highest(self.asked_at is not None))
        if self.stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGINT, self.previous)
        if self.stopping:
            raise KeyboardInterrupt


def score_completions_only() -> None:
    """
    Let TRL's fused LM head project completion tokens only, on every device.

    Without Triton, TRL scores prompt and padding as well and throws the result away, so that tile shapes stay the same for
    devices that compile. On a CPU that is most of the head's work, and the head is most of a small model's step.
    """
    # The head's module asks this to choose the positions; the kernels ask their own copy and keep using torch.
    trl.trainer.utils._use_triton = lambda device: True
