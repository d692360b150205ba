"""Whether answers keep to a character, by the words of the character's file."""

import datasets
import evaluate

from preferans.data.persona import load_persona
from preferans.errors import PreferansError
from preferans.evaluation.probes import keeps_character

_DESCRIPTION = """Whether answers keep to a character that a file of personas/ describes: traces of it are there, no taboo is broken,
no fact is contradicted."""

_INPUTS = """
Args:
    predictions (`list[str]`):
        Answers.
    persona (`str`):
        The character's file, such as `personas/sienna.yaml`.
    prompts (`list[str]` or `list[list[dict]]`, *optional*):
        What was asked, texts or messages. Words of the last question count neither as traces nor as taboos.

Returns:
    `dict[str, float]`: shares of all answers. `in_character`: a trace of the character is there. `taboo_rate`: a taboo word is said,
    or the answer calls itself a program. `contradiction_rate`: a fact or the manner is contradicted. `adherence`: in character, and
    neither of the two.
"""

_CITATION = """@misc{askell2021general,
    title = {A General Language Assistant as a Laboratory for Alignment},
    author = {Askell, Amanda and others},
    year = {2021},
    eprint = {2112.00861},
    archivePrefix = {arXiv}
}"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class PersonaAdherence(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str], persona: str, prompts: list | None = None) -> dict[str, float]:
        character = load_persona(persona)
        prompts = [""] * len(predictions) if prompts is None else prompts
        if len(prompts) != len(predictions):
            raise PreferansError(
                f"prompts are {len(prompts)} and predictions {len(predictions)}. Give one prompt for each answer."
            )
        asked = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
        kept = [keeps_character(character, answer, prompt) for answer, prompt in zip(predictions, asked, strict=True)]
        shares = {
            "in_character": [answer.in_character for answer in kept],
            "taboo_rate": [answer.breaks_taboo for answer in kept],
            "contradiction_rate": [answer.contradicts_facts for answer in kept],
            "adherence": [answer.adheres for answer in kept],
        }
        return {name: sum(values) / len(values) for name, values in shares.items()}
