"""Whether a prompt requests an answer in another language than Russian, or about words of one."""

import re

_LANGUAGES = (
    "английск|испанск|французск|немецк|итальянск|португальск|китайск|японск|корейск|арабск|латинск|украинск|белорусск|казахск|киргизск|кыргызск"
    "|татарск|башкирск|монгольск|узбекск|болгарск|македонск|сербск|хорватск|чешск|словацк|польск|литовск|латышск|эстонск|грузинск|армянск"
    "|азербайджанск|турецк|греческ|финск|шведск|норвежск|датск|голландск|нидерландск|румынск|венгерск|вьетнамск|индонезийск|персидск|иностранн"
)
# The answer is to be in another language. A language that is only named («учить английский язык») is no request.
_IN_LANGUAGE = re.compile(
    rf"\b(?:на|по)[ -](?:(?:{_LANGUAGES})|латынь|латыни|иврит|хинди|эсперанто)|иероглиф", re.IGNORECASE
)
# The prompt is about words of a language if it has a match of both.
_LANGUAGE = re.compile(rf"\b(?:{_LANGUAGES})", re.IGNORECASE)
_WORDS_OF_LANGUAGE = re.compile(
    r"\b(?:слов(?!ар)|глагол|артикл|алфавит|грамматик|фраз|идиом|времена|времён|предлог|предложени|выражени|поговорк|букв|спряж|произн)",
    re.IGNORECASE,
)


def requests_foreign(prompt: str) -> bool:
    """Check whether words of another language are expected in the answer: «ответь по-английски», «какие английские слова…»."""
    is_about_words = _LANGUAGE.search(prompt) and _WORDS_OF_LANGUAGE.search(prompt)
    return bool(is_about_words or _IN_LANGUAGE.search(prompt))
