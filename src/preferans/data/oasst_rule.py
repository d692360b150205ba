"""The rule that turns OpenAssistant rows into pairs."""

from dataclasses import dataclass

OASST1 = "OpenAssistant/oasst1"
OASST1_REVISION = "fdf72ae0827c1cda404aff25b6603abec9e3399b"
TURNS = ("first", "all")
PAIRINGS = ("best_worst", "adjacent", "all")


@dataclass(frozen=True)
class PairingRule:
    """
    What makes a pair.

    Args:
        lang (`str`, *optional*, defaults to `"ru"`):
            Language tag to keep. With `"ru"`, most letters of a text must also be Russian.
        turns (`str`, *optional*, defaults to `"first"`):
            `"first"`: prompts that open a conversation. `"all"`: every prompt, with the conversation before it.
        pairing (`str`, *optional*, defaults to `"best_worst"`):
            `"best_worst"` pairs the lowest rank with the highest, `"adjacent"` neighbours in rank order, `"all"` every reply with every
            reply ranked below it. Replies that share a rank make no pair.
        min_quality_margin (`float`, *optional*):
            Minimum difference of the mean `quality` labels, from 0 to 1, of chosen and rejected.
        normalize_persona (`bool`, *optional*, defaults to `False`):
            Remove the assistant's name from Russian texts, see [`~preferans.text.language.without_assistant_name`].
        max_length_ratio (`float`, *optional*):
            A pair whose chosen is more than this many times as long as its rejected, in characters, is kept with `keep_long_prob` only.
        keep_long_prob (`float`, *optional*, defaults to `0.0`):
            Probability from 0 to 1, drawn for each pair from its id and `seed`.
        seed (`int`, *optional*, defaults to `42`):
            Seed of that draw.
    """

    lang: str = "ru"
    turns: str = "first"
    pairing: str = "best_worst"
    min_quality_margin: float | None = None
    normalize_persona: bool = False
    max_length_ratio: float | None = None
    keep_long_prob: float = 0.0
    seed: int = 42

    def __post_init__(self):
        for name, choices in (("turns", TURNS), ("pairing", PAIRINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
