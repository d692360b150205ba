"""
DPO on a small card: TRL's trainer with fp32 adapters and guards against NaN.

TRL and PEFT implement [DPO](https://huggingface.co/papers/2305.18290) and [QLoRA](https://huggingface.co/papers/2305.14314); this module
adds what a 4 GB card without bf16 needs.
"""

import contextlib
import functools
import hashlib
import sys
from collections.abc import Callable
from itertools import cycle, islice

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from datasets.fingerprint import Hasher
from peft import PeftModel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from ..hardware.device import peak_memory
from ..hardware.processes import count, is_main
from .guards import GuardedTrainer
from .lm_head import use_fast_lm_head
from .separate_passes import SeparatePassesTrainer


def pair_lengths(dataset: Dataset, max_length: int | None) -> tuple[list[int], list[int]]:
    """
    Return the numbers of tokens of every pair's sequences: with the chosen, and with the rejected answer.

    Args:
        dataset ([`~datasets.Dataset`]): Dataset tokenized by the trainer.
        max_length (`int`, *optional*): Tokens that a sequence is cut to.
    """
    prompts = [len(ids) for ids in dataset["prompt_ids"]]
    longest = max_length or sys.maxsize
    chosen, rejected = (
        [min(prompt + len(ids), longest) for prompt, ids in zip(prompts, dataset[f"{side}_ids"], strict=True)]
        for side in ("chosen", "rejected")
    )
    return chosen, rejected


class PreferenceTrainer(GuardedTrainer, SeparatePassesTrainer):
    """
    [`~trl.DPOTrainer`] with fp32 adapters, guards and optional separate passes.

    Args:
        on_longest (`Callable[[int], None]`, *optional*):
            Receives the peak memory of the longest pairs in bytes, which are then tried before the first step.

    Other arguments are those of [`~preferans.training.separate_passes.SeparatePassesTrainer`].
    """

    _total_train_tokens: int  # set by TRL

    def __init__(self, *args, on_longest: Callable[[int], None] | None = None, **kwargs):
        use_fast_lm_head()
        model = kwargs.get("model")
        start = (
            {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            if isinstance(model, PeftModel)
            else {}
        )
        super().__init__(*args, **kwargs)
        # TRL rounds an adapter that training continues to bf16, but not its frozen copy, the reference.
        for name, weight in start.items():
            self.model.get_parameter(name).data = weight.float()
        if start:
            # The reference is always recreated from the starting adapter, so only the trained adapter is saved.
            self.model.save_pretrained = functools.partial(self.model.save_pretrained, selected_adapters=["default"])
        if on_longest:
            self.add_callback(_LongestFirst(self, on_longest))

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # TRL's cache key includes the dataset's history with every key of the recipe, and the whole model with the adapter's random
        # start. The reference depends only on the tokens, the base model and the precision.
        tokens = [dataset[f"{part}_ids"][:] for part in ("prompt", "chosen", "rejected")]
        args = self.args
        settings = (args.max_length, args.truncation_mode, args.fp16, args.bf16, args.ld_alpha)
        base = sorted(
            (name, weight)
            for name, weight in self.model.state_dict().items()
            if "lora_" not in name or ".ref." in name
        )
        self._precompute_model_hash = Hasher.hash([(name, _digest(weight)) for name, weight in base])
        content = Hasher.hash((tokens, settings))
        dataset = dataset.select_columns(dataset.column_names, new_fingerprint=content)
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        dataset = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if args.train_sampling_strategy == "group_by_length" and args.length_column_name not in dataset.column_names:
            lengths = [sum(tokens) for tokens in zip(*pair_lengths(dataset, args.max_length), strict=True)]
            dataset = dataset.add_column(args.length_column_name, lengths)
        return dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return _GroupedByLength(sampler, self.args.data_seed or self.args.seed)
        return sampler

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if (
            self.args.length_column_name not in self._signature_columns
        ):  # otherwise the sampler does not get the lengths
            self._signature_columns.append(self.args.length_column_name)

    def try_longest(self) -> int:
        """
        Run the longest pairs forward and backward without changing weights, random state or metrics.

        Returns:
            `int`: peak memory in bytes, with space for the optimizer's state.
        """
        lengths = [max(pair) for pair in zip(*pair_lengths(self.train_dataset, self.args.max_length), strict=True)]
        longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[: self.args.per_device_train_batch_size]
        pairs = [self.train_dataset[i] for i in longest]
        counted, self.current_gradient_accumulation_steps = self._total_train_tokens, 1
        on_card = self.args.device.type == "cuda"
        # As in later steps: the optimizer has its two moments, and gradients of earlier batches of the step exist.
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        moments = 0 if self.optimizer and self.optimizer.state else 2 if "8bit" in str(self.args.optim) else 8
        state = torch.empty(
            moments * sum(parameter.numel() for parameter in trained), dtype=torch.uint8, device=self.args.device
        )
        if self.args.gradient_accumulation_steps > 1:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
        if on_card:
            torch.cuda.reset_peak_memory_stats()
        with torch.random.fork_rng(devices=[self.args.device] if on_card else []):
            self.training_step(self.model_wrapped, self.data_collator(pairs))
        peak = peak_memory()
        del state
        self.model.zero_grad()
        self._metrics["train"].clear()
        self._total_train_tokens = counted
        return peak

    def completion_log_probs(self, dataset: Dataset, use_reference: bool, description: str) -> list[dict[str, float]]:
        """
        Compute the log-probabilities of both answers of every pair.

        Args:
            dataset ([`~datasets.Dataset`]): Preference rows that are not tokenized.
            use_reference (`bool`): Whether to use the reference instead of the model in training.
            description (`str`): Label of the progress bar.

        Returns:
            `list[dict[str, float]]`: in the order of `dataset`, `chosen_logp` and `rejected_logp`, sums over an answer's tokens in nats,
            and `chosen_tokens` and `rejected_tokens`, their numbers.
        """
        prepared = self._prepare_dataset(dataset, self.processing_class, self.args, "evaluation")
        if len(prepared) != len(dataset):
            raise ValueError(
                "TRL drops prompts that fill max_length: pass the dataset through drop_long_prompts first"
            )
        prepared = prepared.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
        # Long pairs first: less padding, and running out of memory shows at once.
        order = sorted(range(len(prepared)), key=lambda i: -sum(len(ids) for ids in prepared[i].values()))
        # Every process gets the same number of pairs, some of them twice, because a sharded model computes in all processes at once.
        rounds = -(-len(order) // count())
        order = list(islice(cycle(order), rounds * count()))[self.args.process_index :: count()]
        loader = DataLoader(
            prepared, batch_size=self.args.per_device_eval_batch_size, sampler=order, collate_fn=self.data_collator
        )
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        scored: list[dict[str, float]] = []
        with torch.no_grad(), disable_gradient_checkpointing(model, self.args.gradient_checkpointing_kwargs):
            for batch in tqdm(loader, desc=description, disable=self.args.disable_tqdm or not is_main()):
                scored += self._score_batch(model, self._prepare_inputs(batch), use_reference)
        model.train(was_training)
        by_pair = dict(gather_object(list(zip(order, scored, strict=True))))
        return [by_pair[i] for i in range(len(dataset))]

    def _score_batch(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor], use_reference: bool
    ) -> list[dict[str, float]]:
        mask = batch.pop("completion_mask")
        labels = batch["input_ids"].masked_fill(mask == 0, -100)
        # Plain sums for both models: TRL's compute_ref_log_probs would weight the reference's by ld_alpha.
        # A run that started from an adapter has a frozen copy of it as reference; otherwise the adapter is disabled.
        reference = "ref" if "ref" in model.peft_config else None
        adapter = use_adapter(model, adapter_name=reference) if use_reference else contextlib.nullcontext()
        with adapter, self.accelerator.autocast():
            log_probs = model(**batch, use_cache=False, labels=labels, fused_lm_head=True).log_probs
        columns = [*log_probs.sum(dim=1).chunk(2), *mask[:, 1:].sum(dim=1).chunk(2)]
        names = ("chosen_logp", "rejected_logp", "chosen_tokens", "rejected_tokens")
        return [
            dict(zip(names, (value.item() for value in values), strict=True)) for values in zip(*columns, strict=True)
        ]


def _digest(weight: torch.Tensor) -> str:
    """Return the SHA-256 of a tensor's bytes."""
    return hashlib.sha256(weight.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


class _LongestFirst(TrainerCallback):
    """Try the longest pairs before the first step, so that running out of memory shows at once and not in an hour."""

    def __init__(self, trainer: PreferenceTrainer, report: Callable[[int], None]):
        self.trainer, self.report = trainer, report

    def on_train_begin(self, args, state, control, **kwargs):
        self.report(self.trainer.try_longest())


class _GroupedByLength(torch.utils.data.Sampler):
    """
    Group pairs by length in the same way for the same seed and epoch.

    [`~transformers.trainer_pt_utils.LengthGroupedSampler`] draws from the process's random state, which differs in a resumed run, so
    that pairs would be skipped and repeated.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int):
        self.sampler, self.seed, self.epoch = sampler, seed, 0

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(self.sampler)
