"""Find the problems of pairs: alone, within a split, and between splits."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from ..text.near_duplicates import find_leaks
from ..utf8 import normal_form
from .pairs import ANSWERS, COLUMNS, Pair, Problem, is_training
from .preferences import ECHO_LENGTH

# A question of at least this many characters is an echo anywhere in an answer, not only at its beginning.
LONG_ECHO = 100
BOILERPLATE = 3  # different prompts with a line in common


def problems_alone(pair: Pair, template_token: re.Pattern) -> Iterator[Problem]:
    """
    Find the problems of a pair by itself.

    Args:
        pair ([`Pair`]): The pair.
        template_token (`re.Pattern`): See [`~preferans.data.check_tokens.template_pattern`].
    """
    for column in ANSWERS:
        if problem := _echo_problem(pair, column):
            yield problem
    if pair.mixed:
        yield Problem("schema", pair.mixed)
    if pair.implicit:
        yield Problem(
            "implicit_prompt", "the column 'prompt' is missing: 'chosen' and 'rejected' begin with the prompt"
        )
    if pair.has_tools:
        yield Problem("tools", "the row has messages of a tool or calls to one")
    texts = {column: pair.text(column) for column in ANSWERS}
    if not isinstance(pair.prompt, str):  # a plain prompt may be the output of a template
        texts = {"prompt": pair.text("prompt")} | texts
    for column, text in texts.items():
        if match := template_token.search(text):
            yield Problem("template_tokens", f"'{column}' has tokens of a chat template", match[0].strip())


def _echo_problem(pair: Pair, column: str) -> Problem | None:
    if column in pair.echoes:
        return Problem("prompt_echo", f"'{column}' begins with the whole conversation")
    text = normal_form(pair.text(column)).strip()
    for question in map(normal_form, pair.questions):
        if len(question) >= ECHO_LENGTH and text.startswith(question):
            return Problem("prompt_echo", f"'{column}' begins with the prompt")
        if len(question) >= LONG_ECHO and question in text:
            return Problem("prompt_echo", f"'{column}' contains the prompt")
    return None


def repetitions(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Find pairs that repeat or contradict another pair of their split, or repeat its id."""
    first: dict[tuple, str] = {}
    contents_by_id: dict[tuple, tuple] = {}
    contents = [(pair.split, *(pair.key(column) for column in COLUMNS)) for pair in pairs]
    for pair, content in zip(pairs, contents, strict=True):
        if content in first:
            yield pair, Problem("duplicate", "the same pair occurs earlier in the split", f"in {first[content]}")
        first.setdefault(content, pair.label)
        name = pair.row.get("id")
        if isinstance(name, str | int) and contents_by_id.setdefault((pair.split, name), content) != content:
            yield pair, Problem("repeated_id", "the id occurs earlier in the split, with other contents")
    words = "the same prompt has the same answers the other way round"
    for pair, (split, prompt, chosen, rejected) in zip(pairs, contents, strict=True):
        opposite = first.get((split, prompt, rejected, chosen))
        if opposite is not None and chosen != rejected:
            yield pair, Problem("contradiction", words, f"in {opposite}")


def leaks(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Find training pairs with a conversation tree, or nearly the same prompt, of another split."""
    splits: dict[str, list[Pair]] = {}
    for pair in pairs:
        splits.setdefault(pair.split, []).append(pair)
    training = {name for name in splits if is_training(name)}
    texts = _prompt_texts(pairs)
    for name, other in itertools.product(sorted(training), sorted(splits.keys() - training)):
        trees = {_tree(pair) for pair in splits[other]}
        matches = find_leaks(*([texts[id(pair)] for pair in splits[part]] for part in (name, other)))
        tree_words = f"the conversation tree is also in the split {other}"
        prompt_words = f"nearly the same prompt is in the split {other}"
        for pair, match in zip(splits[name], matches, strict=True):
            tree = _tree(pair)
            if tree is not None and tree in trees:
                yield pair, Problem("tree_leakage", tree_words, tree)
            if match is not None:
                yield pair, Problem("prompt_leakage", prompt_words, f"in {splits[other][match].label}")


def _prompt_texts(pairs: list[Pair]) -> dict[int, tuple[str, str]]:
    """
    Return the first and all user messages of each pair, by the pair's `id()`.

    Lines that several different prompts share come from a template or an instruction. They are left out, because they would make all
    prompts nearly the same.
    """
    first, everything = [pair.first_user_text for pair in pairs], [pair.user_text for pair in pairs]
    texts = zip(_without_boilerplate(first), _without_boilerplate(everything), strict=True)
    return dict(zip(map(id, pairs), texts, strict=True))


def _without_boilerplate(texts: list[str]) -> list[str]:
    counts = Counter(line for text in set(texts) for line in set(text.splitlines()))
    return ["\n".join(line for line in text.splitlines() if counts[line] < BOILERPLATE) or text for text in texts]


def _tree(pair: Pair) -> str | None:
    tree = pair.row.get("message_tree_id")
    return str(tree) if isinstance(tree, str | int) else None
