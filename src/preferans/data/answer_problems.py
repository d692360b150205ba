"""
Find what is wrong with the texts of pairs: damaged characters, broken or foreign answers, and personal data.

The patterns and thresholds are chosen to give no false findings on Open Assistant's human answers. What a model should learn to avoid, such as
loops, is a problem in chosen answers only.
"""

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator

from tqdm.auto import tqdm

from ..text.characters import CODE, THINKING, character_damage, comparable
from ..text.intrusions import confusion
from ..text.language import loops
from ..text.manners import SENTENCE, refuses
from ..text.measures import is_complete
from .pairs import ANSWERS, COLUMNS, Pair, Problem, message_text

CHARACTER_KINDS = {
    "encoding": "has text in a wrong encoding",
    "homoglyphs": "has letters of the wrong alphabet",
    "html": "has HTML",
    "invisible": "has invisible or control characters",
    "decomposed": "has letters and accents as separate characters",
}
# A refusal of more characters usually contains an answer too.
REFUSAL_LENGTH, REFUSAL_PROMPTS, COPY_LENGTH = 300, 3, 20
# An answer of `PADDED` times its rival's length is padded if less than 1/`NEW` of it is neither punctuation nor repeated, here or elsewhere, or if it
# contains its rival; at `PADDED_ALONE` times, if no other pair is like it.
PADDED, NEW, PADDED_ALONE, OUTLIER, RIVAL_LENGTH, PADDED_LENGTH = 3, 3, 6, 5, 40, 200

_ROLE = re.compile(
    r"(?:\A|\n)[ \t#*]*((?:Пользователь|Ассистент|Human|User|Assistant|System)[ *]*:)|(<(?:end|eot|конец)>|(?:\A|\n)<(?:human|bot|assistant)>)"
)
_JUDGE = re.compile(
    r"\[\[(?:\d+|[AB][<>=]*[AB]?|[AB])\]\]|\b(?:score|rating|verdict)\s*[:=]\s*\d+(?:\.\d)?\s*(?:/|out of)\s*\d+"
    r"|\b(?:оценка|балл|рейтинг|вердикт)\s*[:=—–-]\s*\d+(?:[.,]\d)?\s*(?:/|из)\s*\d+"
    r"|\b(?:the (?:chosen|rejected) (?:answer|response)|(?:answer|response|assistant) [AB12] is (?:better|worse))\b"
    r"|(?:\A|\n)[(\[*]*(?:комментарий (?:оценщика|судьи|эксперта|разметчика)|пояснение к оценке|judge'?s comment|annotator(?:'s)? (?:note|comment))\b"
    r"|\b(?:этот|данный|первый|второй) (?:ответ|вариант) (?:явно |гораздо |намного )?(?:лучше|хуже|предпочтительнее),? (?:потому|так как|поскольку|чем)",
    re.IGNORECASE,
)
_PERSONAL = {
    "a phone number": re.compile(r"(?<![\d.,/-])(?:\+7|8)[ -]?\(?9\d{2}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}(?![\d-])"),
    "an e-mail address": re.compile(
        r"(?<![\w.+-])(?!(?:info|example|user|username|name|test|mail|email|support|ivan|ivanov|your[\w.]*|ваш\w*)@)[\w.+-]{2,64}"
        r"@(?!example|test|domain|company|email\.|mail\.com|website|site)[\w-]+(?:\.[\w-]+)*\.[a-zа-я]{2,6}\b",
        re.IGNORECASE,
    ),
    "a passport number": re.compile(r"(?:паспорт|серия)\D{0,30}\d{2} ?\d{2}\D{0,10}\d{6}(?!\d)", re.IGNORECASE),
    "an insurance number": re.compile(r"(?<!\d)\d{3}-\d{3}-\d{3}[ -]\d{2}(?!\d)"),
    "a card number": re.compile(r"(?<![\d-])[245]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?![\d-])"),
}
_LAYOUT = re.compile(r"([\s_|/\\-])[\s_|/\\-]+")  # of tables and drawings


def text_problems(pair: Pair) -> Iterator[Problem]:
    """Find the problems in the texts of one pair."""
    texts = {column: pair.text(column) for column in COLUMNS}
    for column in COLUMNS:
        for kind, example in column_damage(pair, column).items():
            yield Problem(kind, f"'{column}' {CHARACTER_KINDS[kind]}", repr(example))
    for column, text in texts.items():
        for kind, pattern in _PERSONAL.items():
            if match := pattern.search(text):
                yield Problem("personal_data", f"'{column}' has {kind}", repr(match[0]))
    for column in ANSWERS:
        if match := _JUDGE.search(texts[column]):
            yield Problem("judge_comment", f"'{column}' has a judge's comment", repr(match[0].strip()))
        if match := THINKING.search(texts[column]):
            yield Problem("thinking", f"'{column}' has a thinking block", repr(match[0].strip()[:40]))
    if comparable(texts["chosen"]) == comparable(texts["rejected"]):
        yield Problem("near_equal", "'chosen' and 'rejected' differ only in case, spaces or punctuation")
    yield from _chosen_problems(texts["chosen"], texts["rejected"], texts["prompt"])


def column_damage(pair: Pair, column: str) -> dict[str, str]:
    """
    Find damaged characters in a column of a pair, see [`~preferans.text.characters.character_damage`].

    Lookalike letters of a rejected answer that mixes languages are not damage: they are what the model should learn to avoid.
    """
    damage: dict[str, str] = {}
    if column == "prompt":
        texts = [pair.prompt] if isinstance(pair.prompt, str) else list(map(message_text, pair.prompt))
        for text in texts:
            damage = character_damage(text) | damage
        return damage
    text = pair.text(column)
    damage = character_damage(text, pair.user_text)
    if column == "rejected" and "homoglyphs" in damage:
        intruders = confusion(text, pair.user_text).intruders
        if any(intruder.language != "mixed" for intruder in intruders):
            del damage["homoglyphs"]
    return damage


def _chosen_problems(chosen: str, rejected: str, prompt: str) -> Iterator[Problem]:
    if (match := _ROLE.search(CODE.sub(" ", chosen))) and (match[1] or match[2]) not in prompt:
        yield Problem("foreign_roles", "'chosen' has the name of a role", repr(match[1] or match[2]))
    if len(chosen) <= REFUSAL_LENGTH and "?" not in chosen and refuses(chosen) and not refuses(rejected):
        yield Problem("refusal", "'chosen' is a refusal, and 'rejected' is not", repr(chosen[:60]))
    if loops(chosen):
        yield Problem("loops", "'chosen' loops")
    elif is_complete(chosen) is False:
        yield Problem("cut_answer", "'chosen' ends in mid-sentence", repr(chosen.strip()[-30:]))


def copied_answers(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Find answers that also answer another prompt, and refusals of at least `REFUSAL_PROMPTS` prompts in the same words."""
    users: dict[str, dict] = defaultdict(dict)
    for pair in pairs:
        for column in ANSWERS:
            users[comparable(pair.text(column))].setdefault(pair.key("prompt"), pair.label)
    for pair in pairs:
        for column in ANSWERS:
            text = comparable(pair.text(column))
            prompts = users[text]
            others = [label for prompt, label in prompts.items() if prompt != pair.key("prompt")]
            if len(prompts) >= REFUSAL_PROMPTS and refuses(pair.text(column)):
                yield (
                    pair,
                    Problem("refusal", f"'{column}' is the same refusal under several prompts", f"in {others[0]}"),
                )
            elif others and len(text) >= COPY_LENGTH:
                yield (
                    pair,
                    Problem("copied_answer", f"'{column}' is also an answer to another prompt", f"in {others[0]}"),
                )


def padded_answers(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Find answers that were padded to many times the length of their rival."""
    sentences = [{column: _sentences(pair.text(column)) for column in ANSWERS} for pair in pairs]
    conversations: dict[str, set] = defaultdict(set)
    for pair, texts in zip(pairs, sentences, strict=True):
        for sentence in {*texts["chosen"], *texts["rejected"]}:
            conversations[sentence].add(pair.conversation)
    logs = [math.log(_ratio(pair)) for pair in pairs]
    centre = statistics.median(logs) if logs else 0.0
    spread = max(0.1, 1.4826 * statistics.median([abs(value - centre) for value in logs])) if logs else 0.0
    for pair, log, texts in zip(pairs, logs, sentences, strict=True):
        column, other = ANSWERS if len(pair.text("chosen")) > len(pair.text("rejected")) else ANSWERS[::-1]
        ratio, rival, own = math.exp(log), comparable(pair.text(other)), comparable(pair.text(column))
        if ratio < PADDED:
            continue
        counts = Counter(texts[column])
        old = sum(
            len(sentence) * (number - (len(conversations[sentence]) < 2))
            for sentence, number in counts.items()
            if len(sentence) >= COPY_LENGTH
        )
        if (
            NEW * (len(own) - old) < len(_LAYOUT.sub(r"\1", pair.text(column))) > PADDED_LENGTH
            or (len(rival) >= RIVAL_LENGTH and rival in own)
            or (len(rival) >= RIVAL_LENGTH and ratio >= PADDED_ALONE and log - centre > OUTLIER * spread)
        ):
            yield pair, Problem("padded", f"'{column}' is padded", f"{ratio:.0f} times as long as the other answer")


def _ratio(pair: Pair) -> float:
    shorter, longer = sorted(max(1, len(pair.text(column).strip())) for column in ANSWERS)
    return longer / shorter


def _sentences(text: str) -> list[str]:
    return [found for match in SENTENCE.findall(text) if (found := comparable(match)).strip("_")]


def content_problems(pairs: list[Pair]) -> Iterator[tuple[Pair, Problem]]:
    """Find the problems in the texts of all pairs, alone and beside each other."""
    for pair in tqdm(pairs, desc="Checking texts", unit="pair", disable=None):
        for problem in text_problems(pair):
            yield pair, problem
    yield from copied_answers(pairs)
    yield from padded_answers(pairs)
