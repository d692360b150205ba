"""
Merge an adapter into the weights of its base model.

An adapter changes the layers between embedding and head. These are the same in a model with a trimmed vocabulary and in the full model,
because trimming removes only rows of frozen tables. So an adapter trained on one fits the other, and gives the same logits for every
kept token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PreferansError
from ..files import entries, new_folder, read_json, sha256_of, write_json, write_text
from ..models.trimmed import trimmed_from, trimmed_in_words
from .merged_weights import WEIGHTS_NAME, MergeJob, write_merge
from .model_card import MERGED, merged_card


def merge(
    run: str | Path,
    output_dir: str | Path,
    base: str | None = None,
    full_vocabulary: bool = False,
    adapter_only: bool = False,
    *,
    texts: Sequence[str],
) -> dict[str, Any] | None:
    """
    Write the model that a run's base model and adapter make together.

    The base model is loaded on the CPU and not in 4 bits, because the sum would keep the rounding to 4 bits for good. The sum is
    computed in fp32 if the memory allows, and rounded once to the run's `dtype`: in bf16, which has 8 binary digits, much of an adapter
    would be lost. The written model is read again and compared with base and adapter.

    Args:
        run (`str` or `Path`): Folder of a finished run.
        output_dir (`str` or `Path`): Folder to write: weights, tokenizer, card, and `preferans_merge.json` with all checksums.
        base (`str`, *optional*): The full model of a trimmed base, or another folder of the same base.
        full_vocabulary (`bool`, *optional*, defaults to `False`): Use the model that the trimming recorded as its source.
        adapter_only (`bool`, *optional*, defaults to `False`): Write the adapter for the full model instead of a merged model.
        texts (`Sequence[str]`): Real texts on whose first tokens the models are compared.

    Returns:
        `dict` or `None`: `None` if the folder holds this result already. Otherwise `base` and `trained_on`; `agreement` of a merged model,
        see [`~preferans.release.merged_weights.logit_agreement`]; for a restored vocabulary also `tokens_before`, `tokens_after` and
        `logit_difference`, the largest difference on kept tokens.

    Raises:
        [`PreferansError`]: if the run is not finished, its base model has changed, the adapter does not fit `base`, the sum is not finite
        or does not reproduce base + adapter, or the folder holds something else.
    """
    run, output_dir = Path(run), Path(output_dir)
    provenance = _read_finished(run)
    trained_on, record = provenance["model"], trimmed_from(provenance["model"]["name"])
    if full_vocabulary or (adapter_only and not base):
        base = _full_model(trained_on["name"], record, "--full_vocabulary" if full_vocabulary else "--adapter_only")
    choice = _choose_base(base, trained_on, trimmed=record is not None)
    manifest = {
        "base_model": choice.model,
        "trained_on": trained_on,
        "dtype": provenance["keys"].get("dtype", "float32"),
        "adapter": {"sha256": sha256_of(run / WEIGHTS_NAME), "dataset": provenance["dataset"]},
        "adapter_only": adapter_only,
    }
    if _is_written(output_dir, manifest):
        return None
    if not choice.moved and trained_on["weights_sha256"] != _checksums(trained_on["name"]):
        raise PreferansError(
            f"{run}: the weights of its base model {trained_on['name']} have changed since the adapter was trained, or are missing. Make the "
            "base model again with the command that made it, or name its new folder with --base."
        )
    result = {"base": choice.model["name"], "trained_on": trained_on["name"]}
    if record and choice.restores_vocabulary:
        result |= {key: record[key] for key in ("tokens_before", "tokens_after")}
    trimmed = trained_on["name"] if choice.restores_vocabulary else None
    job = MergeJob(run, provenance, choice.model, trimmed, adapter_only)
    with new_folder(output_dir) as folder:
        result |= write_merge(job, folder, texts)
        sentences = _describe(result, trimmed_from(folder))
        write_text(folder / "README.md", merged_card(run, provenance, choice.model["name"], sentences, adapter_only))
        agreement = {key: result[key] for key in ("agreement",) if key in result}
        write_json(folder / MERGED, manifest | {"weights_sha256": _checksums(folder)} | agreement)
    return result


class _BaseChoice(NamedTuple):
    """The model to merge into, whether it is the trained base in another folder, and whether it is the full form of a trimmed base."""

    model: dict[str, Any]
    moved: bool
    restores_vocabulary: bool


def _choose_base(base: str | None, trained_on: dict[str, Any], trimmed: bool) -> _BaseChoice:
    if base is None or _is_same(base, trained_on["name"]):
        return _BaseChoice(trained_on, moved=False, restores_vocabulary=False)
    model = {"name": base, "revision": None, "weights_sha256": _checksums(base)}
    if model["weights_sha256"] and model["weights_sha256"] == trained_on["weights_sha256"]:
        return _BaseChoice(model, moved=True, restores_vocabulary=False)
    if not trimmed:
        raise PreferansError(
            f"--base {base}: the adapter was trained on {trained_on['name']}, which is not a folder with a trimmed vocabulary on this machine, "
            "so it cannot be checked that both have the same layers. Make that folder again with the command that made it, or leave out "
            "--base."
        )
    return _BaseChoice(model, moved=False, restores_vocabulary=True)


def _read_finished(run: Path) -> dict[str, Any]:
    """Provenance of a finished run."""
    for name in ("all_results.json", "provenance.json", WEIGHTS_NAME):
        if not (run / name).is_file():
            raise PreferansError(
                f"{run}: there is no {name} in it, so it is not a finished run. Name the folder of a finished run; the training command of a "
                "stopped run resumes it."
            )
    return read_json(run / "provenance.json")


def _full_model(trained_on: str, record: dict[str, Any] | None, option: str) -> str:
    """The model that a run's base was trimmed from."""
    if record is None:
        raise PreferansError(
            f"{option}: the adapter was trained on {trained_on}, which is not a folder with a trimmed vocabulary on this machine. Leave out "
            f"{option}, or make that folder again with the command that made it."
        )
    if "merged_with" in record:
        earlier = ", then of ".join(record["merged_with"])
        raise PreferansError(
            f"{option}: the adapter was trained on {trained_on}, which already contains the adapter of {earlier}; {record['source']} does "
            f"not. First merge that adapter into the full model (python scripts/merge.py {record['merged_with'][0]} --full_vocabulary "
            "--output_dir FOLDER), then name the folder here with --base."
        )
    return record["source"]


def _is_same(base: str, other: str) -> bool:
    return base == other or (Path(base).exists() and Path(base).resolve() == Path(other).resolve())


def _checksums(name: str | Path) -> dict[str, str]:
    """Checksums of a folder's weights; empty for a model on the Hub."""
    return {file.name: sha256_of(file) for file in sorted(Path(name).glob("*.safetensors"))}


def _is_written(output_dir: Path, manifest: dict[str, Any]) -> bool:
    """Whether the folder holds this result with intact weights."""
    if not output_dir.exists() or (output_dir.is_dir() and not entries(output_dir)):
        return False
    written = read_json(output_dir / MERGED) if (output_dir / MERGED).is_file() else {}
    if {key: written.get(key) for key in manifest} != manifest:
        raise PreferansError(
            f"--output_dir {output_dir}: the folder holds something else, which would be replaced. Name a new folder, or delete this one."
        )
    return written["weights_sha256"] == _checksums(output_dir)


def _describe(result: dict[str, Any], record: dict[str, Any] | None) -> str:
    """Sentences for the card, each with a space before it: the vocabulary, and the agreement with base and adapter."""
    text = f" Its vocabulary is {trimmed_in_words(record)}." if record else ""
    if "tokens_after" in result:
        text = (
            f" It was trained with {result['tokens_after']:,} of the {result['tokens_before']:,} tokens; with all tokens it gives the same "
            "logits for these."
        )
    if "agreement" in result:
        agreement = result["agreement"]
        text += (
            f" On {agreement['positions']} positions of Russian texts its logits differ from those of base model and adapter by at most "
            f"{agreement['logit_difference']:.2g}, and the likeliest token is the same at {agreement['greedy_agreement']:.1%}; the adapter "
            f"itself changes logits by up to {agreement['adapter_effect']:.2g}."
        )
    return text
