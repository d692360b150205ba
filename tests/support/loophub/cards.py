"""Check a card's metadata by the Hub's published rules, for the keys of Preferans' cards."""

import re

import yaml

LICENSE_NAMES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl
    apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 grok2-community gemma unknown other
"""
LICENSES = set(LICENSE_NAMES.split())
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"}
REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*|[\w][\w.-]*", re.ASCII)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)*|multilingual|code")
TASK = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]")


def read_metadata(text: str):
    """Return the text between the two lines of dashes at the top of a card, or `None`."""
    head = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
    return yaml.safe_load(head[1]) if head else None


def check_card(text: str, kind: str) -> tuple[list[str], list[str]]:
    """Return errors and warnings of a README.md of a `model` or a `dataset`."""
    try:
        metadata = read_metadata(text)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"], []
    if metadata is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["The metadata must be a mapping"], []
    errors = [
        *_check_list(
            metadata, "license", LICENSES.__contains__, "a license of the Hub, or `other` with `license_name`"
        ),
        *_check_list(metadata, "language", LANGUAGE.fullmatch, "an ISO 639 code"),
        *_check_list(metadata, "tags", None, "a text"),
        *_check_list(metadata, "datasets", REPO.fullmatch, "the id of a dataset"),
    ]
    if kind == "model":
        errors += _check_list(metadata, "base_model", REPO.fullmatch, "the id of a model")
        errors += _check_list(metadata, "pipeline_tag", TASK.fullmatch, "a task", lists=False)
        errors += _check_list(metadata, "library_name", TASK.fullmatch, "the name of a library", lists=False)
        errors += _check_results(metadata.get("model-index"))
        errors += _check_widget(metadata.get("widget"))
    else:
        errors += _check_list(metadata, "task_categories", TASK.fullmatch, "a task")
        errors += _check_list(metadata, "size_categories", SIZES.__contains__, "one of " + ", ".join(sorted(SIZES)))
        errors += _check_configs(metadata.get("configs"))
    if metadata.get("license") == "other" and not metadata.get("license_name"):
        return errors, ['"license_name" is recommended where "license" is "other"']
    return errors, []


def _check_list(metadata: dict, key: str, accepts, expected: str, lists: bool = True) -> list[str]:
    """Return errors of a key with a text or, with `lists`, a list of texts."""
    if key not in metadata:
        return []
    value = metadata[key]
    values = value if isinstance(value, list) and lists else [value]
    return [
        f'"{key}" with value {one!r} is not valid: it must be {expected}'
        for one in values
        if not isinstance(one, str) or (accepts and not accepts(one))
    ]


def _check_results(index) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list) or not all(isinstance(model, dict) for model in index):
        return ['"model-index" must be a list of models']
    errors = []
    for number, model in enumerate(index):
        place = f'"model-index[{number}]'
        if not isinstance(model.get("name"), str):
            errors.append(f'{place}.name" is required')
        results = model.get("results")
        if not isinstance(results, list) or not results:
            errors.append(f'{place}.results" must be a list that is not empty')
            continue
        for position, result in enumerate(results):
            for path in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
                inner = result.get(path[0])
                if not isinstance(inner, dict) or not isinstance(inner.get(path[1]), str):
                    errors.append(f'{place}.results[{position}].{".".join(path)}" is required')
            metrics = result.get("metrics")
            if not isinstance(metrics, list) or not all(
                isinstance(metric, dict) and isinstance(metric.get("type"), str) and metric.get("value") is not None
                for metric in metrics
            ):
                errors.append(f'{place}.results[{position}].metrics" must be a list of metrics with type and value')
    return errors


def _check_widget(widget) -> list[str]:
    valid = widget is None or (isinstance(widget, list) and all(isinstance(example, dict) for example in widget))
    return [] if valid else ['"widget" must be a list of examples']


def _check_configs(configs) -> list[str]:
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ['"configs" must be a list of configurations']
    errors, names = [], [config.get("config_name") for config in configs]
    for number, config in enumerate(configs):
        if not isinstance(config.get("config_name"), str):
            errors.append(f'"configs[{number}].config_name" is required')
        files = config.get("data_files")
        if isinstance(files, list) and any(not isinstance(file, (dict, str)) for file in files):
            errors.append(f'"configs[{number}].data_files" must be paths, or splits with paths')
    if len(set(names)) < len(names):
        errors.append('"configs" names a configuration twice')
    return errors
