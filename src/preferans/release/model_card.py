"""The card of an adapter: results, limits, use, and how to reproduce it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader

from ..errors import PreferansError
from ..evaluation.held_out import imitation_scores, tested_scores
from ..evaluation.statistics import Score
from ..files import read_json
from ..hub_names import is_hub_id
from ..models.trimmed import trimmed_from, trimming_in_words

# Licences that require a notice, by the base model's name in any namespace: the Hub's name of the licence, its page, and the notice.
# Gemma 4 has other terms than earlier versions.
TERMS = {
    r"\bllama-3\.2\b": (
        "llama3.2",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/LICENSE",
        "Built with Llama. Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
    ),
    r"\bllama-3\.1\b": (
        "llama3.1",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama3_1/LICENSE",
        "Built with Llama. Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.",
    ),
    r"\bgemma-([27]b|1\.1|2|3n?)\b": (
        "gemma",
        "https://ai.google.dev/gemma/terms",
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.",
    ),
}
DPO_PAPER = "[Direct Preference Optimization](https://huggingface.co/papers/2305.18290)"
LOSS_PAPERS = {
    "ipo": "[IPO](https://huggingface.co/papers/2310.12036)",
    "robust": "[Robust DPO](https://huggingface.co/papers/2403.00409)",
    "apo_zero": "[APO](https://huggingface.co/papers/2408.06266)",
    "apo_down": "[APO](https://huggingface.co/papers/2408.06266)",
    "discopop": "[DiscoPOP](https://huggingface.co/papers/2406.08414)",
    "sigmoid_norm": "a loss per token as in [SimPO](https://huggingface.co/papers/2405.14734)",
    "sft": "imitation of the chosen answers",
}
MEANINGS = {
    "dpo": "*Likelier per token* is the share of pairs whose chosen answer has a higher log-probability per token than the rejected one; one half is "
    "chance. *Reward accuracy* is the share of pairs whose chosen answer gained more than the rejected one; before training all pairs are tied.",
    "sft": "*Loss* and *perplexity* are those of the chosen answers' words; the end token is listed separately. A lower loss means that such answers "
    "have become likelier, rejected ones included; it does not mean that answers are true, or that the better of two is preferred.",
}
TRAINED = {
    "dpo": "trained on preference pairs",
    "sft": "trained to imitate the chosen answers of preference pairs",
}
HUB = "https://huggingface.co"
TEMPLATES = Environment(
    loader=PackageLoader("preferans", "release"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
QUESTION = "Почему осенью желтеют листья?"
MERGED = "preferans_merge.json"  # beside a merged model, see merge.py
WIDGETS = (QUESTION, "Посоветуй, чем заняться в дождливые выходные.", "Объясни простыми словами, что такое инфляция.")


def base_on_hub(name: str) -> str | None:
    """Hub id of the model that an adapter of `name` fits: `name` itself or the model it was trimmed from; `None` for a local model."""
    record = trimmed_from(name)
    if record and "merged_with" in record:
        return None
    return _plain_id(record["source"] if record else _made_from(name, ("preferans_base.json",)))


def descends_from(name: str) -> str | None:
    """Hub id of the model whose licence covers `name`, also if an adapter was merged into it."""
    record = trimmed_from(name)
    return _plain_id(record["source"] if record else _made_from(name, ("preferans_base.json", MERGED)))


def _made_from(name: str, records: tuple[str, ...]) -> str:
    for path in (Path(name, record) for record in records):
        if path.is_file():
            base = read_json(path)["base_model"]
            return base if isinstance(base, str) else descends_from(base["name"]) or base["name"]
    return name


def _plain_id(name: str) -> str | None:
    return name.split("@")[0] if is_hub_id(name) else None


def licence_of(base: str | None) -> tuple[str, str | None, str | None]:
    """
    Licence of a model derived from a base model.

    Returns:
        `tuple`: the Hub's name of the licence, its page, and the notice that it requires.
    """
    name = (base or "").split("/")[-1].lower()
    return next((terms for pattern, terms in TERMS.items() if re.search(pattern, name)), ("other", None, None))


def notice_of(licence: str | None) -> str | None:
    """The notice that a licence requires in a file beside the weights."""
    return next((f"{notice}\n{page}" for name, page, notice in TERMS.values() if name == licence), None)


def model_card(folder: str | Path, repo_id: str | None = None, report: str | None = None) -> str:
    """
    Write the card of a run's adapter.

    Args:
        folder (`str` or `Path`): Folder of a finished run.
        repo_id (`str`, *optional*): Name on the Hub for the example code. By default the folder.
        report (`str`, *optional*): Markdown of a report on its answers.

    Returns:
        `str`: YAML metadata for the Hub, and Markdown.
    """
    folder = Path(folder)
    run = read_json(folder / "provenance.json")
    tested = read_json(folder / "test_log_probs.json")
    method = run.get("method", "dpo")
    tokenizer = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model_name = run["model"]["name"]
    base = base_on_hub(model_name)
    terms = licence_of(base or descends_from(model_name))
    licence, page, notice = terms
    results, scores = _results(tested, method)
    keys = run["keys"]
    run = portable(run)
    dataset = run["dataset"]["name"]
    title = (repo_id or folder.resolve().name).split("/")[-1]
    return TEMPLATES.get_template("model_card.md.jinja").render(
        head=_head(title, run, base, terms, scores),
        title=title,
        what=f"A LoRA adapter for `{base or run['model']['name']}`, {TRAINED[method]} with Preferans.",
        trimming=_trimming(model_name),
        trimmed=trimmed_from(model_name) is not None,
        unpacked=_unpacked_from(model_name),
        started_from=run.get("started_from"),
        notice=notice,
        results=results,
        pairs=len(tested["before"]),
        meaning=MEANINGS[method],
        report=report,
        base=base or run["model"]["name"],
        repo_id=repo_id or folder.as_posix(),
        on_hub=repo_id is not None,
        four_bits=_four_bits(keys),
        dtype=keys.get("dtype", "float32"),
        chat=bool(tokenizer.get("chat_template")) or (folder / "chat_template.jinja").is_file(),
        question=QUESTION,
        method=_method(run, method),
        dataset=f"[{dataset}]({HUB}/datasets/{dataset.split('@')[0]})" if is_hub_id(dataset) else f"`{dataset}`",
        run=run,
        measured=_measured(run.get("measured", {})),
        command=f"accelerate launch scripts/{method}.py recipe.yaml",
        keys=recipe_of(run).strip(),
        licence=f"That of the base model, {licence}: {page}. The dataset has its own licence."
        if page
        else "That of the base model, which also covers adapters. The dataset has its own licence.",
    )


def portable(value: Any) -> Any:
    """A JSON value, such as provenance, without folders of this machine: of an absolute path only the last part remains."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    absolute = isinstance(value, str) and re.match(r"(/|~|\\\\|[A-Za-z]:[\\/])", value) and "\n" not in value
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if absolute else value


def _trimming(name: str) -> str:
    record, sentences = trimmed_from(name) or {}, trimming_in_words(name)
    for path in (*record.get("merged_with", []), record.get("source", "")):
        sentences = sentences.replace(f"`{path}`", f"`{portable(path)}`")
    return sentences


def _unpacked_from(name: str) -> str | None:
    """Checksum of the GGUF file that a base model's weights were unpacked from."""
    path = Path(name, "preferans_base.json")
    return read_json(path).get("gguf_sha256") if path.is_file() else None


def recipe_of(run: dict[str, Any]) -> str:
    """The complete recipe of a run as YAML, with changes from the command line and the starting adapter, without the Hub keys."""
    keys = {
        name: value for name, value in portable(run)["keys"].items() if not name.startswith(("push_to_hub", "hub_"))
    }
    start = run.get("started_from")
    if start:
        name = portable(start)["adapter"]
        keys = {key: value for key, value in keys.items() if key != "model_revision"}
        keys |= {"model_name_or_path": f"{name}@{start['revision']}" if start["revision"] else name}
    return yaml.safe_dump(keys, allow_unicode=True, sort_keys=False, width=119)


def _head(
    title: str,
    run: dict[str, Any],
    base: str | None,
    terms: tuple[str, str | None, str | None],
    scores: dict[str, Score],
) -> str:
    dataset = run["dataset"]["name"]
    licence, page, _ = terms
    data = ModelCardData(
        language=["ru"],
        license=licence,
        license_link=page,
        **({"license_name": "that-of-the-base-model"} if licence == "other" else {}),
        base_model=base,
        **({"base_model_relation": "adapter"} if base else {}),
        datasets=[dataset.split("@")[0]] if is_hub_id(dataset) else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=[run.get("method", "dpo"), "lora", "trl", "preferans"],
        widget=[{"messages": [{"role": "user", "content": text}]} for text in WIDGETS],
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=dataset.split("@")[0] if is_hub_id(dataset) else "preference",
                dataset_name=f"{Path(dataset).name}, test split",
                metric_type=name,
                metric_value=round(score.value, 4),
                metric_name=f"{name} [{score.low:.3f}, {score.high:.3f}], n = {score.cases}",
            )
            for name, score in scores.items()
        ]
        or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _cell(score: Score, percent: bool) -> str:
    if percent:
        return f"{score.value:.1%} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _results(tested: dict[str, Any], method: str) -> tuple[list[tuple[str, str, str]], dict[str, Score]]:
    """Rows of the table, and scores for the metadata."""
    if not tested["before"]:
        return [], {}
    if method == "sft":
        scores = imitation_scores(tested["before"], tested["after"], tested["groups"])
        rows = [
            ("Loss of the chosen answers, nats per token", "test_chosen_loss", False),
            ("Perplexity of the chosen answers", "test_chosen_perplexity", False),
            ("Probability of the end token where one ends", "test_end_probability", True),
            ("Chosen answer likelier per token than the rejected one", "test_normalised_accuracy", True),
        ]
        names = ("test_chosen_loss_after", "test_normalised_accuracy_after")
    else:
        scores = tested_scores(tested)
        rows = [("Chosen answer likelier per token than the rejected one", "test_normalised_accuracy", True)]
        names = ("test_normalised_accuracy_after", "test_reward_accuracy")
    table = [
        (label, _cell(scores[f"{name}_before"], percent), _cell(scores[f"{name}_after"], percent))
        for label, name, percent in rows
    ]
    if method == "dpo":
        table += [
            ("Reward accuracy", "tie", _cell(scores["test_reward_accuracy"], True)),
            ("Reward margin", "0", _cell(scores["test_reward_margin"], False)),
            ("Reward of the chosen answers", "0", _cell(scores["test_chosen_reward"], False)),
        ]
    return table, {name: scores[name] for name in names if scores[name].cases}


def _method(run: dict[str, Any], method: str) -> str:
    keys = run["keys"]
    rank = f"LoRA of rank {keys.get('lora_r', 16)} in fp32 on {'4-bit (NF4)' if keys.get('load_in_4bit') else 'whole'} weights"
    if method == "sft":
        return f"Imitation of the chosen answers, {rank}, with transformers, TRL and PEFT."
    losses = keys.get("loss_type", ["sigmoid"])
    losses = losses if isinstance(losses, list) else [losses]
    papers = [LOSS_PAPERS[loss] for loss in losses if loss in LOSS_PAPERS]
    return (
        f"{DPO_PAPER} with TRL's DPOTrainer, loss `{' + '.join(losses)}`{' (' + ', '.join(papers) + ')' if papers else ''}, beta "
        f"{keys.get('beta', 0.1)}; {rank}."
    )


def _four_bits(keys: dict[str, Any]) -> str:
    """Arguments of `BitsAndBytesConfig` for a run with a 4-bit base model, otherwise empty."""
    if not keys.get("load_in_4bit"):
        return ""
    return (
        f'bnb_4bit_quant_type="{keys.get("bnb_4bit_quant_type", "nf4")}", bnb_4bit_use_double_quant={bool(keys.get("use_bnb_nested_quant"))}, '
        f'bnb_4bit_compute_dtype="{keys.get("dtype", "float32")}"'
    )


def _measured(figures: dict[str, Any]) -> str:
    """Time and memory in one sentence; empty if the run was not measured."""
    if not figures:
        return ""
    device = figures["device"]
    start = "After the last interruption, training took" if figures.get("resumed_from") else "Training took"
    minutes, peak = figures["train_seconds"] / 60, figures["peak_memory_bytes"] / 2**20
    sentence = f"{start} {minutes:.1f} minutes and {peak:,.0f} MiB at its peak on {device}"
    skipped = figures.get("skipped_steps")
    return f"{sentence}; {figures['precision']}{f'; {skipped} steps skipped by the fp16 scaler' if skipped else ''}."


def merged_card(folder: str | Path, provenance: dict[str, Any], base: str, sentences: str, adapter_only: bool) -> str:
    """
    Write the card of a merged model.

    Args:
        folder (`str` or `Path`): Folder of the run.
        provenance (`dict`): Its provenance.
        base (`str`): Folder or Hub id of the model that the adapter was merged into, or was written for.
        sentences (`str`): Sentences on vocabulary and agreement, with a space before them.
        adapter_only (`bool`): Whether it is the card of an adapter.
    """
    plain, method = portable(provenance), provenance.get("method", "dpo")
    licence, page, notice = licence_of(descends_from(base))
    dataset = plain["dataset"]["name"]
    named = base_on_hub(base)
    data = ModelCardData(
        language=["ru"],
        license=licence,
        license_link=page,
        license_name="that-of-the-base-model" if licence == "other" else None,
        base_model=named,
        base_model_relation=("adapter" if adapter_only else "finetune") if named else None,
        datasets=[dataset.split("@")[0]] if is_hub_id(dataset) else None,
        library_name="peft" if adapter_only else "transformers",
        pipeline_tag="text-generation",
        tags=[method, "lora" if adapter_only else "merged", "trl", "preferans"],
    )
    what = "adapter" if adapter_only else "model"
    tested = Path(folder, "test_log_probs.json")
    rows = _results(read_json(tested), method)[0] if tested.is_file() else []
    table = "".join(f"| {label} | {before} | {after} |\n" for label, before, after in rows)
    results = (
        f"\n| On held-out pairs | before | after |\n| --- | ---: | ---: |\n{table}\n{MEANINGS[method]}\n"
        if rows
        else ""
    )
    return f"""---
{data.to_yaml().strip()}
---
# {"A LoRA adapter" if adapter_only else "A model merged with a LoRA adapter"}, trained with Preferans

Base model: `{named or portable(base)}`, whose licence also covers this {what}.{sentences} The adapter was trained on
`{dataset}`, fingerprint `{plain["dataset"]["fingerprint"]}`, by the recipe `{plain["recipe"]}`. Checksums of all
are in `{MERGED}`.
{results}{chr(10) + notice + chr(10) if notice else ""}"""


def card_metadata(text: str) -> dict[str, Any]:
    """
    Read the YAML header of a card.

    Raises:
        [`PreferansError`]: if it is not valid YAML.
    """
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        metadata = yaml.safe_load(header[1]) if header else None
    except yaml.YAMLError as error:
        raise PreferansError(f"README.md: its header is not valid YAML ({' '.join(str(error).split())}).") from None
    return metadata if isinstance(metadata, dict) else {}


def as_json(value: dict[str, Any]) -> str:
    """A value as readable JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
