"""The card of an adapter: what it is, what it can and cannot, how to use it, and how to make it again."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader

from ..errors import PreferansError
from ..evaluation.held_out import imitation_scores, pair_scores
from ..evaluation.statistics import Score
from ..files import read_json
from ..hub_names import is_hub_id
from ..models.trimmed import trimmed_from, trimming_in_words

# Terms that ask to be told, by a base model's name, in whose namespace ever a copy lies: the Hub's name of the licence, its page, and the
# notice. Gemma 4 has other terms than those before it.
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
    "dpo": "*Likelier per token* is the share of pairs whose chosen answer the model finds likelier than the rejected one, each divided by its length; "
    "half of them is chance. *Reward accuracy* asks which answer became likelier by more; before training it is a tie everywhere.",
    "sft": "*Loss* and *perplexity* are those of the chosen answers' words; the end token is told apart. A lower loss means that such answers "
    "have become likelier, the rejected ones among them; it does not mean that answers are true, or that the better of two is preferred.",
}
QUESTION = "Почему осенью желтеют листья?"
MERGED = "preferans_merge.json"  # beside a merged model, see merging.py
WIDGETS = (QUESTION, "Посоветуй, чем заняться в дождливые выходные.", "Объясни простыми словами, что такое инфляция.")


def base_on_hub(name: str) -> str | None:
    """The Hub's name of the model that an adapter on `name` works on: itself, or the one it was trimmed from; `None` for one's own."""
    record = trimmed_from(name)
    if record and "merged_with" in record:
        return None
    return _plain_id(record["source"] if record else _made_from(name, ("preferans_base.json",)))


def descends_from(name: str) -> str | None:
    """The Hub's name of the model whose licence covers `name`: also that of one with an adapter in it."""
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
    Licence of what was made from a base model.

    Args:
        base (`str`, *optional*):
            Hub id.

    Returns:
        `tuple`: the licence as the Hub names it, its page, and the notice that it asks for.
    """
    name = (base or "").split("/")[-1].lower()
    return next((terms for pattern, terms in TERMS.items() if re.search(pattern, name)), ("other", None, None))


def notice_of(licence: str | None) -> str | None:
    """The notice that a licence, as the Hub names it, wants in a file of its own beside the weights."""
    return next((f"{notice}\n{page}" for name, page, notice in TERMS.values() if name == licence), None)


def model_card(folder: str | Path, repo_id: str | None = None, report: str | None = None) -> str:
    """
    Write the card of a run's adapter.

    Args:
        folder (`str` or `Path`):
            Folder of a finished run.
        repo_id (`str`, *optional*):
            Name on the Hub, for the lines that load it. Without it they name the folder.
        report (`str`, *optional*):
            Markdown of a report on its answers.

    Returns:
        `str`: YAML metadata that the Hub reads, and Markdown.
    """
    folder = Path(folder)
    run = read_json(folder / "provenance.json")
    tested = read_json(folder / "test_log_probs.json")
    way = run.get("method", "dpo")
    tokenizer = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model_name = run["model"]["name"]
    base = base_on_hub(model_name)
    licence, page, notice = licence_of(base or descends_from(model_name))
    results, values = _results(tested, way)
    keys = run["keys"]
    run = portable(run)
    dataset = run["dataset"]["name"]
    environment = Environment(
        loader=PackageLoader("preferans", "release"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    title = (repo_id or folder.resolve().name).split("/")[-1]
    return environment.get_template("model_card.md.jinja").render(
        head=_head(title, run, base, licence, page, way, values),
        title=title,
        what=f"A LoRA adapter for `{base or run['model']['name']}`, trained on preference pairs with Preferans."
        if way == "dpo"
        else f"A LoRA adapter for `{base or run['model']['name']}`, trained to imitate the chosen answers of preference pairs with Preferans.",
        trimming=_trimming(model_name),
        trimmed=trimmed_from(model_name) is not None,
        unpacked=_unpacked_from(model_name),
        started_from=run.get("started_from"),
        notice=notice,
        results=results,
        pairs=len(tested["before"]),
        meaning=MEANINGS[way],
        report=report,
        base=base or run["model"]["name"],
        repo_id=repo_id or folder.as_posix(),
        on_hub=repo_id is not None,
        four_bits=_four_bits(keys),
        dtype=keys.get("dtype", "float32"),
        chat=bool(tokenizer.get("chat_template")) or (folder / "chat_template.jinja").is_file(),
        question=QUESTION,
        method=_method(run, way),
        dataset=f"[{dataset}](https://huggingface.co/datasets/{dataset.split('@')[0]})"
        if is_hub_id(dataset)
        else f"`{dataset}`",
        run=run,
        measured=_measured(run.get("measured", {})),
        command=f"accelerate launch scripts/{way}.py recipe.yaml",
        keys=recipe_of(run).strip(),
        licence=f"That of the base model, as the {licence} licence says: {page}. The dataset has its own."
        if page
        else "That of the base model, which covers what is made from it. The dataset has its own.",
    )


def portable(value: Any) -> Any:
    """What JSON holds, such as a run's provenance, without the folders of this machine: of an absolute path the last part is left."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    absolute = isinstance(value, str) and re.match(r"(/|~|\\\\|[A-Za-z]:[\\/])", value) and "\n" not in value
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if absolute else value


def _trimming(name: str) -> str:
    record, told = trimmed_from(name) or {}, trimming_in_words(name)
    for path in (*record.get("merged_with", []), record.get("source", "")):
        told = told.replace(f"`{path}`", f"`{portable(path)}`")
    return told


def _unpacked_from(name: str) -> str | None:
    """Checksum of the GGUF file that a base model's weights were unpacked from."""
    path = Path(name, "preferans_base.json")
    return read_json(path).get("gguf_sha256") if path.is_file() else None


def recipe_of(run: dict[str, Any]) -> str:
    """A run's whole recipe as YAML: its keys with what the command line changed, and the adapter that it started from. Where it is
    pushed to is the business of whoever runs it."""
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
    licence: str,
    page: str | None,
    way: str,
    values: dict[str, Score],
) -> str:

    dataset = run["dataset"]["name"]
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
        tags=[way, "lora", "trl", "preferans"],
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
            for name, score in values.items()
        ]
        or None,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _cell(score: Score, percent: bool) -> str:
    if percent:
        return f"{score.value:.1%} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _results(tested: dict[str, Any], way: str) -> tuple[list[tuple[str, str, str]], dict[str, Score]]:
    """Rows of the table, and what goes into the metadata."""
    if not tested["before"]:
        return [], {}
    if way == "sft":
        scores = imitation_scores(tested["before"], tested["after"], tested["groups"])
        rows = [
            ("Loss of the chosen answers, nats per token", "test_chosen_loss", False),
            ("Perplexity of the chosen answers", "test_chosen_perplexity", False),
            ("Probability of the end token where one ends", "test_end_probability", True),
            ("Chosen answer likelier per token than the rejected one", "test_normalised_accuracy", True),
        ]
        names = ("test_chosen_loss_after", "test_normalised_accuracy_after")
    else:
        scores = pair_scores(**{key: tested[key] for key in ("before", "after", "beta", "per_token", "groups")})
        rows = [("Chosen answer likelier per token than the rejected one", "test_normalised_accuracy", True)]
        names = ("test_normalised_accuracy_after", "test_reward_accuracy")
    table = [
        (label, _cell(scores[f"{name}_before"], percent), _cell(scores[f"{name}_after"], percent))
        for label, name, percent in rows
    ]
    if way == "dpo":
        table += [
            ("Reward accuracy", "tie", _cell(scores["test_reward_accuracy"], True)),
            ("Reward margin", "0", _cell(scores["test_reward_margin"], False)),
            ("Reward of the chosen answers", "0", _cell(scores["test_chosen_reward"], False)),
        ]
    return table, {name: scores[name] for name in names if scores[name].cases}


def _method(run: dict[str, Any], way: str) -> str:
    keys = run["keys"]
    rank = f"LoRA of rank {keys.get('lora_r', 16)} in fp32 on {'4-bit (NF4)' if keys.get('load_in_4bit') else 'whole'} weights"
    if way == "sft":
        return f"Imitation of the chosen answers, {rank}, with transformers, TRL and PEFT."
    losses = keys.get("loss_type", ["sigmoid"])
    losses = losses if isinstance(losses, list) else [losses]
    papers = [LOSS_PAPERS[loss] for loss in losses if loss in LOSS_PAPERS]
    return (
        f"{DPO_PAPER} with TRL's DPOTrainer, loss `{' + '.join(losses)}`{' (' + ', '.join(papers) + ')' if papers else ''}, beta "
        f"{keys.get('beta', 0.1)}; {rank}."
    )


def _four_bits(keys: dict[str, Any]) -> str:
    """How a run held its base model in 4 bits, as arguments of `BitsAndBytesConfig`; empty where it did not."""
    if not keys.get("load_in_4bit"):
        return ""
    return (
        f'bnb_4bit_quant_type="{keys.get("bnb_4bit_quant_type", "nf4")}", bnb_4bit_use_double_quant={bool(keys.get("use_bnb_nested_quant"))}, '
        f'bnb_4bit_compute_dtype="{keys.get("dtype", "float32")}"'
    )


def _measured(figures: dict[str, Any]) -> str:
    """Time and memory in a sentence; empty for a run that was not measured."""
    if not figures:
        return ""
    device = figures["device"]
    told = f"Took {figures['train_seconds'] / 60:.1f} minutes and {figures['peak_memory_bytes'] / 2**20:,.0f} MiB at its peak on {device}"
    if figures.get("resumed_from"):
        told = f"After its last interruption it took {told[5:]}"
    skipped = figures.get("skipped_steps")
    return f"{told}; {figures['precision']}{f'; {skipped} steps skipped by the fp16 scaler' if skipped else ''}."


def merged_card(folder: str | Path, origin: dict[str, Any], base: str, vocabulary: str, adapter_only: bool) -> str:
    """
    Write the card of what scripts/merge.py made of a run.

    Args:
        folder (`str` or `Path`):
            Folder of the run.
        origin (`dict`):
            Its provenance.
        base (`str`):
            Folder or Hub id of the model that the adapter was merged into, or was written for.
        vocabulary (`str`):
            Sentences on its vocabulary, with a space before them.
        adapter_only (`bool`):
            Whether it is the adapter still.
    """

    plain, way = portable(origin), origin.get("method", "dpo")
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
        tags=[way, "lora" if adapter_only else "merged", "trl", "preferans"],
    )
    what = "adapter" if adapter_only else "model"
    tested = Path(folder, "test_log_probs.json")
    rows = _results(read_json(tested), way)[0] if tested.is_file() else []
    table = "".join(f"| {label} | {before} | {after} |\n" for label, before, after in rows)
    results = (
        f"\n| On held-out pairs | before | after |\n| --- | ---: | ---: |\n{table}\n{MEANINGS[way]}\n" if rows else ""
    )
    return f"""---
{data.to_yaml().strip()}
---
# {"A LoRA adapter" if adapter_only else "A model merged with a LoRA adapter"}, trained with Preferans

Base model: `{named or portable(base)}`, whose licence also covers this {what}.{vocabulary} The adapter was trained on
`{dataset}`, fingerprint `{plain["dataset"]["fingerprint"]}`, by the recipe `{plain["recipe"]}`. Checksums of all
are in `{MERGED}`.
{results}{chr(10) + notice + chr(10) if notice else ""}"""


def card_metadata(text: str) -> dict[str, Any]:
    """
    The YAML between a card's lines of dashes.

    Raises:
        [`PreferansError`]: when it is none.
    """
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        said = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        raise PreferansError(
            f"README.md: the lines between its dashes are not valid YAML ({' '.join(str(error).split())})."
        ) from None
    return said if isinstance(said, dict) else {}


def as_json(value: dict[str, Any]) -> str:
    """JSON as it is published."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
