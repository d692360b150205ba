"""What an answer looks like as Russian text: scripts, loops, endings."""

import re
from collections import Counter

_CYRILLIC = re.compile(r"[а-яёА-ЯЁ]")
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_NO_PROSE = re.compile(r"```.*?```|`[^`]*`|https?://\S+|www\.\S+|</?[a-zA-Z][^<>]*>", re.DOTALL)
LOOP_WORDS, LOOP_TIMES = 4, 3


def words(text: str) -> list[str]:
    """Words of a text in lower case, without digits and punctuation."""
    return [word.lower() for word in WORD.findall(text)]


def cyrillic_share(text: str) -> float | None:
    """
    Share of Russian letters among the letters of a text.

    Args:
        text (`str`):
            Any text.

    Returns:
        `float` or `None`: from 0 to 1, or `None` for a text without letters.
    """
    letters = [character for character in text if character.isalpha()]
    return sum(bool(_CYRILLIC.match(letter)) for letter in letters) / len(letters) if letters else None


def is_russian(text: str) -> bool:
    """Whether most letters of a text are Russian. A text without letters is not."""
    share = cyrillic_share(text)
    return share is not None and share > 0.5


def foreign_words(text: str, prompt: str) -> list[str]:
    """
    Words with letters that are not Russian and that the prompt does not use itself.

    A first measure, by script alone. Links, markup, code in backticks and words in capitals (USB, SELECT) are passed over; brand
    names are counted unless the prompt has them.

    Args:
        text (`str`):
            Answer.
        prompt (`str`):
            What was asked.

    Returns:
        `list[str]`: such words in lower case, in order, with repetitions.
    """
    asked = set(words(prompt))
    return [
        word.lower()
        for word in WORD.findall(_NO_PROSE.sub(" ", text))
        if word.lower() not in asked
        and not (len(word) > 1 and word.isupper() and word.isascii())
        and any(not _CYRILLIC.match(letter) for letter in word if letter.isalpha())
    ]


def loops(text: str) -> bool:
    """Whether a text runs in circles: the same four words, or the same line of two words and more, three times."""
    sequence = words(text)
    runs = Counter(tuple(sequence[i : i + LOOP_WORDS]) for i in range(len(sequence) - LOOP_WORDS + 1))
    lines = Counter(line.strip().lower() for line in text.splitlines() if len(line.split()) >= 2)
    return max([0, *runs.values(), *lines.values()]) >= LOOP_TIMES
