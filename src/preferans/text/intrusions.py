"""
Words of other languages that intrude into a Russian answer.

A word intrudes if it is of another language where a Russian writer would use a Russian one («мы должны consider все варианты»), or is
written in two alphabets at once («ногami»). Code, links, formulas, names, acronyms, units, quoted words, terms given in brackets and
words of the prompt are passed over first; what is left is judged word by word. The rules are below, each beside its reason; the only data
are the frequency lists of `pyspellchecker`, which tell a name at the head of a sentence from an ordinary word, and which language it is of.
"""

import gzip
import json
import math
import pkgutil
import re
import unicodedata
from difflib import SequenceMatcher
from functools import cache, lru_cache
from typing import NamedTuple


class Intruder(NamedTuple):
    """
    A word of another language in a Russian answer.

    Attributes:
        start (`int`), end (`int`):
            Where it stands: `answer[start:end]`.
        word (`str`):
            The word as written.
        language (`str` or `None`):
            ISO 639-1 code of its language (`"en"`, `"vi"`, `"zh"`, `"uk"` …), `"mixed"` for Cyrillic and Latin letters inside one word,
            `None` where nothing tells.
        hard (`bool`):
            In a script other than Latin and Cyrillic, or in two scripts at once: no loanword, no name, only confusion.
        gloss (`bool`):
            A lone everyday word in brackets after its Russian equivalent: «линия (line)».
    """

    start: int
    end: int
    word: str
    language: str | None
    hard: bool
    gloss: bool = False


class Confusion(NamedTuple):
    """
    What `confusion` finds in an answer.

    Attributes:
        in_russian (`bool` or `None`):
            Whether it is written in Russian, code, names and the like aside; `None` where there is no prose to judge.
        intruders (`list[Intruder]`):
            Intruding words, in order.
        words (`int`):
            Words of its prose, intruders among them.
        leaks (`list[str]`):
            Tokens of chat templates that leaked into the text, in order.
    """

    in_russian: bool | None
    intruders: list[Intruder]
    words: int
    leaks: list[str]


_RUSSIAN = "а-яёА-ЯЁ"
_CYRILLIC = "\u0400-\u052f\u1c80-\u1c8f\ua640-\ua69f"
_LATIN = "A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿ\uff21-\uff3a\uff41-\uff5a"
# Signs that belong to a word but are no letters for `re`: accents, vowels of Indian and South-East Asian scripts, Arabic and Hebrew points.
_MARK = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u0e31-\u0e4e\u0eb1-\u0ece\u0f71-\u0f84"
    "\u102b-\u103e\u1780-\u17d3"
)
_LETTERS = rf"(?:[^\W\d_]|[{_MARK}])+"
_TOKEN = re.compile(rf"{_LETTERS}(?:[-‑'’]{_LETTERS})*")
_PART = re.compile(rf"{_LETTERS}(?:['’]{_LETTERS})*")
_NOT_RUSSIAN = re.compile(rf"[^\W\d_{_RUSSIAN}]")
_ONLY_RUSSIAN = re.compile(rf"[{_RUSSIAN}\u0300-\u036f'’-]+")
_RUSSIAN_LETTER = re.compile(rf"[{_RUSSIAN}]")
_LATIN_LETTER = re.compile(rf"[{_LATIN}]")
_CYRILLIC_LETTER = re.compile(rf"[{_CYRILLIC}]")
_ONLY_CYRILLIC = re.compile(rf"[{_CYRILLIC}\u0300-\u036f'’-]+")
_ONLY_LATIN = re.compile(rf"[{_LATIN}\u0300-\u036f'’‑-]+")
# «зáмок»: a Latin vowel with an accent is how a keyboard without U+0301 marks the stress.
_STRESS = str.maketrans("áéóýÁÉÓÝ", "аеоуАЕОУ")

_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")),
    ("ko", re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")),
    ("fa", re.compile("[پچژگ]")),
    ("ar", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("bn", re.compile("[\u0980-\u09ff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("te", re.compile("[\u0c00-\u0c7f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]")),
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("hy", re.compile("[\u0530-\u058f]")),
    ("am", re.compile("[\u1200-\u137f]")),
    ("km", re.compile("[\u1780-\u17ff]")),
)
# Letters that give a language away. The first that occurs decides.
_CYRILLIC_LANGUAGES = (
    ("kk", re.compile("[әғқңұүһӘҒҚҢҰҮҺ]|[өӨ](?=[а-я]*[іғқ])")),
    ("uk", re.compile("[їєґЇЄҐ]")),
    ("be", re.compile("[ўЎ]")),
    ("sr", re.compile("[јљњћђџЈЉЊЋЂЏ]")),
    ("mk", re.compile("[ѓќѕЃЌЅ]")),
    ("uk", re.compile("[іІ]")),
)
_LATIN_LANGUAGES = (
    ("vi", re.compile(r"[ăđơưĂĐƠƯạ-ỹẠ-Ỹ]|\b(?:và|không|này|các|có|thì|làm|còn|nhà)\b", re.IGNORECASE)),
    ("tr", re.compile("[ğşıİĞŞ]")),
    ("pl", re.compile("[łąęźżśńŁĄĘŹŻŚŃ]")),
    ("cs", re.compile("[ěřůĚŘŮ]")),
    ("ro", re.compile("[țșȚȘ]")),
    ("hu", re.compile("[őűŐŰ]")),
    ("de", re.compile("[ßẞ]")),
    ("es", re.compile("[ñÑ]")),
    ("pt", re.compile("[ãõÃÕ]")),
)


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Frequent words of Russia's neighbours that are spelt with Russian letters alone and are no Russian words.
_NEIGHBOURS = {
    word: language
    for language, words in {
        "uk": """що щоб якщо також який якого якому якої якою цей цього цьому цим цих ця це вже дуже може треба тільки або потім запитати
            спитати робити завжди людина дякую питання навчання багато трохи краще гарно зараз ще воно вона його йому
            допомогти зробити зберегти дозволяє насправді звичайно ніколи щодня чому хоче хочете""",
        "bg": """съм който която което които защото защо трябва този тази това тези няма човек хората когато където както тогава всички
            всичко нещо няколко здравейте сега винаги помага използва използвайте преди докато понякога повече обаче освен""",
        "be": "што таксама гэта гэты гэтая вельмі толькі дзякуй цяпер",
    }.items()
    for word in words.split()
}
# In Russian a hard sign stands before е, ё, ю, я (и) or, in the old spelling, at the end.
_BULGARIAN = re.compile("ъ[абвгджзйклмнопрстуфхцчшщ]")
# From this share of neighbours' words on, a text in Cyrillic is not Russian at all.
_NEIGHBOURS_SHARE, _NEIGHBOURS_LEAST = 0.15, 3


# Brands and products whose names are ordinary words, so that no dictionary tells them from one.
_BRANDS = _listed(
    """alphabet amazon android apple audi azure bing blender bloom bluetooth boeing bosch canon chrome claude coca cola
    copilot cursor dell delphi discord disney docker dodge dove edge excel explorer facebook fanta fiat figma firefox
    flash flask ford fortran galaxy gap gemini git go google gucci harvard honda honor intel internet java jeep jira
    julia kindle lada lego lenovo lexus linux llama logitech lotus mac mars mercedes messenger meta microsoft mini
    minecraft nestle netflix nike nintendo nissan nokia notion office opera oracle outlook oxford paint panda pepsi
    perl photoshop pixel playboy polo porsche power powerpoint publisher puma python reddit rolls ruby rust safari
    samsung scala scratch sega shell signal siri skoda skype slack snickers sonic sony spark sprite spring steam subway
    surface swift swagger target teams telegram tesla tide tinder toyota trello twitch twitter uber unity unreal viber
    visa visual vista volvo whatsapp wikipedia windows word xbox yahoo yamaha youtube zoom"""
)
# Lower-case names and terms that Russian technical writing keeps in Latin letters, and units.
_TECHNICAL = _listed(
    """adidas admin ajax anaconda ansible apt asyncio awk backend backlog bash batch bitbucket bool bug bugfix byte cd
    celery char chmod cmake cmd commit conda const cookie cookies cors cpu cron css csv ctrl curl dataframe dataset
    deadlock debug diff django dns docker dpi dropout elif email enum env epoch eps esc exe fastapi fine-tuning float
    fps framework frontend ftp fullstack gcc gif git github gitlab golang gpu grep gzip hash helm html http https init
    int ipad iphone ipynb java javascript jinja jpeg jpg json jupyter jwt kotlin kubectl kubernetes lambda latex linux
    localhost login lora makefile malloc markdown matplotlib max merge middleware min mkdir mod mongodb mp mypy mysql
    nan nginx node npm null numpy oauth online offline onnx overfitting pandas pdf perl phishing php ping pip plotly
    png postgres postgresql powershell pull push pytest python pytorch rebase redis regex repo requests root router
    rust scikit-learn scipy sed seo shell sklearn smtp sql sqlite ssd ssh ssl stderr stdin stdout str stream string
    struct sudo svg swagger tcp tensorflow terraform token tokenizer tqdm transformer transformers true false none
    tuple txt typescript udp uint ubuntu undefined unix url usb utf uuid uvicorn venv vim void vpn vue web webpack wget
    whatsapp wi-fi wifi wiki www xml yaml yml zip zsh bps cal cm dl ft gb ghz gr hz kb kbps kcal kg khz km kw kwh lb
    lbs mb mbps mcg mg mhz ml mm mmol mol ms nm ns oz pa pc pcs ppm psi pt px rad rpm sec tb vs wt log ln lim sin cos
    tan arctan arcsin arccos exp mod gcd lcm dx dy dt det sqrt frac const iff"""
)
# One word in brackets is customary for these and no crutch.
_TERMS = _TECHNICAL | _listed(
    """accuracy attention bias boosting branch buffer cache checkpoint class cluster container dropout embedding
    encoder decoder feature function gradient graph heap hook index inference input inputs iterator kernel key label
    layer library loop loss method module node object output package padding parameter pipeline pod pointer policy
    precision process prompt property query queue recall reward sampling schema scope server set stack stub tag tensor
    test thread timeout type underfitting value variable view vocabulary weight worker wrapper"""
)
# Openings with which models slide into another language; a capital at the head of a sentence would hide them.
_OPENINGS = _listed(
    """a about absolutely actually additionally after again all also although an and another answer any are as at based
    because before both but by can certainly conclusion consequently correct could despite do does due during each
    either even every example exactly excellent explanation finally first firstly following for from furthermore
    generally given good great had happy has have he hello hence her here hi his hope how however i if important in
    indeed instead introduction is it its just lastly let like look many maybe meanwhile more moreover most my
    nevertheless next no not note nothing now of oh ok okay on once one only or other otherwise our overall perhaps
    please possibly question rather really regarding remember response right second secondly she should similarly since
    so some sorry specifically step still such summary sure thank thanks that the their them then there therefore these
    they third this those though thus title to together ultimately under unfortunately until use usually very was we
    welcome well were what when where whether which while who why will with without would yes yet you your además ahora
    aquí así bien bueno claro como con cuando el ella en entonces es este esta gracias hola la las los más muy no para
    pero por porque que según si sí también un una y alors après aussi avec bien bonjour ce cela ces cette dans des
    donc elle et il ils je les mais merci nous où oui par pour sans selon tout très une voici voilà vous aber als also
    auch auf bei bitte das dass dem den der die dies diese ein eine er es für hallo hier ich ist ja jedoch mit
    natürlich nein nicht oder sie sind und viele von was wenn wie wir zu zum allora anche bene buongiorno che ciao come
    con cosa dopo ecco grazie ma molto nella non per però più prima quando quindi questo sono aqui assim bem claro com
    depois ele então eu isso mas muito não obrigado olá ou porque quando se sim também uma você"""
)
# Small words inside names of several words: «Game of Thrones», «Ludwig van Beethoven».
_JOINERS = _listed(
    """a al an and at b by da das de del dem den der des di do dos du e ed el en et for from il in into is l la las le
    les los mit n no o of on or the to und van vom von with y zu zum zur"""
)

# What is no prose at all. Whatever matches is blanked, so that offsets stay.
_CODE = re.compile(
    r"""
    ```.*?(?:```|\Z) | ~~~.*?(?:~~~|\Z) | `[^`\n]*`                     # fenced and inline code
    | \$\$.*?\$\$ | \\\[.*?\\\] | \\\(.*?\\\)                           # LaTeX
    | \$(?=\S)(?:[^$\nА-яЁё]|\\text\w*\{[^}\n]*\})*(?<=\S)\$(?!\d)
    | \\[A-Za-z]+(?:\{[^{}\nА-яЁё]*\})*
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMANDS = (
    "pip3?|conda|npm|npx|yarn|git|docker|kubectl|sudo|apt(?:-get)?|brew|curl|wget|ssh|mkdir|chmod|chown|python3?|cd|ls|cp|mv|rm|grep"
    "|cmake|cargo|choco|winget|systemctl"
)
_NO_WORDS = re.compile(
    rf"""(?=[A-Za-z0-9_.~/<&#@"\[\]{{-])(?:
    (?:https?|ftp|file)://\S+ | \bwww\.\S+ | (?<![\w.+-])[\w.+-]{{1,64}}@[\w-]+(?:\.[\w-]+)+                # links, e-mails
    | \{{\{{[^{{}}\n]*\}}\}} | \{{[A-Za-z_]\w*\}}                                              # fields of a template
    | \]\([^()\s]*\)                                                                     # target of a link in Markdown
    | (?<![\w.-])[A-Za-z0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}}){{0,5}}?\.(?:com|ru|org|net|io|рф|su|dev|ai|gov|edu|info|me|app)\b(?:/\S*)?
    | </?[A-Za-z!][^<>\n]*/?> | &[A-Za-z]+;                                              # HTML
    | [#@][A-Za-z]\w*                                                                    # hashtags, people
    | (?:~|\.{{1,2}})?(?:/[\w.-]+){{2,}}/? | [A-Za-z]:\\[\w\\.-]*                        # paths
    | (?<!\w)[A-Za-z][A-Za-z0-9]*(?:[._][A-Za-z0-9]+)+ (?:\([^()\n]*\))?                                   # files, attributes, snake_case
    | (?<!\w)[A-Za-z0-9]+_\w+ | \b[A-Za-z]\w*\([^()\nА-яЁё]*\)                                       # calls
    | (?<!\S)--?[A-Za-z][\w-]*(?:=\S+)? | \b[A-Za-z_]\w*=[^\s=]\S*                       # options, assignments
    | (?<!\w)_[A-Za-z]\w*(?<!_)(?!\w) | \b[a-z]{{2,}}\ (?:\.\ )?--?[a-z][\w-]*               # _blank, df -h
    | (?<![\w-])[a-z]+(?:-[a-z]+){{1,4}}:\ ?[\w\#%]+;? | \b[a-z]+:\ ?\d+(?:px|em|rem|%)                # CSS
    | \b[A-Z]\w*(?:Error|Exception|Warning):[^\nА-яЁё]*                                  # messages of Python
    | \bWHERE\ [A-Za-z_.]+\ ?[<>=!][^\s;,]*
    | "[A-Za-z]\w*"\s*:                                                                  # keys of JSON
    | \b(?:Ctrl|Alt|Shift|Cmd|Command|Option|Win|Fn)\b(?:\s?[+-]\s?\w+)*                 # keys of keyboards
    | \b(?:Tab|Enter|Esc|Escape|Delete|Backspace|Insert|Home|End)\b
    | \b(?:SELECT|INSERT\ INTO|UPDATE|DELETE\ FROM|CREATE\ TABLE|ALTER\ TABLE|DROP\ TABLE)\b(?:'[^'\n]*'|"[^"\n]*"|[^;\nА-яЁё'"])*;?
    | (?<![\w-])(?:{_COMMANDS})(?:[ ]+[a-z0-9.][\w./:@=~-]*(?![\w]*[А-яЁё])){{1,4}}     # «выполните git push origin main»
    | [/\[][^/\[\]\n]*[\u0250-\u02b0\u02b2-\u02ff][^/\[\]\n]*[/\]]                       # transcriptions
    | \b(?:de\ facto|de\ jure|in\ vitro|in\ vivo|in\ situ|et\ al|et\ cetera|a\ priori|a\ posteriori|per\ se|ad\ hoc|vice\ versa|status\ quo
        |alma\ mater|curriculum\ vitae|persona\ non\ grata|terra\ incognita|tabula\ rasa|pro\ bono|bona\ fide|ex\ ante|ex\ post|sine\ qua\ non
        |modus\ operandi|nota\ bene|cogito\ ergo\ sum|carpe\ diem|in\ silico|pro\ et\ contra|casus\ belli|deus\ ex\ machina|alter\ ego)\b
    )""",
    re.VERBOSE,
)
# A line without Russian letters outside comments and strings that looks like a command or a statement.
_CODE_LINE = re.compile(
    rf"""^[ \t]*(?:
    (?:[$>#]\ )?(?:{_COMMANDS})\ [^А-яЁё\n]+
    | (?:import|from|def|class|return|const|let|var|function|public|private|static|using|namespace|package|elif|print|printf|echo|fn|func)\b
      [^А-яЁё\n]*[^А-яЁё\n.!?…]
    | (?:if|for|while|else|try|except|switch|case|with)\b[^А-яЁё\n]*[:{{]
    | \#include.* | [\]\[{{}}()<>;,]+
    | [A-Za-z_][A-Za-z0-9_.\[\]"']*\s*(?:[-+*/]?=|:=|->|=>)\s[^\n]*
    | [^А-яЁё\n]*(?:[;{{}}]|\(\)|=>|==|!=)
    )[ \t]*(?:(?:\#|//|--)[^\n]*)?$""",
    re.MULTILINE | re.VERBOSE,
)
_LEAK = re.compile(
    r"""
    <[|｜][^<>|｜\n]{1,40}[|｜]> | </?(?:start_of_turn|end_of_turn|s|bos|eos|pad|unk|system|user|assistant|think|tool_call|tool_response)>
    | \[/?INST\] | <</?SYS>> | \[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]
    | ^\#{2,}\ ?(?:Response|Instruction|Input|Assistant|User|Human|System)\b:?
    | ^(?:Assistant|User|Human|System|assistant|user|human|system|model)(?::|(?=[ \t]*$))
    | (?<=[.!?…»")\]}*:])[ \t]?(?:assistant|user|model)(?=\s*$|[ \t]*\n|[А-ЯЁ])
    | (?<=[.!?…»")\]}*])[ \t](?:assistant|user|system):(?=\s)
    | (?<=[а-яё\d])assistant(?=\s*$|[ \t]*\n|[А-ЯЁ])
    """,
    re.MULTILINE | re.VERBOSE,
)
_LABEL = (
    r"(?:др\.?-?\s?)?(?:англ|амер|лат|нем|фр|франц|итал|ит|исп|порт|греч|кит|яп|кор|араб|перс|ивр|санскр|тур|польск|пол|чеш|укр|белор|болг|каз"
    r"|тат|серб|нидерл|голл|швед|норв|фин|дат|венг|рум|груз|арм|вьетн|хинди|тай|сокр|аббр)\."
)
# Words that are spoken of, not used: «англ. underwriting», «слово run», «по-английски thank you», and quotations.
_CITED = re.compile(
    rf"""(?=\b[а-яА-Я]|[«“„"])(?:
    \b{_LABEL}[ \t]*(?:[:—–-][ \t]*)?[«"“]?[^\s.,;()«»{_RUSSIAN}]+(?:[ \t]+[^\s.,;()«»"{_RUSSIAN}]+)*
    | \b(?:по-английски|по-испански|по-французски|по-немецки|по-итальянски|по-китайски|по-японски|на\ (?:английском|латыни|испанском|французском
        |немецком|итальянском|китайском|японском|корейском|украинском)(?:\ языке)?|[Сс]лов(?:о|а|ом|е|у)|[Гг]лагол[а-я]{{0,2}}|[Пп]редлог[а-я]{{0,2}}
        |[Аа]ртикл[а-я]{{1,2}}|[Фф]раз[а-я]{{1,2}}|[Вв]ыражени[а-я]{{1,2}}|[Ии]ероглиф[а-я]{{0,2}})
      [ \t]*(?:[:—–-][ \t]*)?[^\s\d.,;()«»"{_RUSSIAN}]+(?:[ \t]+[^\s.,;()«»"{_RUSSIAN}]+)*
    | \b(?:[Фф]ункци|[Мм]етод|[Тт]ег|[Аа]трибут|[Пп]араметр|[Оо]пци|[Фф]лаг|[Фф]айл|[Пп]апк|[Вв]етк|[Пп]акет|[Бб]иблиотек|[Мм]одул|[Кк]ласс|[Кк]оманд
        |[Пп]еременн|[Оо]ператор|[Кк]нопк|[Уу]тилит|[Кк]лавиш|[Сс]толб|[Пп]ол[ея]\b|[Тт]аблиц|[Сс]войств|[Кк]люч|[Сс]ло(?=[йяеюи]))[а-я]{{0,4}}[ \t]+[A-Za-z][A-Za-z-]*\b
    | [«“„"](?=\S)[^«»“”„"\n{_RUSSIAN}]{{1,150}}(?<=\S)[»”“"]
    )""",
    re.VERBOSE,
)
# «(от греч. πολυς — много и γωνία — угол)»: a label frees all of its bracket.
_LABELLED = re.compile(rf"\(\s*(?:(?:от|с|из)\s+)?(?:{_LABEL}|по-[а-я]+ски\b|на\s+[а-я]+ском\b)[^()\n]*\)")
_BRACKETS = re.compile(r"\(([^()\n]*)\)")
_FOREIGN_ASKED = re.compile(
    r"(?:на|по|с)[ -](?:английск|испанск|французск|немецк|итальянск|китайск|японск|корейск|арабск|латинск|латын|украинск|турецк|польск|иврит|греческ)"
    r"|(?:английск|испанск|французск|немецк|итальянск|китайск|японск|корейск|арабск|латинск|украинск|иностранн|греческ|турецк|польск)[а-я]+\s+"
    r"(?:язык|слов|глагол|артикл|алфавит|грамматик|фраз|идиом|врем|предлог|предложени|текст|выражени|поговорк|букв)|[Ии]ероглиф",
    re.IGNORECASE,
)
# Before it, a capital is the sentence's, not the word's.
_HEAD = re.compile(r"(?:\A|[.!?…:;|(«“„\[\n])[\s*_#>•–—\"-]*(?:\d+[.)]\s*)?[\s*_«“„\"(\[]*\Z")
# How often, among a million words, before a capital at the head of a sentence is taken for the sentence's.
_COMMON = 5.0


def _blank(match: re.Match) -> str:
    return re.sub(r"[^\n]", " ", match[0])


@cache
def _frequencies(language: str) -> dict[str, float]:
    """Words of a language, in lower case, with how often each occurs in a million words of running text."""
    counts = json.loads(gzip.decompress(pkgutil.get_data("spellchecker", f"resources/{language}.json.gz")))
    total = sum(counts.values())
    return {word: count * 1e6 / total for word, count in counts.items()}


# The lists that are opened to name a language.
_LISTED = ("en", "es", "fr", "de", "it", "pt")


def _latin_languages(words: list[str]) -> list[str | None]:
    """Languages of neighbouring words: by a letter that only one language has, else where the words are most frequent together."""
    languages = [next((code for code, sign in _LATIN_LANGUAGES if sign.search(word)), None) for word in words]
    rest = [word for word, language in zip(words, languages, strict=True) if language is None]
    common = _most_frequent_in(rest) or next(filter(None, languages), None) if rest else None
    return [language or common for language in languages]


def _most_frequent_in(words: list[str]) -> str | None:
    parts = re.split("[-‑'’ ]", " ".join(words).lower())
    english = _frequencies("en")
    if any(len(part) > 3 for part in parts) and all(english.get(part, 0.0) >= _COMMON for part in parts):
        return "en"  # as most intruders are: the other lists need not be opened
    scores = {}
    for language in _LISTED:
        known = _frequencies(language)
        frequencies = [known.get(part, 0.0) for part in parts]
        if any(frequencies):
            scores[language] = sum(math.log(max(frequency, 1e-3)) for frequency in frequencies)
    if "en" in scores:
        scores["en"] += 2
    return max(scores, key=scores.get) if scores else None


class _Unit(NamedTuple):
    start: int
    end: int
    word: str


def confusion(answer: str, prompt: str = "") -> Confusion:
    """
    Which words of other languages intrude into an answer that should be in Russian, and whether it is in Russian at all.

    Args:
        answer (`str`):
            Answer of a model.
        prompt (`str`, *optional*, defaults to `""`):
            What was asked. Its words never intrude, and where it asks for another language no whole words do.

    Returns:
        `Confusion`: the language of the answer, intruding words, the number of words and leaked tokens of chat templates.
    """
    text, leaks, identifiers = answer, [], frozenset()
    glosses = set()
    if _NOT_RUSSIAN.search(answer):
        identifiers = _identifiers(answer)
        text, leaks = _prose(answer, prompt)
        text = _LABELLED.sub(lambda match: re.sub(rf"[^\s{_RUSSIAN}]", " ", match[0]), text)
        text, glosses = _without_glosses(_CITED.sub(_blank, text))
    asked = _words_of(prompt) | identifiers
    foreign_asked = bool(_FOREIGN_ASKED.search(prompt))

    units, runs, intruders = [], [], []
    for token in _TOKEN.finditer(text):
        word = token[0]
        if _ONLY_RUSSIAN.fullmatch(word):
            units.append(_Unit(token.start(), token.end(), word))
            language = _NEIGHBOURS.get(word.lower()) or ("bg" if "ъ" in word and _BULGARIAN.search(word) else None)
            if (
                language
                and word.casefold() not in asked
                and not (word[0].isupper() and not _heads(text, token.start()))
            ):
                intruders.append(Intruder(token.start(), token.end(), word, language, False))
            continue
        if _ONLY_LATIN.fullmatch(word):
            parts = [_Unit(token.start(), token.end(), word)]
        else:
            parts = [
                _Unit(token.start() + part.start(), token.start() + part.end(), part[0])
                for part in _PART.finditer(word)
            ]
        for unit in parts:
            units.append(unit)
            if _ONLY_LATIN.fullmatch(unit.word):
                if runs and re.fullmatch(r"[ \u00a0]{1,2}|[ ]?[&-][ ]?", text[runs[-1][-1].end : unit.start]):
                    runs[-1].append(unit)
                else:
                    runs.append([unit])
            elif unit.word.casefold() not in asked and word.casefold() not in asked:
                found = _of_other_letters(unit, text)
                if found and (found.language == "mixed" or not foreign_asked):
                    intruders.append(found._replace(gloss=unit.start in glosses))
    for run in runs if not foreign_asked else []:
        intruders += _of_latin_letters(run, text, answer, asked, glosses, bool(identifiers))
    intruders.sort()
    return Confusion(_in_russian(text, units, intruders, asked, foreign_asked), intruders, len(units), leaks)


_IDENTIFIER = re.compile(r"\b(?:import|from)\s+([A-Za-z]\w*)|\b([A-Za-z]\w*)\s*[(=.]")


def _identifiers(answer: str) -> frozenset[str]:
    """Names from the answer's own code, by which its prose may call them."""
    names = set()
    for code in _CODE.findall(answer):
        if code.startswith("```"):
            names.update(name for pair in _IDENTIFIER.findall(code) for name in pair)
        else:
            names.update(re.findall(r"[A-Za-z]\w+", code))
    return frozenset(name.casefold() for name in names) - _JOINERS - _OPENINGS - {""}


@lru_cache(maxsize=1024)
def _words_of(prompt: str) -> frozenset[str]:
    """Words of the prompt in all cuts that the answer may be cut into."""
    words = set()
    for text in (prompt, _prose(prompt, prompt)[0]):
        for token in _TOKEN.findall(text):
            words.add(token.casefold())
            words.update(part.casefold() for part in re.split("[-‑]", token))
    return frozenset(words)


def _prose(text: str, prompt: str) -> tuple[str, list[str]]:
    """The text with all that is no prose blanked, and the template tokens found in it."""
    leaks = []

    def leaked(match: re.Match) -> str:
        token = match[0].strip()
        if token in prompt:
            return match[0]
        leaks.append(token)
        return _blank(match)

    text = _LEAK.sub(leaked, _CODE.sub(_blank, text))
    return _NO_WORDS.sub(_blank, _CODE_LINE.sub(_blank, text)), leaks


def _without_glosses(text: str) -> tuple[str, set[int]]:
    """Blank what brackets add to a Russian word: terms, names and titles; a lone everyday English word stays, and where it starts is told."""
    glosses = set()
    for bracket in _BRACKETS.finditer(text):
        inside, before = bracket[1], text[: bracket.start()].rstrip(" *_")
        if not before or _RUSSIAN_LETTER.search(inside) or not _NOT_RUSSIAN.search(inside):
            continue
        if before[-1] in '»”"':
            text = text[: bracket.start()] + " " * len(bracket[0]) + text[bracket.end() :]
            continue
        if not _RUSSIAN_LETTER.fullmatch(before[-1]):
            continue
        for item in re.finditer(r"[^,;/]+", inside):
            start, end = bracket.start(1) + item.start(), bracket.start(1) + item.end()
            tokens = list(_TOKEN.finditer(text, start, end))
            if not all(_ONLY_LATIN.fullmatch(token[0]) for token in tokens):
                glosses.update(token.start() for token in tokens)
            elif len(tokens) == 1 and _is_crutch(tokens[0][0], before):
                glosses.add(tokens[0].start())
            elif len(tokens) <= 6:
                text = text[:start] + " " * (end - start) + text[end:]
    return text, glosses


_SOUNDS = "a b v g d e e zh z i y k l m n o p r s t u f h ts ch sh sch  y  e yu ya"
_TRANSLITERATION = dict(zip("абвгдеёжзийклмнопрстуфхцчшщъыьэюя", _SOUNDS.split(" "), strict=True))


def _is_crutch(word: str, before: str) -> bool:
    """Whether a lone word in brackets is everyday English; a name spelt in its own letters («Лондон (London)») or a technical term is not."""
    lower = word.lower()
    if lower in _TERMS or lower in _BRANDS or word.isupper() or len(word) == 1 or lower not in _frequencies("en"):
        return False
    if word.islower():
        return True
    russian = "".join(_TRANSLITERATION.get(letter, "") for letter in re.split(r"[^а-яё]", before.lower())[-1])
    return SequenceMatcher(None, russian, lower).ratio() < 0.6


def _heads(text: str, start: int) -> bool:
    """Whether a word stands where a capital says nothing: at the head of a text, line, sentence or bracket."""
    return bool(_HEAD.search(text, max(0, start - 40), start)) or not text[:start].strip()


def _of_other_letters(unit: _Unit, text: str) -> Intruder | None:
    """Judge a word that is neither Russian nor Latin throughout."""
    word = unit.word
    plain = word.translate(_STRESS)
    if _ONLY_RUSSIAN.fullmatch(plain) or re.fullmatch("[IVXLCDMІХСМУ]+", word):  # XІХ, typed with a Ukrainian І
        return None
    if _ONLY_CYRILLIC.fullmatch(plain):
        language = next((code for code, letters in _CYRILLIC_LANGUAGES if letters.search(word)), None)
        is_name = word[0].isupper() and not _heads(text, unit.start)
        return None if is_name else Intruder(*unit, language, False)
    letters = [
        unicodedata.normalize("NFKC", letter)[0]
        for letter in word
        if letter.isalpha() and unicodedata.category(letter) != "Lm"
    ]
    others = [letter for letter in letters if not _LATIN_LETTER.match(letter) and not _CYRILLIC_LETTER.match(letter)]
    if others:
        language = next((code for code, script in _SCRIPTS if script.search(word)), None)
        # α, Δt, kΩ
        if language == "el" and len(letters) <= 3 and len(others) == 1:
            return None
        return Intruder(*unit, language, True)
    if any(map(_LATIN_LETTER.match, letters)) and any(map(_CYRILLIC_LETTER.match, letters)):
        # «SMSка» is how an acronym is declined.
        return None if re.fullmatch("[A-Z]{2,}'?[а-яё]{1,6}", word) else Intruder(*unit, "mixed", True)
    return None


def _is_no_word(unit: _Unit, answer: str) -> bool:
    """Whether Latin letters are an acronym, a name with capitals inside, a unit, a technical name or a part of a number."""
    word = unit.word
    return (
        word.lower() in _TECHNICAL
        or bool(re.search(r"[^\W\d_]['’-]?[A-Z]", word))
        or answer[unit.start - 1 : unit.start].isdigit()
        or answer[unit.end : unit.end + 1].isdigit()
        # «.pyd», «2-opt», «bx + c»
        or bool(re.search(r"(?:(?<!\S)|(?<=[(«,]))\.\Z|\d[-‑]\Z", answer[max(0, unit.start - 3) : unit.start]))
        or (len(word) <= 2 and bool(re.match(r"\s?[\^=+*<>²³≤≥]", answer[unit.end : unit.end + 2])))
    )


def _of_latin_letters(
    run: list[_Unit], text: str, answer: str, asked: frozenset[str], glosses: set[int], in_code_talk: bool
) -> list[Intruder]:
    """Judge neighbouring words in Latin letters."""
    words = [unit.word for unit in run]
    capitals = [word[0].isupper() for word in words]
    is_title = (
        len(run) > 1
        and capitals[0]
        and capitals[-1]
        and all(capital or word in _JOINERS for capital, word in zip(capitals, words, strict=True))
    )
    guilty = set()
    for i, unit in enumerate(run):
        word, lower = unit.word, unit.word.lower()
        if len(word) == 1 or word.casefold() in asked or _is_no_word(unit, answer):
            continue
        if unit.start in glosses:
            guilty.add(i)
        elif is_title or (in_code_talk and _is_unknown(lower)):
            continue
        elif not capitals[i]:
            between_names = 0 < i < len(run) - 1 and capitals[i - 1] and capitals[i + 1] and word in _JOINERS
            if not between_names and not _is_epithet(i, run, text):
                guilty.add(i)
        elif lower not in _BRANDS and _is_ordinary(i, words, capitals, _heads(text, unit.start)):
            guilty.add(i)
    # «I», «a», «y» are words beside other words, and signs alone.
    for i, word in enumerate(words):
        if len(word) == 1 and word in "aIyeoàéó" and ({i - 1, i + 1} & guilty) and word.casefold() not in asked:
            guilty.add(i)
    languages = _latin_languages([words[i] for i in sorted(guilty)])
    return [
        Intruder(*run[i], language, False, run[i].start in glosses)
        for i, language in zip(sorted(guilty), languages, strict=True)
    ]


def _is_unknown(word: str) -> bool:
    return word.isascii() and not any(word in _frequencies(language) for language in _LISTED)


def _is_epithet(i: int, run: list[_Unit], text: str) -> bool:
    """Whether a word names a species: «Escherichia coli», «E. coli», «Canis lupus familiaris»."""
    if _frequencies("en").get(run[i].word, 0.0) >= _COMMON or run[i].word in _OPENINGS:
        return False
    if i == 0:
        return bool(re.search(r"(?<![^\W\d_])[A-Z]\.\s?\Z", text[max(0, run[i].start - 4) : run[i].start]))
    genus = run[0].word
    return (
        i <= 2
        and genus[0].isupper()
        and genus.lower() not in _OPENINGS
        and not any(u.word in _JOINERS for u in run[: i + 1])
    )


def _is_ordinary(i: int, words: list[str], capitals: list[bool], heads: bool) -> bool:
    """Whether a capitalised word is no name: an opening or, before small letters at the head of a sentence, any common word."""
    lower = words[i].lower()
    before_small = i + 1 < len(words) and not capitals[i + 1]
    if not heads:
        return lower in _OPENINGS and before_small
    if lower in _OPENINGS:
        return len(words) == i + 1 or before_small
    frequency = _frequencies("en").get(lower, 0.0)
    return frequency >= _COMMON and (before_small or bool(re.search("(?:ly|tion|ness|ment|ing)$", lower)))


def _in_russian(
    text: str, units: list[_Unit], intruders: list[Intruder], asked: frozenset[str], foreign_asked: bool
) -> bool | None:
    russian = len(_RUSSIAN_LETTER.findall(text))
    foreign = sum(unit.end - unit.start for unit in intruders)
    if not russian and not foreign:
        # No Russian word shows the names among them for names.
        foreign = sum(
            len(unit.word)
            for unit in units
            if unit.word.casefold() not in asked
            and not unit.word.isupper()
            and unit.word.lower() not in _BRANDS | _TECHNICAL
        )
    if not russian and not foreign:
        return None
    neighbours = sum(bool(_CYRILLIC_LETTER.match(unit.word)) and not unit.hard for unit in intruders)
    is_russian = russian > foreign and (neighbours < _NEIGHBOURS_LEAST or neighbours < _NEIGHBOURS_SHARE * len(units))
    return is_russian or (None if foreign_asked else False)
