"""Which form a Russian prompt asks an answer to have, and whether the answer has it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

# Characters of a sentence that are read: what is longer is pasted material, and patterns would take minutes over it.
LONGEST_SENTENCE = 600


class FormatRequest(NamedTuple):
    """
    One thing that a prompt asks of the form of its answer.

    Attributes:
        kind (`str`): `list`, `numbered_list`, `table`, `json`, `code`, `items`, `sentences` or `word`.
        low (`int`), high (`int`, *optional*): How many there shall be, for `items` and `sentences`; `None` for no upper bound.
    """

    kind: str
    low: int = 1
    high: int | None = None


_NUMBERS = {
    "один одна одно одну одним одной одном": 1,
    "два две двух двумя": 2,
    "три трёх трех тремя": 3,
    "четыре четырёх четырех четырьмя": 4,
    "пять пяти пятью": 5,
    "шесть шести шестью": 6,
    "семь семи семью": 7,
    "восемь восьми восемью": 8,
    "девять девяти девятью": 9,
    "десять десяти десятью": 10,
    "двенадцать двенадцати": 12,
    "пятнадцать пятнадцати": 15,
    "двадцать двадцати": 20,
}
_NUMBER_OF = {word: number for line, number in _NUMBERS.items() for word in line.split()}
_NUMBER = rf"(?:\d{{1,3}}|{'|'.join(sorted(_NUMBER_OF, key=len, reverse=True))})"
_COUNT = (
    r"(?:(?P<bound>не менее|не меньше|как минимум|минимум|хотя бы|не более|не больше|максимум|до|от|ровно)\s+(?:чем\s+)?(?:в\s+)?)?"
    rf"\b(?P<low>{_NUMBER})(?:\s*(?:-|–|—|или|до)\s*(?P<high>{_NUMBER}))?\b"
)

# Imperatives that ask for an answer, in the singular and the plural.
_IMPERATIVES = (
    "напиши|составь|создай|дай|приведи|предоставь|сделай|предложи|подготовь|сформируй|сгенерируй|построй|нарисуй|выпиши|выдай|верни|пришли|"
    "покажи|выведи|представь|оформи|подбери|придумай|набросай|сочини|назови|перечисли|посоветуй|порекомендуй|подскажи|укажи|выдели|ответь|"
    "отвечай|опиши|расскажи|объясни|изложи|распиши|сравни|перескажи|резюмируй|скажи|охарактеризуй|сведи|собери|преобразуй|переведи|"
    "конвертируй|преврати|перепиши|переделай|разбей|раздели|помести|определи|разбери|уложись|суммируй|подытожь|сократи"
)
_INFINITIVES = (
    "дать|написать|составить|создать|привести|предоставить|сделать|предложить|подготовить|показать|назвать|перечислить|посоветовать|"
    "порекомендовать|представить|оформить|вывести|вернуть|придумать|подобрать|ответить|описать|рассказать|объяснить|сравнить"
)
# Those of them after which a number counts what is to be named: «назови пять городов», but not «сравни два города».
_NAMING = "напиши|составь|дай|приведи|предложи|выпиши|подбери|придумай|набросай|сочини|назови|перечисли|посоветуй|порекомендуй|подскажи|укажи|выдели"
_WISH = (
    r"(?:\b(?<!не\s)(?:нуж(?:ен|на|но|ны)|хочу|хотел(?:а|ось)? бы|прошу)(?:\s+получить|\s+увидеть)?\b"
    r"|\b(?:можешь|можете|мог(?:ла|ли)?\s+бы|помоги(?:те)?)(?:\s+ли)?(?:\s+(?:ты|вы))?(?:,?\s+пожалуйста,?)?(?:\s+мне)?"
    rf"\s+(?:{_INFINITIVES})\b)"
)
_VERB = rf"(?:\b(?<!не\s)(?:{_IMPERATIVES})(?:те)?\b|{_WISH})"
_NAMING_VERB = rf"(?:\b(?<!не\s)(?:{_NAMING})(?:те)?\b|{_WISH})"
_ADJECTIVE = r"\w+(?:ый|ий|ой|ую|юю|ого|его|ое|ые|ие|ых|их|ыми|ими|ым|им)"
_FILLER = rf"(?:мне|нам|ему|ей|тогда|пожалуйста|ещё|еще|только|просто|и|лишь|для меня|в ответ|\w+(?:ому|ему)\s+\w+[уюе]|{_ADJECTIVE})"
_GAP = rf"(?:[\s,]+{_FILLER}){{0,5}}\s+"
_LANGUAGE = (
    r"(?:python|питон\w*|java|javascript|js|typescript|c\+\+|с\+\+|c#|golang|go|rust|ruby|php|sql|bash|html|css|kotlin|swift|matlab|vba?\d*"
    r"|perl|scala|lua|haskell|pascal|паскал\w+|1с|react|tensorflow\d?|pytorch|powershell|latex)"
)
_AS = r"(?<!не\s)\bв (?:виде|форме|формате|формат)\s+"
_NUMBERED = r"(?:про)?нумерованн\w+"
# After these an instrumental case is no manner: «письмо с подробным списком».
_NO_MANNER = re.compile(
    rf"\b(?:с|со|над|под|перед|за|между|не|является|служит|стал\w*|был\w*)\s+(?:{_ADJECTIVE}\s+)?(?:списком|перечнем|таблиц(?:ей|ами)|табличкой)\b",
    re.IGNORECASE,
)

# Anywhere in a sentence: these say the manner of an answer by themselves.
_MANNERS = {
    "list": r"\b(?:списком|перечнем)\b|(?<!не )\bпо пунктам\b",
    "numbered_list": rf"\b{_NUMBERED}\s+(?:списком|перечнем)\b|(?<!не )\bпронумеруй(?:те)?\b|\b{_NUMBERED}\s+пункт\w+",
    "table": r"\b(?:таблицей|табличкой)\b",
    "json": r"\b(?:json-?\s*(?:объектом|массивом)|(?:объектом|массивом)\s+json)\b",
    "code": r"(?<!не )\b(?:блоком кода|в(?: \w+)? блоке? кода)\b",
}
# In a clause with a verb that asks, or at the start of a clause without any.
_FORMS = {
    "list": rf"{_AS}(?:{_ADJECTIVE}\s+)*(?:списка|перечня)\b|\b(?:только|лишь)\s+(?:{_ADJECTIVE}\s+)*список\b",
    "numbered_list": rf"{_AS}{_NUMBERED}\s+(?:списка|перечня)\b",
    "table": rf"{_AS}(?:{_ADJECTIVE}\s+)*(?:таблицы|таблички)\b|\b(?:только|лишь)\s+таблиц[ау]\b|\bв (?:\w+ую\s+)?таблиц[уе]\b(?!\s+[a-z])",
    "code": r"\b(?:только|лишь)\s+код\b",
    "json": rf"(?:{_AS}|(?<!не )\bв\s+)(?:\w+\s+)?json\b|\b(?:только|лишь)\s+json\b|\bв json-\w+",
}
_START = r"(?:и|а|но|ответ|результат|вывод|формат(?: ответа| вывода)?|только|лишь|строго|пожалуйста|[:—–-]|\s)*"
# A verb that asks, and what it asks for.
_OBJECTS = {
    "list": r"(?:список|перечень)\b(?!\s+(?:в|на|для)\s+[a-z])",
    "numbered_list": rf"{_NUMBERED}\s+(?:список|перечень)\b",
    "table": r"(?:пример\s+)?(?:таблиц[уы]|табличк[уи])\b(?!\s+(?:умножения|менделеева|[a-z]))(?!\s+(?:в|на|для)\s+(?!markdown)[a-z])",
    "json": r"(?:(?:пример|объект|массив|файл|документ|пакет|ответ)\w*\s+){0,2}json\b",
    "code": (
        rf"(?:на\s+{_LANGUAGE}\s+)?(?:(?:пример|фрагмент|кусок)\w*\s+)?код(?:а)?\b"
        r"(?!\s+(?:регион|стран|город|ошибк|товар|подъезд|валют|актив|чест|да\s|доступ|скидк|оператор|отмен|операци|\d))"
    ),
}
_PROGRAM = rf"{_VERB}(?=[^.!?]*\b{_LANGUAGE}\b){_GAP}(?:(?:на|в)\s+{_LANGUAGE}\s+)?(?:(?:пример|код)\w*\s+)?" + (
    r"(?:скрипт|функци[юия]|программ[уы]|запрос|класс|модуль|парсер|бот|декоратор|модель|страниц[ау]|вёрстку|верстку)\w*"
)
_MEASURES = (
    r"(?:слов|предложен|абзац|стро[кч]|символ|знак|букв|раз\b|раза\b|минут|час|дн[яе]|недел|месяц|лет\b|год|рубл|страниц|стих|тысяч|процент|балл"
    r"|градус|грамм|килограмм|литр|метр|километр|колон|столб|част)"
)
_ITEMS = [
    re.compile(rf"{_NAMING_VERB}{_GAP}{_COUNT}(?:\s+[\w-]+(?:ых|их|ные|ие))*\s+(?!{_MEASURES})[а-яё]", re.IGNORECASE),
    re.compile(rf"\b(?:список|перечень|списком|списка)\s+из\s+{_COUNT}\s+(?!{_MEASURES})", re.IGNORECASE),
    re.compile(rf"{_COUNT}\s+(?:[\w-]+(?:ых|их)\s+)?пункт(?:а|ов|ами|ах)\b", re.IGNORECASE),
    re.compile(rf"{_VERB}[^,.;!?]*?\bтоп[\s-]*{_COUNT}", re.IGNORECASE),
]
_SHORT = r"(?:(?:прост|коротк|кратк|длинн|полн|законченн|связн|ёмк|емк|небольш)\w+\s+)?"
_SENTENCES = [
    re.compile(
        rf"\bв\s+{_COUNT}\s+{_SHORT}предложени(?:и|ях)\b(?!\s+(?:ниже|выше|найди|есть|исправь))", re.IGNORECASE
    ),
    re.compile(rf"{_COUNT}\s+{_SHORT}предложени(?:ем|ями)\b", re.IGNORECASE),
    re.compile(
        rf"(?:{_VERB}[^.!?;]*?\s|^\s*|\bвышло\s+|\bуместилось\s+в\s+){_COUNT}\s+{_SHORT}предложени[еяй]\b",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?=\b(?:не более|не больше|максимум|не менее|минимум)\b){_COUNT}\s+{_SHORT}предложени[еяй]\b", re.IGNORECASE
    ),
]
_WORD = re.compile(
    rf"{_VERB}[^.!?;]*?\s(?:одним словом|одно слово|в одно слово)\b|^\s*(?:только\s+)?(?:одним словом\b(?!,)|одно слово\b)",
    re.IGNORECASE,
)

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|«[^»]{0,999}»|„[^“”]{0,999}[“”]|“[^”]{0,999}”|\"[^\"\n]{0,999}\"", re.DOTALL
)
_CONTEXT = re.compile(
    r"^[ \t]*(?:контекст|текст|отрывок|исходный текст|данные)[ \t]*:.*?(?=\n[ \t]*\n|\Z)", re.DOTALL | re.I | re.M
)
# What is told or asked about, not wanted: «функция, которая возвращает список», «объясни, как сделать таблицу».
_ABOUT = re.compile(
    r"(?:^|[,:—–(])\s*(?:и\s+|а\s+)?(?:(?:(?:в|на|из|с|для|о|к|по|от)\s+)?котор\w+|как(?!\s+(?:минимум|можно))|почему|зачем|где|когда|откуда|чем|что такое"
    r"|можно ли|нужно ли|стоит ли|надо ли|если)\b[^,.;:!?—–\n]*",
    re.IGNORECASE,
)


def _sentences_asked(prompt: str) -> Iterator[str]:
    text = _CONTEXT.sub("\n", _QUOTED.sub(" «» ", prompt))
    for sentence in re.split(r"(?<=[.!?…])\s+|\n+", text):
        sentence = _NO_MANNER.sub(" ", _ABOUT.sub(" , ", sentence[:LONGEST_SENTENCE])).strip()
        if sentence:
            yield sentence


def requested_formats(prompt: str) -> list[FormatRequest]:
    """
    What a Russian prompt asks of the form of its answer.

    Texts in quotation marks and code, questions about a form («Как сделать таблицу?»), relative clauses («функция, которая возвращает
    список») and refusals («без списков», «не в виде таблицы») ask for nothing.

    Args:
        prompt (`str`):
            The user's last message.

    Returns:
        `list[FormatRequest]`: each kind at most once; empty when the form is left free.
    """
    found: dict[str, FormatRequest] = {}

    def note(kind: str, low: int = 1, high: int | None = None) -> None:
        found.setdefault(kind, FormatRequest(kind, low, high))

    for sentence in _sentences_asked(prompt):
        for kind, pattern in _MANNERS.items():
            if re.search(pattern, sentence, re.IGNORECASE):
                note(kind)
        for clause in re.split(r"[,;:—–]", sentence):
            asks = re.search(_VERB, clause, re.IGNORECASE)
            for kind, pattern in _FORMS.items():
                if (asks and re.search(pattern, clause[asks.end() :], re.I)) or re.match(
                    f"{_START}(?:{pattern})", clause, re.I
                ):
                    note(kind)
        for kind, pattern in _OBJECTS.items():
            if re.search(f"{_VERB}{_GAP}{pattern}", sentence, re.IGNORECASE):
                note(kind)
        if re.match(r"\s*(?:формат|ответ)(?: ответа| вывода)?\s*[:—–-]\s*json\b", sentence, re.IGNORECASE):
            note("json")
        if re.search(_PROGRAM, sentence, re.IGNORECASE):
            note("code")
        for match in filter(None, (pattern.search(sentence) for pattern in _ITEMS)):
            low, high = _bounds(match)
            if low > 1:  # «назови один способ» leaves the form free
                note("items", low, high)
        for match in filter(None, (pattern.search(sentence) for pattern in _SENTENCES)):
            note("sentences", *_bounds(match))
        if _WORD.search(sentence):
            note("word")
    if "numbered_list" in found:
        found.pop("list", None)
    return list(found.values())


def _bounds(match: re.Match) -> tuple[int, int | None]:
    low, high = (
        None if word is None else int(word) if word.isdecimal() else _NUMBER_OF[word.lower()]
        for word in match.group("low", "high")
    )
    bound = (match["bound"] or "").lower()
    if bound in ("не менее", "не меньше", "как минимум", "минимум", "хотя бы") or (bound == "от" and high is None):
        return low, None
    if bound in ("не более", "не больше", "максимум", "до"):
        return 1, low if high is None else high
    return low, low if high is None else max(low, high)
