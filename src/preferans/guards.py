"""What keeps a training run sound: adapters in fp32, a stop at the first number that is none, and nothing lost at Ctrl-C."""

import signal
import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainerCallback, TrainerState

from .errors import TrainingDiverged
from .run_folder import is_complete

# The scaler starts at 65,536 and halves at each skipped step: after this many it has gone below any useful scale.
MAX_SKIPPED_STEPS = 25


class GuardedTrainer(Trainer):
    """
    A mixin for TRL's trainers, whose adapters then train in fp32 and which stop at the first number that is none.

    TRL casts the adapters of a quantized model to bf16 (`DPOTrainer.__init__`, "When using QLoRA"). There a gradient scaler
    cannot unscale them (trl#4901), and at DPO's small learning rates most updates are rounded away. They are cast back here,
    before the optimizer exists.

    Takes the arguments of the trainer it is mixed into.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.add_callback(_NumberGuard(self))
        self.add_callback(_StopOnInterrupt())

    def training_step(self, model, inputs, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        value = loss.item()
        if value != value or abs(value) == float("inf"):
            raise TrainingDiverged(
                f"The loss is {value} in step {self.state.global_step + 1}. {self._last_good_state()} The usual causes: weights "
                "or activations that overflow in fp16 (Gemma does; use dtype: float32), or a learning rate far too high."
            )
        if value == 0.0:
            raise TrainingDiverged(
                f"The loss is exactly 0 in step {self.state.global_step + 1}, so nothing is learned. {self._last_good_state()} The "
                "usual causes: fp16 weights whose log-probabilities overflowed, a beta or learning rate far too high, or answers "
                "cut away by max_length."
            )
        return loss

    def train_from(self, checkpoint: str | None) -> dict[str, float]:
        """
        Train from the start or from a checkpoint, and do nothing where the checkpoint is that of the last step: there
        [`~transformers.Trainer`] would take a step too many.

        Args:
            checkpoint (`str`, *optional*):
                Folder of a complete checkpoint.

        Returns:
            `dict[str, float]`: the trainer's metrics of this session.
        """
        if checkpoint:
            state = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json")))
            if state.global_step >= state.max_steps:
                print(f"Training was finished in {checkpoint}.")
                self.state = state
                self._load_from_checkpoint(checkpoint)
                return {}
            print(f"Going on from {checkpoint}.")
        return self.train(resume_from_checkpoint=checkpoint).metrics

    def _last_good_state(self) -> str:
        """Save the state before the bad step, unless a checkpoint of it is there, and say where it lies."""
        if self.state.global_step == 0:
            return "No step was completed, so there is nothing to keep."
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if not is_complete(folder):
            self._save_checkpoint(self.model, trial=None)
        return f"The state before it is kept in {folder}."

    def create_model_card(self, *args, **kwargs) -> None:
        """TRL's card names a licence called "license" and a model called None; the scripts write the run's own card."""


class _NumberGuard(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights, or such weights reach a checkpoint."""

    def __init__(self, trainer: GuardedTrainer):
        self.trainer = trainer
        self.skipped_steps = 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if all(torch.isfinite(gradient).all() for gradient in gradients):
            self.skipped_steps = 0
            return
        # With fp16 the scaler meets such gradients by skipping the step and halving its scale; only many in a row are a fault.
        self.skipped_steps += 1
        if self.trainer.accelerator.scaler is not None and self.skipped_steps < MAX_SKIPPED_STEPS:
            print(
                f"Step {state.global_step + 1} is skipped: a gradient overflowed fp16, and the scaler lowers its scale."
            )
            return
        raise TrainingDiverged(
            f"A gradient is not a number in step {state.global_step + 1}. {self.trainer._last_good_state()} The usual causes: "
            "activations that overflow in fp16, or a learning rate far too high."
        )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter).all():
                # This state must not be saved: the checkpoint before it is the last good one.
                raise TrainingDiverged(
                    f"The weights of {name} are no longer numbers after step {state.global_step}. Earlier checkpoints in "
                    f"{args.output_dir} are untouched. The usual cause: an optimizer whose epsilon vanishes in half precision, or a "
                    "learning rate far too high."
                )


class _StopOnInterrupt(TrainerCallback):
    """At Ctrl-C, finishes the step, saves a checkpoint and stops; a second Ctrl-C stops at once."""

    def __init__(self):
        self.asked = False
        self.previous = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, frame):
        self.asked = True
        signal.signal(signal.SIGINT, self.previous)
        print("\nStopping after this step; once more Ctrl-C stops at once.", file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGINT, self.previous)
        if self.asked:
            raise KeyboardInterrupt
