"""
Guards of training: fp32 adapters, a stop at NaN, and nothing lost on Ctrl-C.

With several processes, all of them take every decision together.
"""

import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import Trainer, TrainerCallback, TrainerState

from ..errors import PreferansError, TrainingDiverged, disk_errors
from ..hardware.device import peak_memory
from ..hardware.processes import check_sharded, from_main, highest, is_main, local_part
from .run_folder import is_complete_checkpoint

# The scaler starts at 65,536 and halves at each skipped step, so after this many its scale is useless.
MAX_SKIPPED_STEPS = 25
# The terminal sends Ctrl-C to every process, and the launcher forwards it again.
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
    A mixin for TRL's trainers that trains adapters in fp32 and stops at the first NaN or infinity.

    TRL casts the adapters of a quantized model to bf16 (`DPOTrainer.__init__`, "When using QLoRA"). A gradient scaler cannot unscale
    bf16 gradients (trl#4901), and at DPO's small learning rates most updates are rounded away. The adapters are cast back to fp32
    before the optimizer exists.

    Attributes:
        skipped_steps (`int`): Steps of this session that were skipped because a gradient overflowed fp16.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.skipped_steps = 0
        for module in self.model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter.is_meta:
                    # In a process that receives the weights: accelerate distinguishes the optimizer's parameters by address.
                    empty = torch.zeros_like(parameter, dtype=torch.float32, device="cpu")
                    setattr(module, name, torch.nn.Parameter(empty))
                elif parameter.requires_grad:
                    parameter.data = parameter.data.float()
        if self.args.ddp_find_unused_parameters is None:
            # Every adapter is used in every step, so searching for unused parameters only costs time.
            self.args.ddp_find_unused_parameters = False
        if self.is_fsdp_enabled and self.accelerator.mixed_precision != "no":
            self._keep_log_probs_in_fp32()
        self.add_callback(_ShardGuard())
        self.add_callback(_NumberGuard(self))
        self.add_callback(_StopOnInterrupt())

    def _keep_log_probs_in_fp32(self) -> None:
        """
        Keep the model's outputs and FSDP's summed gradients in fp32; accelerate casts both to 16 bits.

        Near -150, bf16 has only whole numbers, and DPO learns from smaller differences of log-probabilities.
        """
        plugin = self.accelerator.state.fsdp_plugin
        plugin.mixed_precision_policy = dataclasses.replace(
            plugin.mixed_precision_policy, output_dtype=None, reduce_dtype=torch.float32
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # a training step, not an evaluation or the final summary
            logs["peak_memory_bytes"] = peak_memory()
        if self.accelerator.scaler is not None:
            logs["skipped_steps"] = self.skipped_steps
        super().log(logs, start_time)

    def _determine_best_metric(self, *args, **kwargs) -> bool:
        try:
            return super()._determine_best_metric(*args, **kwargs)
        except KeyError as error:
            raise PreferansError(f"metric_for_best_model: {error.args[0]}") from None

    def _save_checkpoint(self, *args, **kwargs) -> None:
        with disk_errors(self.args.output_dir):
            super()._save_checkpoint(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        with disk_errors(output_dir or self.args.output_dir):
            self._save_whole(output_dir, _internal_call)

    def _save_whole(self, output_dir: str | None, _internal_call: bool) -> None:
        if not self.is_fsdp_enabled:
            return super().save_model(output_dir, _internal_call)
        # `Trainer` would gather the whole base model in the main process to save the adapter.
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        self._save(output_dir, state_dict=get_model_state_dict(self.model, options=options))

    def training_step(self, model, inputs, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        value = loss.item()
        finite = value == value and abs(value) != float("inf")
        worst = highest(2.0 if not finite else 1.0 if value == 0.0 else 0.0)
        if worst == 2.0:
            raise TrainingDiverged(
                f"The loss is {value if not finite else 'NaN in another process'} in step {self.state.global_step + 1}. "
                f"{self._last_good_state()} Usual causes: weights or activations that overflow in fp16 (as with Gemma; use dtype: "
                "float32), or a learning rate that is far too high."
            )
        if worst == 1.0:
            raise TrainingDiverged(
                f"The loss is exactly 0 in step {self.state.global_step + 1}, so nothing is learned. {self._last_good_state()} Usual "
                "causes: log-probabilities that overflowed in fp16, a beta or learning rate that is far too high, or answers that "
                "max_length cuts off."
            )
        return loss

    def train_from(self, checkpoint: str | None) -> Session:
        """
        Train from the start or from a complete checkpoint.

        Nothing is trained after the checkpoint of the last step, where [`~transformers.Trainer`] would do one step too many.
        """
        trainable, total = self.model.get_nb_trainable_parameters()
        print(f"Training {trainable:,} parameters of {total:,}.")
        start = time.perf_counter()
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json")))
            if state.global_step >= state.max_steps:
                print(f"The training steps are finished: {checkpoint}.")
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
        """Save the state before the bad step, unless it has a checkpoint, and return a sentence with its location."""
        if self.state.global_step == 0:
            return "No step was completed, so there is nothing to save."
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if not from_main(lambda: is_complete_checkpoint(folder, self.args.world_size)):
            self._save_checkpoint(self.model, trial=None)
        return f"The state before it is saved in {folder}."

    def create_model_card(self, *args, **kwargs) -> None:
        """Write no card: TRL's has a wrong licence and no model name, and the scripts write their own."""


class _ShardGuard(TrainerCallback):
    """Stop a run with FSDP if its model is not sharded."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        check_sharded(model)


class _NumberGuard(TrainerCallback):
    """Stop before a NaN or infinite gradient reaches the weights, or such weights reach a checkpoint."""

    def __init__(self, trainer: GuardedTrainer):
        self.trainer = trainer
        self.skipped_in_a_row = 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [local_part(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        if not highest(not all(torch.isfinite(gradient).all() for gradient in gradients)):
            self.skipped_in_a_row = 0
            return
        # With fp16 the scaler skips such a step and halves its scale; only many in a row are a fault.
        self.skipped_in_a_row += 1
        if self.trainer.accelerator.scaler is not None and self.skipped_in_a_row < MAX_SKIPPED_STEPS:
            self.trainer.skipped_steps += 1
            print(
                f"Step {state.global_step + 1} is skipped ({self.trainer.skipped_steps} so far): a gradient overflowed in fp16, so the scaler "
                "reduces its scale."
            )
            return
        raise TrainingDiverged(
            f"A gradient is NaN or infinite in step {state.global_step + 1}. {self.trainer._last_good_state()} Usual causes: "
            "activations that overflow in fp16, or a learning rate that is far too high."
        )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        bad = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not torch.isfinite(local_part(parameter)).all()
        ]
        if highest(bool(bad)):
            # This state is not saved: the checkpoint before it is the last good one.
            raise TrainingDiverged(
                f"The weights of {bad[0] if bad else 'the adapter'} are NaN or infinite after step {state.global_step}. Earlier "
                f"checkpoints in {args.output_dir} are unchanged. Usual causes: an optimizer's epsilon that is 0 in half precision, or "
                "a learning rate that is far too high."
            )


class _StopOnInterrupt(TrainerCallback):
    """On Ctrl-C, finish the step, save a checkpoint and stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.interrupted_at: float | None = None
        self.stopping = False
        self.several = False

    def on_train_begin(self, args, state, control, **kwargs):
        self.several = args.world_size > 1
        self.previous = signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number, frame):
        now = time.monotonic()
        if self.interrupted_at is None:
            self.interrupted_at = now
            if is_main():
                print("\nStopping after this step. Press Ctrl-C again to stop at once.", file=sys.stderr)
        elif not self.several or now - self.interrupted_at > SECONDS_OF_ONE_INTERRUPT:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **kwargs):
        self.stopping = bool(highest(self.interrupted_at is not None))
        if self.stopping:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGINT, self.previous)
        if self.stopping:
            raise KeyboardInterrupt
