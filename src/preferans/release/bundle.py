"""The files of a run, a dataset, a model or answers that are published, and their upload."""

import gc
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import get_token
from safetensors.torch import load_file

from ..errors import PreferansError
from ..files import read_json, read_jsonl, sha256_of, visible_files
from ..hub_names import is_hub_id
from ..models.trimmed import RECORD_NAME, trimmed_from
from .hub import Published, cure_of, read_back, upload, with_retries
from .model_card import MERGED, as_json, base_on_hub, card_metadata, model_card, notice_of, portable, recipe_of

# Published files of a run. Checkpoints, optimizer states and pickled arguments are not published.
RUN_FILES = (
    "adapter_config.json", "adapter_model.safetensors", "all_results.json", "chat_template.jinja", "merges.txt", "special_tokens_map.json",
    "test_log_probs.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "trainer_state.json", "vocab.json",
)  # fmt: skip
TOKENIZER_FILES = (
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
REPORT_FILES = ("report.html", "report.md", "scores.json")
# Pickles run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DATASET_FILE = re.compile(r".*\.parquet|README\.md|(LICENSE|NOTICE)[^/]*")
TOKEN = re.compile(rb"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b")
TEXTS = (".md", ".json", ".jsonl", ".html", ".yaml", ".txt", ".jinja", "Modelfile")
REPO_TYPES = {"run": "model", "model": "model", "dataset": "dataset", "answers": "dataset"}


class Parcel(NamedTuple):
    """
    Files to publish.

    Attributes:
        kind (`str`): `"run"`, `"model"`, `"dataset"` or `"answers"`.
        files (`dict[str, Path]`): Local file by its name in the repository.
    """

    kind: str
    files: dict[str, Path]

    @property
    def repo_type(self) -> str:
        return REPO_TYPES[self.kind]

    @property
    def card(self) -> str:
        return self.files["README.md"].read_text(encoding="utf-8")


def kind_of(source: str | Path) -> str:
    """
    Detect what a path contains: a key of `REPO_TYPES`.

    Raises:
        [`PreferansError`]: if it cannot be published, or is an unfinished run.
    """
    path = Path(source)
    if not path.exists():
        raise PreferansError(f"{source}: there is no such file or folder.")
    if path.is_file():
        if path.name.endswith(".jsonl"):
            return "answers"
        raise PreferansError(f"{source}: a file of answers ends in .jsonl; a run, a model or a dataset is a folder.")
    if (path / "provenance.json").is_file():
        for name in ("all_results.json", "adapter_model.safetensors", "test_log_probs.json"):
            if not (path / name).is_file():
                raise PreferansError(
                    f"{source}: the run is not finished: {name} is missing. Its training command resumes it."
                )
        return "run"
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return "model"
    if any(path.glob("**/*.parquet")):
        return "dataset"
    raise PreferansError(
        f"{source}: this is neither a run (provenance.json) nor a model (config.json) nor a dataset (parquet files). Name one of "
        "these, or a file of answers."
    )


@contextmanager
def pack(source: str | Path, repo_id: str, report: str | Path | None = None) -> Iterator[Parcel]:
    """
    Collect the files to publish, and search them for access tokens.

    Args:
        source (`str` or `Path`): Folder of a run, a model or a dataset, or a file of answers.
        repo_id (`str`): Its name on the Hub, for the card.
        report (`str` or `Path`, *optional*): Folder written by scripts/score.py.

    Yields:
        [`Parcel`]: valid until the block ends.

    Raises:
        [`PreferansError`]: if a file is missing, contains a token, or is a pickle.
    """
    kind, source = kind_of(source), Path(source)
    with tempfile.TemporaryDirectory(prefix="preferans-") as name:
        made = Path(name)
        files = {"run": _run_files, "answers": _answer_files}.get(kind, _all_files)(source, repo_id, made, report)
        if report and kind != "run":
            files |= _report_files(Path(report))
        if kind == "dataset":
            files["README.md"] = _dataset_card(source, repo_id, made)
        if "README.md" not in files:
            raise PreferansError(f"{source}: there is no card (README.md) in it. Write one, then publish.")
        if REPO_TYPES[kind] == "model" and "NOTICE" not in files:
            licence = card_metadata(files["README.md"].read_text(encoding="utf-8")).get("license")
            files |= _written({"NOTICE": f"{notice}\n"} if (notice := notice_of(licence)) else {}, made)
        check_no_secret(files)
        yield Parcel(kind, dict(sorted(files.items())))


def _run_files(source: Path, repo_id: str, made: Path, report: str | Path | None) -> dict[str, Path]:
    provenance = read_json(source / "provenance.json")
    # The adapter is published for the full model, whose token ids differ from those of a trimmed tokenizer.
    names = [
        name for name in RUN_FILES if name not in TOKENIZER_FILES or trimmed_from(provenance["model"]["name"]) is None
    ]
    files = {name: source / name for name in names if (source / name).is_file()}
    report_text = None
    if report:
        files |= _report_files(Path(report))
        report_text = (Path(report) / "report.md").read_text(encoding="utf-8")
    state = source / "trainer_state.json"
    texts = (
        {"trainer_state.json": as_json(portable(read_json(state)))} if state.is_file() else {}
    )  # contains the path of a checkpoint
    texts |= {
        "adapter_config.json": as_json(adapter_config(source, provenance)),
        "provenance.json": as_json(portable(provenance)),
        "recipe.yaml": recipe_of(provenance),
        "README.md": model_card(source, repo_id, report_text),
    }
    return files | _written(texts, made)


def adapter_config(folder: Path, provenance: dict[str, Any]) -> dict[str, Any]:
    """
    PEFT's configuration of an adapter, valid on other machines.

    Args:
        folder (`Path`): Run or checkpoint.
        provenance (`dict`): Provenance of the run.
    """
    name, commit = provenance["model"]["name"], provenance["model"]["revision"]
    config, base = portable(read_json(folder / "adapter_config.json")), base_on_hub(name)
    if base:
        config |= {"base_model_name_or_path": base, "revision": commit if is_hub_id(name) else None}
    return config


def _written(texts: dict[str, str], made: Path) -> dict[str, Path]:
    for name, text in texts.items():
        (made / name).write_text(text, encoding="utf-8", newline="\n")
    return {name: made / name for name in texts}


def _report_files(report: Path) -> dict[str, Path]:
    for name in REPORT_FILES:
        if not (report / name).is_file():
            raise PreferansError(
                f"--report {report}: there is no {name} in it. Name a folder written by scripts/score.py."
            )
    return {f"report/{name}": report / name for name in REPORT_FILES}


def _all_files(source: Path, repo_id: str, made: Path, report: str | Path | None) -> dict[str, Path]:
    names = sorted(path.relative_to(source).as_posix() for path in visible_files(source))
    if kind_of(source) == "dataset":  # other files, such as notes or raw data, are private
        names = [name for name in names if DATASET_FILE.fullmatch(name)]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise PreferansError(
            f"{source}: {pickles[0]} is a pickle, which runs code when it is loaded, so it is not published. Save weights as safetensors, "
            "as scripts/merge.py does."
        )
    ours = {name: as_json(portable(read_json(source / name))) for name in names if name in (MERGED, RECORD_NAME)}
    return {name: source / name for name in names} | _written(ours, made)


def _dataset_card(source: Path, repo_id: str, made: Path) -> Path:
    """The builder's card, with the dataset's name in the example code."""
    if not (source / "README.md").is_file():
        raise PreferansError(
            f"{source}: there is no card (README.md) in it. A data builder writes one, and so does `check_data.py {source} --fix "
            "FOLDER`."
        )
    card = (source / "README.md").read_text(encoding="utf-8").replace("FOLDER_OR_HUB_ID", repo_id)
    return _written({"README.md": card}, made)["README.md"]


def _answer_files(source: Path, repo_id: str, made: Path, report: str | Path | None) -> dict[str, Path]:

    rows = read_jsonl(source)
    wrong = next((n for n, row in enumerate(rows, 1) if {"id", "prompt", "answer", "model"} - row.keys()), not rows)
    if wrong:
        raise PreferansError(
            f"{source}: answer {int(wrong)} has no id, prompt, answer or model. Publish answers of scripts/generate.py."
        )
    systems = sorted({row["model"] for row in rows})
    card = f"""---
language: [ru]
license: other
license_name: that-of-the-models
task_categories: [text-generation]
tags: [answers, preferans]
configs:
- config_name: default
  data_files: [{{split: train, path: {json.dumps(source.name, ensure_ascii=False)}}}]
---
# Answers of {", ".join(systems)}

{len(rows):,} answers by {len(systems)} {"system" if len(systems) == 1 else "systems"}, sampled with Preferans. Each row holds `prompt`,
`answer`, `model`, the checksums of its weights and how it was sampled. Models wrote them; they were not checked for truth.

```python
from datasets import load_dataset

answers = load_dataset("{repo_id}", split="train")
```
"""
    return {source.name: source} | _written({"README.md": card}, made)


def check_no_secret(files: dict[str, Path]) -> None:
    """
    Search all files for an access token of the Hub.

    Raises:
        [`PreferansError`]: with the name of the file.
    """
    known = [secret.encode() for secret in {get_token(), os.environ.get("HF_TOKEN")} - {None, ""}]
    longest = max([256, *map(len, known)])
    for name, path in files.items():
        with open(path, "rb") as file:
            tail = b""
            while block := file.read(1 << 24):
                text = tail + block
                if any(secret in text for secret in known) or TOKEN.search(text):
                    raise PreferansError(
                        f"{path}: it contains an access token of the Hub and would be published as {name}. Remove the token, and revoke it on the "
                        "Hub's settings page if anyone else has the file."
                    )
                tail = text[-longest:]


def obsolete_beside(parcel: Parcel) -> re.Pattern | None:
    """
    Pattern for shards of an earlier version, which would be loaded with the new ones. Other folders of a dataset are other
    configurations.
    """
    if parcel.kind == "model":
        return re.compile(r"model[^/]*\.safetensors(\.index\.json)?")
    if parcel.kind == "dataset":
        folders = sorted({name.rpartition("/")[0] for name in parcel.files if name.endswith(".parquet")})
        return re.compile(
            "|".join(rf"{re.escape(folder + '/' if folder else '')}[^/]*\.parquet" for folder in folders)
        )
    return None


def publish(parcel: Parcel, repo_id: str, private: bool = True, message: str | None = None) -> Published:
    """
    Upload a parcel, download it again and compare.

    Args:
        parcel ([`Parcel`]): See [`pack`].
        repo_id (`str`): Checked by [`~preferans.release.hub.check_can_push`].
        private (`bool`, *optional*, defaults to `True`): Visibility of a repository that is created.
        message (`str`, *optional*): Commit message.

    Raises:
        [`PreferansError`]: see [`~preferans.release.hub.upload`]; also if the downloaded files differ.
    """
    message = message or f"Publish {parcel.kind} with Preferans"
    done = upload(parcel.files, repo_id, parcel.repo_type, message, private, obsolete_beside(parcel))
    with tempfile.TemporaryDirectory(prefix="preferans-", ignore_cleanup_errors=True) as folder:
        read_back(parcel.files, repo_id, parcel.repo_type, done.commit, folder)
        if parcel.kind == "run":
            _same_tensors(Path(folder) / "adapter_model.safetensors", parcel.files["adapter_model.safetensors"])
        elif parcel.repo_type == "dataset":
            _check_rows(parcel, repo_id, done.commit)
    return done


def push_dataset(folder: str | Path, repo_id: str) -> None:
    """Publish a dataset folder as a private dataset, and print its address."""
    with pack(folder, repo_id) as parcel:
        print(f"Pushed and verified: {publish(parcel, repo_id).address}")


def _same_tensors(read: Path, sent: Path) -> None:
    there, here = load_file(read), load_file(sent)
    if there.keys() != here.keys() or not all(torch.equal(there[key], here[key]) for key in here):
        raise PreferansError(f"{sent}: the adapter on the Hub has different weights. Upload it again.")


def _check_rows(parcel: Parcel, repo_id: str, commit: str) -> None:
    try:
        with_retries(lambda: _same_rows(parcel, repo_id, commit), f"Loading {repo_id}")
    except PreferansError:
        raise
    except Exception as error:  # datasets raises a dozen kinds
        raise PreferansError(
            f"{repo_id}: it was uploaded, but load_dataset cannot load it. {cure_of(error)} The same command checks again."
        ) from None


def _same_rows(parcel: Parcel, repo_id: str, commit: str) -> None:
    """Load the dataset by its name, as others will, and compare every row with the local files."""
    # Windows does not remove a folder with memory-mapped files; they are closed when the inner function returns.
    with tempfile.TemporaryDirectory(prefix="preferans-", ignore_cleanup_errors=True) as cache:
        _same_rows_in(cache, parcel, repo_id, commit)
        gc.collect()


def _same_rows_in(cache: str, parcel: Parcel, repo_id: str, commit: str) -> None:
    here = Path(tempfile.mkdtemp(dir=cache))  # datasets caches a local folder by its name only
    for name, path in parcel.files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, here / name)
    for config in get_dataset_config_names(str(here)):
        there = load_dataset(repo_id, config, revision=commit, cache_dir=cache)
        for split, rows in load_dataset(str(here), config, cache_dir=cache).items():
            if split not in there or not rows.data.equals(there[split].data):
                raise PreferansError(
                    f"{repo_id}: load_dataset returns different rows of {config}, split {split}. Upload it again."
                )


def contents(parcel: Parcel) -> str:
    """List the files of a parcel with their sizes, one per line."""
    sizes = {name: path.stat().st_size for name, path in parcel.files.items()}
    width = max(map(len, sizes))
    return "\n".join(f"  {name:<{width}}  {size:>14,} bytes" for name, size in sizes.items())


def warnings_for(parcel: Parcel, repo_id: str) -> list[str]:
    """List what the owner should know before publishing."""
    warnings = []
    licence = str(card_metadata(parcel.card).get("license", ""))
    if licence.startswith("llama") and not repo_id.split("/")[1].startswith("Llama"):
        warnings.append(
            f"Llama's licence requires that the name of a derived model begins with Llama: Llama-{repo_id.split('/')[1]}."
        )
    if parcel.kind == "run" and not card_metadata(parcel.card).get("base_model"):
        warnings.append(
            "The base model is a local folder, so nobody else can load the adapter. Merge it, or publish the base model as well."
        )
    if parcel.kind == "run" and "report/scores.json" in parcel.files:
        systems = read_json(parcel.files["report/scores.json"]).get("systems", [])
        checksum = sha256_of(parcel.files["adapter_model.safetensors"])
        if not any(checksum in ((system.get("weights") or {}).get("sha256") or []) for system in systems):
            warnings.append(
                "No system in the report has the checksum of this adapter. Is --report the folder of another run?"
            )
    # The home folder as a path, in JSON, and with forward slashes.
    home = Path.home()
    spellings = {spelling.encode() for spelling in (str(home), json.dumps(str(home))[1:-1], home.as_posix())}
    for name, path in parcel.files.items():
        if len(str(home)) > 5 and name.endswith(TEXTS) and any(found in path.read_bytes() for found in spellings):
            warnings.append(
                f"{name} contains folders of this machine ({Path.home()} …), which you may want to keep private."
            )
    return warnings
