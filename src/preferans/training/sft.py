"""
Supervised fine-tuning on the chosen answers of a preference dataset.

A base model that has never seen a chat learns how an answer looks and where it ends, but not which of two answers is better.
"""

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from trl import SFTTrainer
from trl.models.utils import disable_gradient_checkpointing

from .guards import GuardedTrainer
from .lm_head import use_fast_lm_head


def completions(rows: Dataset, side: str = "chosen") -> Dataset:
    """
    Return one side of preference pairs in the format of TRL's SFT trainer: columns `prompt` and `completion`.

    Args:
        rows ([`~datasets.Dataset`]): Preference rows, with messages or texts.
        side (`str`, *optional*, defaults to `"chosen"`): `"chosen"` or `"rejected"`.
    """
    return rows.select_columns(["prompt", side]).rename_column(side, "completion")


def drop_repeated(rows: Dataset) -> Dataset:
    """Drop repeated rows of [`completions`]: an answer that is chosen over several others is learned once."""
    seen = {str((row["prompt"], row["completion"])): number for number, row in reversed(list(enumerate(rows)))}
    return rows.select(sorted(seen.values()))


class ImitationTrainer(GuardedTrainer, SFTTrainer):
    """
    [`~trl.SFTTrainer`] with fp32 adapters and guards.

    It has the arguments of [`~trl.SFTTrainer`], with datasets of [`completions`]. Only the completion and its end token are learned.
    """

    def __init__(self, *args, **kwargs):
        use_fast_lm_head()
        super().__init__(*args, **kwargs)

    def completion_log_probs(self, dataset: Dataset, use_base: bool, description: str) -> list[dict[str, float]]:
        """
        Compute the log-probability of every completion, of its words and of its end.

        Args:
            dataset ([`~datasets.Dataset`]): See [`completions`].
            use_base (`bool`): Whether to use the base model instead of the model in training.
            description (`str`): Label of the progress bar.

        Returns:
            `list[dict[str, float]]`: in the order of `dataset`, `logp`, the sum over a completion's tokens in nats, and `tokens`, their
            number; `words_logp` and `words_tokens`, the same without the end token and the template's text after it; `end_logp`, that
            of the end token, or `None` if `max_length` cut it off.
        """
        prepared = self._prepare_dataset(dataset, self.processing_class, self.args, False, None, "test")
        if len(prepared) != len(dataset):
            raise ValueError(
                "TRL drops prompts that fill max_length: pass the dataset through drop_long_prompts first"
            )
        prepared = prepared.select_columns(["input_ids", "labels"])
        # Long answers first: less padding, and running out of memory shows at once.
        order = sorted(range(len(prepared)), key=lambda i: -len(prepared[i]["input_ids"]))
        loader = DataLoader(
            prepared, batch_size=self.args.per_device_eval_batch_size, sampler=order, collate_fn=self.data_collator
        )
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        if use_base:
            model.disable_adapter_layers()
        scored = []
        try:
            with torch.no_grad(), disable_gradient_checkpointing(model, self.args.gradient_checkpointing_kwargs):
                for batch in tqdm(loader, desc=description, disable=self.args.disable_tqdm):
                    batch = self._prepare_inputs(batch)
                    with self.accelerator.autocast():
                        outputs = model(**batch, use_cache=False, fused_lm_head=True)
                    scored += _parts(outputs.log_probs, batch["labels"][:, 1:], self.processing_class.eos_token_id)
        finally:
            if use_base:
                model.enable_adapter_layers()
            model.train(was_training)
        return [score for _, score in sorted(zip(order, scored, strict=True), key=lambda item: item[0])]

    def pair_log_probs(self, rows: Dataset, use_base: bool, description: str) -> list[dict[str, float]]:
        """
        Compute the log-probabilities of both answers of every preference pair.

        Args:
            rows ([`~datasets.Dataset`]): Preference rows.
            use_base (`bool`), description (`str`): See [`completion_log_probs`].

        Returns:
            `list[dict[str, float]]`: for each pair the values of [`completion_log_probs`], with the prefixes `chosen_` and `rejected_`.
        """
        chosen, rejected = (
            self.completion_log_probs(completions(rows, side), use_base, f"{description}, {side}")
            for side in ("chosen", "rejected")
        )
        return [
            {f"chosen_{key}": value for key, value in good.items()}
            | {f"rejected_{key}": value for key, value in bad.items()}
            for good, bad in zip(chosen, rejected, strict=True)
        ]


def _parts(log_probs: torch.Tensor, labels: torch.Tensor, end: int) -> list[dict[str, float]]:
    """Return the values of [`ImitationTrainer.completion_log_probs`] for a batch; both tensors have one row per completion."""
    learned = labels != -100
    ends = labels == end
    words = learned & (ends.cumsum(dim=1) == 0)
    rows = []
    for values, is_learned, is_word, is_end in zip(log_probs, learned, words, ends, strict=True):
        rows.append(
            {
                "logp": values[is_learned].sum().item(),
                "tokens": int(is_learned.sum()),
                "words_logp": values[is_word].sum().item(),
                "words_tokens": int(is_word.sum()),
                "end_logp": values[is_end][0].item() if is_end.any() else None,
            }
        )
    return rows
