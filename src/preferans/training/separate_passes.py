"""
DPO with one sequence on the card at a time, with TRL's own loss and exact gradients.

A pair's loss depends on the log-probabilities of both answers, so TRL runs both through the model together and keeps the activations
of both. But the loss needs only the values of the log-probabilities, and each sequence's gradient is the gradient of its
log-probabilities times a factor from the loss. So the values are computed first, without activations; TRL computes the loss and its
derivative with respect to each log-probability; then each sequence is run and differentiated alone. By the chain rule nothing is
approximated. It saves the activations of all sequences except one, and costs one more forward pass for all sequences except one.
"""

import torch
from peft import PeftModel
from trl import DPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from ..errors import PreferansError
from ..hardware.processes import is_sharded
from .packed_pairs import pack_pairs, why_not_packed

# The model's outputs that TRL's loss and metrics use, one value per token.
PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


class SeparatePassesTrainer(DPOTrainer):
    """
    [`~trl.DPOTrainer`] that can run the sequences of a batch one after another, or packed.

    Every loss that TRL computes from the tokens' log-probabilities works unchanged.

    Args:
        pair_layout (`str`, *optional*, defaults to `"padded"`): With `"separate"`, separate passes are used; with `"packed"`,
            [`~preferans.training.packed_pairs.pack_pairs`].

    Other arguments are those of [`~trl.DPOTrainer`].

    Raises:
        [`PreferansError`]: if a key of the recipe needs the whole batch in one pass.
    """

    def __init__(self, *args, pair_layout: str = "padded", **kwargs):
        super().__init__(*args, **kwargs)
        self.pair_layout = pair_layout
        if pair_layout == "separate":
            self.check_separate_passes()
        elif pair_layout == "packed":
            self._pack_pairs()

    def _pack_pairs(self) -> None:
        """
        Run pairs packed from now on.

        Raises:
            [`PreferansError`]: if packing is not exact for this model or recipe.
        """
        model = self.accelerator.unwrap_model(self.model)
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        reason = why_not_packed(model.config, model.config._attn_implementation)
        if self.aux_loss_enabled:
            reason = "the load-balancing loss of a mixture of experts is computed from the padded batch"
        if is_sharded():
            reason = "the model is sharded"
        if reason:
            raise PreferansError(f"pair_layout: packed cannot be used here: {reason}. Write pair_layout: padded.")
        pack_pairs(model)

    def check_separate_passes(self) -> None:
        """
        Check that the recipe allows separate passes.

        Raises:
            [`PreferansError`]: names the key that does not.
        """
        reason = None
        if self.accelerator.num_processes > 1:
            reason = f"it is for one small card, and this run has {self.accelerator.num_processes} processes"
        elif not self.precompute_ref_logps:
            reason = "it needs precompute_ref_log_probs: true, because the reference would run the whole batch at once"
        elif self.aux_loss_enabled:
            reason = "the load-balancing loss of a mixture of experts is not computed from log-probabilities"
        elif any(module.p > 0 for module in self.model.modules() if isinstance(module, torch.nn.Dropout)):
            reason = "dropout would differ between the passes; set lora_dropout: 0.0 or disable_dropout: true"
        if reason:
            raise PreferansError(f"pair_layout: separate cannot be used here: {reason}.")

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        if self.pair_layout != "separate":
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        return self.backward_separately(model, self._prepare_inputs(inputs))

    def backward_separately(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """
        Add the gradients of a batch to the parameters, one sequence at a time.

        Args:
            model (`torch.nn.Module`): Model in training.
            inputs (`dict[str, torch.Tensor]`):
                Batch of TRL's collator: the chosen answers of all pairs, then the rejected ones, padded on the right.

        Returns:
            `torch.Tensor`: the batch's loss, divided by the number of accumulated batches.
        """
        number, width = inputs["input_ids"].shape
        lengths = inputs["attention_mask"].sum(dim=1).tolist()

        def run(row: int) -> FusedCausalLMOutput:
            ids, mask, completion = (
                inputs[name][row : row + 1, : lengths[row]]
                for name in ("input_ids", "attention_mask", "completion_mask")
            )
            labels = ids.masked_fill(completion == 0, -100)
            return model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)

        def widen(values: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.pad(values.detach(), (0, width - 1 - values.size(1)))

        outputs = []
        with torch.no_grad():
            for row in range(number - 1):
                output = run(row)
                outputs.append({name: getattr(output, name) for name in PER_TOKEN})
        # The last sequence is run only once, with its activations.
        with self.maybe_activation_offload_context:
            last = run(number - 1)
            outputs.append({name: getattr(last, name) for name in PER_TOKEN})
            joined = FusedCausalLMOutput(
                **{
                    name: torch.cat([widen(output[name]) for output in outputs])
                    for name in PER_TOKEN
                    if outputs[0][name] is not None
                }
            )
            joined.log_probs.requires_grad_()
            loss = self._compute_loss(lambda **_: joined, inputs, return_outputs=False)
            loss = loss / self.current_gradient_accumulation_steps
            (slopes,) = torch.autograd.grad(loss, joined.log_probs)

            def backward(row: int, log_probs: torch.Tensor) -> None:
                self.accelerator.backward((log_probs * slopes[row : row + 1, : log_probs.size(1)]).sum())

            backward(number - 1, last.log_probs)
        del last, outputs
        for row in range(number - 1):
            with self.maybe_activation_offload_context:
                backward(row, run(row).log_probs)
        return loss.detach()
