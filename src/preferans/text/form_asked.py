"""Forms that a Russian prompt requests of its answer: a list, a table, JSON, N sentences, …"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# The rest of a longer sentence is ignored: it is pasted material, and the patterns would need minutes.
_LONGEST_SENTENCE = 600


class FormatRequest(NamedTuple):
    """
    A form that a prompt requests.

    Attributes:
        kind (`str`): `list`, `numbered_list`, `table`, `json`, `code`, `items`, `sentences`, `words`, `lines`, `word`, `yes_no`, `no_list`,
            `no_table` or `no_code`.
        low (`int`), high (`int`, *optional*): Smallest and largest number of `items`, `sentences`, `words` or `lines`; `None` for no upper
            bound.
        keys (`tuple[str, ...]`): Keys of the JSON.
    """

    kind: str
    low: int = 1
    high: int | None = None
    keys: tuple[str, ...] = ()


def _compiled(pattern: str) -> re.Pattern:
    return re.compile(pattern, re.IGNORECASE)


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

# Imperatives that request an answer, in the singular; an added «те» makes the plural.
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
# The imperatives after which a number counts requested items: «назови пять городов», but not «сравни два города».
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
# After these words, an instrumental case is not a manner: «письмо с подробным списком».
_NO_MANNER = _compiled(
    rf"\b(?:с|со|над|под|перед|за|между|не|является|служит|стал\w*|был\w*)\s+(?:{_ADJECTIVE}\s+)?(?:списком|перечнем|таблиц(?:ей|ами)|табличкой)\b"
)
_START = r"(?:и|а|но|ответ|результат|вывод|формат(?: ответа| вывода)?|только|лишь|строго|пожалуйста|[:—–-]|\s)*"


class _Form:
    """
    The wordings that request one form.

    Args:
        manner (`str`): Requests it anywhere in a sentence.
        clause (`str`): Requests it at the start of a clause, or in a clause after a verb of request.
        noun (`str`): Requests it as the object of a verb of request.
    """

    def __init__(self, manner: str, clause: str, noun: str):
        self.manner, self.clause, self.clause_start = map(_compiled, (manner, clause, f"{_START}(?:{clause})"))
        self.verb_and_noun = _compiled(f"{_VERB}{_GAP}{noun}")

    def is_requested_in(self, clause: str) -> bool:
        verb = _VERB_PATTERN.search(clause)
        return bool((verb and self.clause.search(clause[verb.end() :])) or self.clause_start.match(clause))


_VERB_PATTERN = _compiled(_VERB)
_FORMS = {
    "list": _Form(
        r"\b(?:списком|перечнем)\b|(?<!не )\bпо пунктам\b",
        rf"{_AS}(?:{_ADJECTIVE}\s+)*(?:списка|перечня)\b|\b(?:только|лишь)\s+(?:{_ADJECTIVE}\s+)*список\b",
        r"(?:список|перечень)\b(?!\s+(?:в|на|для)\s+[a-z])",
    ),
    "numbered_list": _Form(
        rf"\b{_NUMBERED}\s+(?:списком|перечнем)\b|(?<!не )\bпронумеруй(?:те)?\b|\b{_NUMBERED}\s+пункт\w+",
        rf"{_AS}{_NUMBERED}\s+(?:списка|перечня)\b",
        rf"{_NUMBERED}\s+(?:список|перечень)\b",
    ),
    "table": _Form(
        r"\b(?:таблицей|табличкой)\b",
        rf"{_AS}(?:{_ADJECTIVE}\s+)*(?:таблицы|таблички)\b|\b(?:только|лишь)\s+таблиц[ау]\b|\bв (?:\w+ую\s+)?таблиц[уе]\b(?!\s+[a-z])",
        r"(?:пример\s+)?(?:таблиц[уы]|табличк[уи])\b(?!\s+(?:умножения|менделеева|[a-z]))(?!\s+(?:в|на|для)\s+(?!markdown)[a-z])",
    ),
    "json": _Form(
        r"\b(?:json-?\s*(?:объектом|массивом)|(?:объектом|массивом)\s+json)\b",
        rf"(?:{_AS}|(?<!не )\bв\s+)(?:\w+\s+)?json\b|\b(?:только|лишь)\s+json\b|\bв json-\w+",
        r"(?:(?:пример|объект|массив|файл|документ|пакет|ответ)\w*\s+){0,2}json\b",
    ),
    "code": _Form(
        r"(?<!не )\b(?:блоком кода|в(?: \w+)? блоке? кода)\b",
        r"\b(?:только|лишь)\s+код\b",
        rf"(?:на\s+{_LANGUAGE}\s+)?(?:(?:пример|фрагмент|кусок)\w*\s+)?код(?:а)?\b"
        r"(?!\s+(?:регион|стран|город|ошибк|товар|подъезд|валют|актив|чест|да\s|доступ|скидк|оператор|отмен|операци|\d))",
    ),
}
_PROGRAM = _compiled(
    rf"{_VERB}(?=[^.!?]*\b{_LANGUAGE}\b){_GAP}(?:(?:на|в)\s+{_LANGUAGE}\s+)?(?:(?:пример|код)\w*\s+)?"
    r"(?:скрипт|функци[юия]|программ[уы]|запрос|класс|модуль|парсер|бот|декоратор|модель|страниц[ау]|вёрстку|верстку)\w*"
)
_JSON_ONLY = _compiled(r"\s*(?:формат|ответ)(?: ответа| вывода)?\s*[:—–-]\s*json\b")
_UNITS = (
    r"(?:слов|предложен|абзац|стро[кч]|символ|знак|букв|раз\b|раза\b|минут|час|дн[яе]|недел|месяц|лет\b|год|рубл|страниц|стих|тысяч|процент|балл"
    r"|градус|грамм|килограмм|литр|метр|километр|колон|столб|част)"
)
_ITEMS = [
    _compiled(rf"{_NAMING_VERB}{_GAP}{_COUNT}(?:\s+[\w-]+(?:ых|их|ные|ие))*\s+(?!{_UNITS})[а-яё]"),
    _compiled(rf"\b(?:список|перечень|списком|списка)\s+из\s+{_COUNT}\s+(?!{_UNITS})"),
    _compiled(rf"{_COUNT}\s+(?:[\w-]+(?:ых|их)\s+)?пункт(?:а|ов|ами|ах)\b"),
    _compiled(rf"{_VERB}[^,.;!?]*?\bтоп[\s-]*{_COUNT}"),
]
_SHORT = r"(?:(?:прост|коротк|кратк|длинн|полн|законченн|связн|ёмк|емк|небольш)\w+\s+)?"
_SENTENCES = [
    _compiled(rf"\bв\s+{_COUNT}\s+{_SHORT}предложени(?:и|ях)\b(?!\s+(?:ниже|выше|найди|есть|исправь))"),
    _compiled(rf"{_COUNT}\s+{_SHORT}предложени(?:ем|ями)\b"),
    _compiled(rf"(?:{_VERB}[^.!?;]*?\s|^\s*|\bвышло\s+|\bуместилось\s+в\s+){_COUNT}\s+{_SHORT}предложени[еяй]\b"),
    _compiled(rf"(?=\b(?:не более|не больше|максимум|не менее|минимум)\b){_COUNT}\s+{_SHORT}предложени[еяй]\b"),
]
_WORDS = [
    _compiled(
        r"(?=\b(?:не более|не больше|максимум|до|от|не менее|не меньше|как минимум|минимум|хотя бы|ровно)\b)"
        rf"{_COUNT}\s+слов(?:а|ами)?\b"
    ),
    _compiled(rf"\b(?:в|из)\s+{_COUNT}\s+слов(?:ах|а)?\b"),
    _compiled(rf"{_VERB}[^.!?;]*?\s{_COUNT}\s+словами\b"),
]
_IDIOM_WORDS = 3  # «в двух словах» means "briefly"
_LINES = [
    _compiled(
        rf"{_VERB}[^.!?;]*?\s(?:из|в|на)\s+{_COUNT}\s+строк(?:и|ах|у)?\b(?!\s+(?:код|файл|таблиц|текст|лог|баз|массив))"
    )
]
_COUNTED = {"items": _ITEMS, "sentences": _SENTENCES, "words": _WORDS, "lines": _LINES}
_YES_NO = _compiled(
    r"\b(?:ответь|отвечай|отвечать|скажи|напиши|только|просто|строго)(?:те)?\b[^.!?\n]{0,40}?[«\"“]?\bда\b[»\"”]?\s*(?:или|либо|/)\s*[«\"“]?нет\b"
)
_WITHOUT = {
    "no_list": _compiled(
        r"\bбез\s+(?:\w+(?:ых|ого)\s+)?(?:(?:таблиц\w*|кода|заголовк\w+)\s+и\s+)?(?:списк\w+|маркер\w+|перечислени\w+)"
    ),
    "no_table": _compiled(r"\bбез\s+(?:\w+(?:ых|ого)\s+)?(?:(?:списк\w+|кода|заголовк\w+)\s+и\s+)?таблиц\w*"),
    "no_code": _compiled(r"\bбез\s+(?:примеров\s+)?кода\b"),
}
_KEY = r"[\"'`«]?([A-Za-z_]\w*)[\"'`»]?"
_KEYS = _compiled(rf"\b(?:ключ(?:ами|и)|пол(?:ями|я))\b\s*[:—–-]?\s*({_KEY}(?:(?:\s*,\s*(?:и\s+)?|\s+и\s+){_KEY})*)")
# «(максимум два предложения) описание каждого» limits an item and not the answer.
_EACH = _compiled(r"\bкажд\w+|\bу всех\b|\bпо\s*$")
_WORD = _compiled(
    rf"{_VERB}[^.!?;]*?\s(?:одним словом|одно слово|в одно слово)\b|^\s*(?:только\s+)?(?:одним словом\b(?!,)|одно слово\b)"
)

_QUOTED = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|«[^»]{0,999}»|„[^“”]{0,999}[“”]|“[^”]{0,999}”|\"[^\"\n]{0,999}\"", re.DOTALL
)
_CONTEXT = re.compile(
    r"^[ \t]*(?:контекст|текст|отрывок|исходный текст|данные)[ \t]*:.*?(?=\n[ \t]*\n|\Z)", re.DOTALL | re.I | re.M
)
# Mentions that are not requests: «функция, которая возвращает список», «объясни, как сделать таблицу».
_MENTION = _compiled(
    r"(?:^|[,:—–(])\s*(?:и\s+|а\s+)?(?:(?:(?:в|на|из|с|для|о|к|по|от)\s+)?котор\w+|как(?!\s+(?:минимум|можно))|почему|зачем|где|когда|откуда|чем|что такое"
    r"|можно ли|нужно ли|стоит ли|надо ли|если)\b[^,.;:!?—–\n]*"
)


def requested_formats(prompt: str) -> list[FormatRequest]:
    """
    Find the forms that a Russian prompt requests of its answer.

    Quotations, code, questions about a form («Как сделать таблицу?»), relative clauses («функция, которая возвращает список»), negations («не в
    виде таблицы») and limits of each item («по два предложения о каждом») are not requests.

    Args:
        prompt (`str`): The user's last message.

    Returns:
        `list[FormatRequest]`: each kind at most once.
    """
    requests: dict[str, FormatRequest] = {}
    for sentence in _sentences(prompt):
        for request in _requests_in(sentence):
            requests.setdefault(request.kind, request)
    if "json" in requests and (keys := _KEYS.search(prompt)):
        requests["json"] = FormatRequest("json", keys=tuple(re.findall(r"[A-Za-z_]\w*", keys[1])))
    if _YES_NO.search(prompt):
        requests["yes_no"] = FormatRequest("yes_no")
    if "code" in requests:  # «программа без списков» is about the program
        requests = {kind: request for kind, request in requests.items() if kind not in _WITHOUT}
    if "numbered_list" in requests:
        requests.pop("list", None)
    return list(requests.values())


def _sentences(prompt: str) -> Iterator[str]:
    text = _CONTEXT.sub("\n", _QUOTED.sub(" «» ", prompt))
    for sentence in re.split(r"(?<=[.!?…])\s+|\n+", text):
        sentence = _NO_MANNER.sub(" ", _MENTION.sub(" , ", sentence[:_LONGEST_SENTENCE])).strip()
        if sentence:
            yield sentence


def _requests_in(sentence: str) -> Iterator[FormatRequest]:
    yield from (FormatRequest(kind) for kind, form in _FORMS.items() if form.manner.search(sentence))
    for clause in re.split(r"[,;:—–]", sentence):
        yield from (FormatRequest(kind) for kind, form in _FORMS.items() if form.is_requested_in(clause))
    yield from (FormatRequest(kind) for kind, form in _FORMS.items() if form.verb_and_noun.search(sentence))
    if _JSON_ONLY.match(sentence):
        yield FormatRequest("json")
    if _PROGRAM.search(sentence):
        yield FormatRequest("code")
    for kind, patterns in _COUNTED.items():
        for match in filter(None, (pattern.search(sentence) for pattern in patterns)):
            low, high = _bounds(match)
            is_phrase = (kind == "items" and (low, high) == (1, 1)) or (
                kind == "words" and not match["bound"] and low <= _IDIOM_WORDS
            )  # «назови один способ», «в двух словах»
            if not is_phrase and not _limits_each(match):
                yield FormatRequest(kind, low, high)
    yield from (FormatRequest(kind) for kind, pattern in _WITHOUT.items() if pattern.search(sentence))
    if _WORD.search(sentence):
        yield FormatRequest("word")


def _limits_each(match: re.Match) -> bool:
    """Check whether a number limits each item of an answer and not the answer."""
    after = re.split(r"[.!?;]", match.string[match.end() :])[0]
    return bool(_EACH.search(match.string[: match.start("low")]) or _EACH.search(after))


def _bounds(match: re.Match) -> tuple[int, int | None]:
    low, high, bound = _number(match["low"]), match["high"] and _number(match["high"]), (match["bound"] or "").lower()
    if bound in ("не менее", "не меньше", "как минимум", "минимум", "хотя бы") or (bound == "от" and high is None):
        return low, None
    if bound in ("не более", "не больше", "максимум", "до"):
        return 1, low if high is None else high
    return low, low if high is None else max(low, high)


def _number(word: str) -> int:
    return int(word) if word.isdecimal() else _NUMBER_OF[word.lower()]
