"""Whether answers match a character, as an `evaluate` module."""

from preferans.data.persona import load_persona
from preferans.errors import PreferansError
from preferans.evaluation.metric_module import MetricModule, share
from preferans.evaluation.probes import keeps_character


class PersonaAdherence(MetricModule):
    description = """Whether answers match a character of personas/: they contain a trace of it, break no taboo and contradict no fact."""
    inputs = """
Args:
    predictions (`list[str]`): Answers.
    persona (`str`): The character's file, such as `personas/sienna.yaml`.
    prompts (`list[str]` or `list[list[dict]]`, *optional*): Prompts, as text or messages. Words of the last question count neither as
        traces nor as taboos.

Returns:
    `dict[str, float]`: shares of all answers. `in_character`: shows a trace of the character. `taboo_rate`: uses a taboo word, or calls
    itself a program. `contradiction_rate`: contradicts a fact or the manner. `adherence`: in character without either of the two.
"""
    citation = """@misc{askell2021general,
    title = {A General Language Assistant as a Laboratory for Alignment},
    author = {Askell, Amanda and others},
    year = {2021},
    eprint = {2112.00861},
    archivePrefix = {arXiv}
}"""

    def _compute(self, predictions: list[str], persona: str, prompts: list | None = None) -> dict[str, float]:
        character = load_persona(persona)
        prompts = [""] * len(predictions) if prompts is None else prompts
        if len(prompts) != len(predictions):
            raise PreferansError(
                f"There are {len(prompts)} prompts and {len(predictions)} predictions. Give one prompt for each answer."
            )
        asked = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
        kept = [keeps_character(character, answer, prompt) for answer, prompt in zip(predictions, asked, strict=True)]
        shares = {
            "in_character": [answer.in_character for answer in kept],
            "taboo_rate": [answer.breaks_taboo for answer in kept],
            "contradiction_rate": [answer.contradicts_facts for answer in kept],
            "adherence": [answer.adheres for answer in kept],
        }
        return {name: share(values) for name, values in shares.items()}
