"""The base class of the modules in `metrics/`, which `evaluate.load("metrics/NAME")` loads by path."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import datasets
import evaluate


class MetricModule(evaluate.Metric, ABC):
    """
    A measure of texts as an `evaluate` module. A subclass sets the attributes and computes in `_compute`.

    `evaluate.combine` passes every column to every module, so `_compute` may accept columns that it does not use.
    If a subclass has the column `references`, each reference may be a list of texts or a single text, as in `evaluate`'s own modules.

    Attributes:
        description (`str`), inputs (`str`), citation (`str`): Texts of [`~evaluate.MetricInfo`].
        columns (`dict[str, str]`): Type of each column, as a name of [`~datasets.Value`], or `"texts"` for a list of texts.
    """

    description: ClassVar[str]
    inputs: ClassVar[str]
    citation: ClassVar[str] = ""
    columns: ClassVar[dict[str, str]] = {"predictions": "string"}

    def _info(self) -> evaluate.MetricInfo:
        texts = datasets.Sequence(datasets.Value("string"))
        features = {name: texts if kind == "texts" else datasets.Value(kind) for name, kind in self.columns.items()}
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.inputs,
            features=datasets.Features(features),
        )

    @abstractmethod  # `evaluate` loads the first class of a file that is not abstract
    def _compute(self, *args, **kwargs) -> dict:
        """Compute the measure from the columns."""

    def add_batch(self, *, references: Sequence[str | Sequence[str]] | None = None, **columns: Sequence) -> None:
        """Add several cases, one value of each column per case."""
        if references is not None:
            columns["references"] = list(map(_as_list, references))
        super().add_batch(**columns)

    def add(self, *, reference: str | Sequence[str] | None = None, **values: object) -> None:
        """Add one case."""
        if reference is not None:
            values["reference"] = _as_list(reference)
        super().add(**values)


def _as_list(reference: str | Sequence[str]) -> list[str]:
    return [reference] if isinstance(reference, str) else list(reference)


def share(flags: Sequence[bool]) -> float | None:
    """The share of true flags, from 0 to 1; `None` if there are none."""
    return sum(flags) / len(flags) if flags else None
