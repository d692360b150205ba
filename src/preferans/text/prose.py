"""Prose of an answer, with spaces in place of code, links, template tokens and quotations."""

import json
import re

RUSSIAN_LETTERS = "а-яёА-ЯЁ"

# Matches are replaced by spaces, so that the offsets of all other words stay the same.
_CODE = re.compile(
    r"""
    ```.*?(?:```|\Z) | ~~~.*?(?:~~~|\Z) | `[^`\n]*`  # fenced and inline code
    | \$\$.*?\$\$ | \\\[.*?\\\] | \\\(.*?\\\)  # LaTeX
    | \$(?=\S)(?:[^$\nА-яЁё]|\\text\w*\{[^}\n]*\})*(?<=\S)\$(?!\d)
    | \\[A-Za-z]+(?:\{[^{}\nА-яЁё]*\})*
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMANDS = (
    "pip3?|conda|npm|npx|yarn|git|docker|kubectl|sudo|apt(?:-get)?|brew|curl|wget|ssh|mkdir|chmod|chown|python3?|cd|ls|cp|mv|rm|grep"
    "|cmake|cargo|choco|winget|systemctl"
)
_NOT_PROSE = re.compile(
    rf"""(?=[A-Za-zА-яЁё0-9_.~/<&#@"'\[\]{{-])(?:
    (?:https?|ftp|file)://\S+ | \bwww\.\S+ | (?<![\w.+-])[\w.+-]{{1,64}}@[\w-]+(?:\.[\w-]+)+  # links, e-mails
    | \{{\{{[^{{}}\n]*\}}\}} | \{{[A-Za-z_]\w*\}}  # template fields
    | \]\([^()\s]*\)  # Markdown link targets
    | (?<![\w.-])[A-Za-zА-яЁё0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}}){{0,5}}?\.(?:com|ru|org|net|io|рф|su|dev|ai|gov|edu|info|me|app)\b(?:/\S*)?
    | </?[A-Za-z!][^<>\n]*/?> | &[A-Za-z]+;  # HTML
    | [#@][A-Za-z]\w*  # hashtags, mentions
    | (?:~|\.{{1,2}})?(?:/[\w.-]+){{2,}}/? | [A-Za-z]:\\[\w\\.-]*  # paths
    | (?<!\w)[A-Za-z][A-Za-z0-9]*(?:[._][A-Za-z0-9]+)+ (?:\([^()\n]*\))?  # files, attributes, snake_case
    | (?<!\w)[A-Za-z0-9]+_\w+ | \b[A-Za-z]\w*\([^()\nА-яЁё]*\)  # calls
    | (?<!\S)--?[A-Za-z][\w-]*(?:=\S+)? | \b[A-Za-z_]\w*=[^\s=]\S*  # options, assignments
    | (?<!\w)_[A-Za-z]\w*(?<!_)(?!\w) | \b[a-z]{{2,}}\ (?:\.\ )?--?[a-z][\w-]*  # _blank, df -h
    | (?<![\w-])[a-z]+(?:-[a-z]+){{1,4}}:\ ?[\w\#%]+;? | \b[a-z]+:\ ?\d+(?:px|em|rem|%)  # CSS
    | \b[A-Z]\w*(?:Error|Exception|Warning):[^\nА-яЁё]*  # Python's messages
    | \bWHERE\ [A-Za-z_.]+\ ?[<>=!][^\s;,]*
    | "[A-Za-z]\w*"\s*:  # JSON keys
    | (?<![\w'])'[^'\n{RUSSIAN_LETTERS}]{{1,60}}'(?!\w)  # strings of code
    | \b(?:Ctrl|Alt|Shift|Cmd|Command|Option|Win|Fn)\b(?:\s?[+-]\s?\w+)*  # keyboard keys
    | \b(?:Tab|Enter|Esc|Escape|Delete|Backspace|Insert|Home|End)\b
    | \b(?:SELECT|INSERT\ INTO|UPDATE|DELETE\ FROM|CREATE\ TABLE|ALTER\ TABLE|DROP\ TABLE)\b(?:'[^'\n]*'|"[^"\n]*"|[^;\nА-яЁё'"])*;?
    | (?<![\w-])(?:{_COMMANDS})(?:[ ]+[a-z0-9.][\w./:@=~-]*(?![\w]*[А-яЁё])){{1,4}}  # «выполните git push origin main»
    | [/\[][^/\[\]\n]*[\u0250-\u02b0\u02b2-\u02ff][^/\[\]\n]*[/\]]  # transcriptions
    | \b(?:de\ facto|de\ jure|in\ vitro|in\ vivo|in\ situ|et\ al|et\ cetera|a\ priori|a\ posteriori|per\ se|ad\ hoc|vice\ versa|status\ quo
        |alma\ mater|curriculum\ vitae|persona\ non\ grata|terra\ incognita|tabula\ rasa|pro\ bono|bona\ fide|ex\ ante|ex\ post|sine\ qua\ non
        |ad\ absurdum|ad\ infinitum|ad\ nauseam|ad\ hominem|alea\ iacta\ est|ceteris\ paribus|contra\ factum|cum\ grano\ salis|divide\ et\ impera
        |docendo\ discimus|dum\ spiro,?\ spero|errare\ humanum\ est|et\ tu,?\ Brute|ex\ libris|ex\ nihilo|festina\ lente|homo\ homini\ lupus(?:\ est)?
        |in\ medias\ res|in\ memoriam|in\ vino\ veritas|lapsus\ linguae|magnum\ opus|memento\ mori|mens\ sana\ in\ corpore\ sano|mea\ culpa
        |non\ grata|panem\ et\ circenses|per\ aspera\ ad\ astra|post\ factum|post\ scriptum|pro\ forma|quid\ pro\ quo|rigor\ mortis|si\ vis\ pacem,?\ para\ bellum
        |sic\ transit\ gloria\ mundi|sub\ rosa|sui\ generis|tempora\ mutantur|ultima\ ratio|urbi\ et\ orbi|vae\ victis|veni,?\ vidi,?\ vici|vox\ populi
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
_LINE = re.compile("^.*$", re.MULTILINE)
_RUSSIAN = re.compile(f"[{RUSSIAN_LETTERS}]")
_FENCED_JSON = re.compile(r"```(?:json)?\s*([\[{].*[\]}])\s*```", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_STRING_OR_COMMENT = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(?<!\S)(?:\#|//|--\s).*$""")
_CODE_SIGN = re.compile(
    r"[;{}]\s*$|\w\([^()\s]*\)|=>|->|::|[=!<>]=|^\s*[\w.\[\]\"]+\s*[-+*/]?=\s|^\s*</?\w|^\s*(?:def|class)\s.*:\s*$"
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
# Words that are mentioned and not used: «англ. underwriting», «слово run», «по-английски thank you», and quotations.
_CITED = re.compile(
    rf"""(?=\b[а-яА-Я]|[«“„"])(?:
    \b{_LABEL}[ \t]*(?:[:—–-][ \t]*)?[«"“]?[^\s.,;()«»{RUSSIAN_LETTERS}]+(?:[ \t]+[^\s.,;()«»"{RUSSIAN_LETTERS}]+)*
    | \b(?:по-английски|по-испански|по-французски|по-немецки|по-итальянски|по-китайски|по-японски|на\ (?:английском|латыни|испанском|французском
        |немецком|итальянском|китайском|японском|корейском|украинском)(?:\ языке)?|[Сс]лов(?:о|а|ом|е|у)|[Гг]лагол[а-я]{{0,2}}|[Пп]редлог[а-я]{{0,2}}
        |[Аа]ртикл[а-я]{{1,2}}|[Фф]раз[а-я]{{1,2}}|[Вв]ыражени[а-я]{{1,2}}|[Ии]ероглиф[а-я]{{0,2}})
      [ \t]*(?:[:—–-][ \t]*)?[^\s\d.,;()«»"{RUSSIAN_LETTERS}]+(?:[ \t]+[^\s.,;()«»"{RUSSIAN_LETTERS}]+)*
    | \b(?:[Фф]ункци|[Мм]етод|[Тт]ег|[Аа]трибут|[Пп]араметр|[Оо]пци|[Фф]лаг|[Фф]айл|[Пп]апк|[Вв]етк|[Пп]акет|[Бб]иблиотек|[Мм]одул|[Кк]ласс|[Кк]оманд
        |[Пп]еременн|[Оо]ператор|[Кк]нопк|[Уу]тилит|[Кк]лавиш|[Сс]толб|[Пп]ол[ея]\b|[Тт]аблиц|[Сс]войств|[Кк]люч|[Сс]ло(?=[йяеюи]))[а-я]{{0,4}}[ \t]+[A-Za-z][A-Za-z-]*\b
    | [«“„"](?=\S)[^«»“”„"\n{RUSSIAN_LETTERS}]{{1,150}}(?<=\S)[»”“"]
    )""",
    re.VERBOSE,
)
# «(от греч. πολυς — много и γωνία — угол)»: a label excuses everything in its brackets.
_LABELLED = re.compile(rf"\(\s*(?:(?:от|с|из)\s+)?(?:{_LABEL}|по-[а-я]+ски\b|на\s+[а-я]+ском\b)[^()\n]*\)")
_NAME_IN_CODE = re.compile(r"\b(?:import|from)\s+([A-Za-z]\w*)|\b([A-Za-z]\w*)\s*[(=.]")


def blank(match: re.Match) -> str:
    """Replace a match by spaces, with its line breaks kept."""
    return re.sub(r"[^\n]", " ", match[0])


def blank_code(text: str, prompt: str) -> tuple[str, list[str]]:
    """
    Blank everything in a text that is not prose: code, commands, links, markup, leaked template tokens.

    Returns:
        `tuple[str, list[str]]`: a text of the same length, and the leaked tokens of chat templates, in order. A token of the prompt is not
        a leak.
    """
    leaks: list[str] = []

    def blank_leak(match: re.Match) -> str:
        token = match[0].strip()
        if token in prompt:
            return match[0]
        leaks.append(token)
        return blank(match)

    text = _LEAK.sub(blank_leak, _CODE.sub(_blank_but_strings, text))
    text = _LINE.sub(lambda line: blank(line) if _is_code_line(line[0]) else line[0], _CODE_LINE.sub(blank, text))
    return _NOT_PROSE.sub(blank, text), leaks


def _blank_but_strings(code: re.Match) -> str:
    """Blank code, except Russian strings of a JSON document: they are its prose."""
    inside = _FENCED_JSON.fullmatch(code[0])
    if not inside or not _RUSSIAN.search(inside[1]):
        return blank(code)
    try:
        json.loads(inside[1])
    except (ValueError, RecursionError):
        return blank(code)
    blanked = list(blank(code))
    for string in _STRING.finditer(code[0], *inside.span(1)):
        if _RUSSIAN.search(string[0]):
            blanked[string.start() + 1 : string.end() - 1] = string[0][1:-1]
    return "".join(blanked)


def _is_code_line(line: str) -> bool:
    """Check whether a line outside a fenced block is code: without its strings and comments it has a sign of code and no Russian letter."""
    bare = _STRING_OR_COMMENT.sub('""', line)
    return bool(_CODE_SIGN.search(bare)) and not _RUSSIAN.search(bare) and bool(re.search("[A-Za-z]", bare))


def blank_citations(text: str) -> str:
    """Blank foreign words that a Russian text quotes or mentions as words."""
    text = _LABELLED.sub(lambda match: re.sub(rf"[^\s{RUSSIAN_LETTERS}]", " ", match[0]), text)
    return _CITED.sub(blank, text)


def names_in_code(text: str) -> set[str]:
    """Collect the names in a text's own code, case folded: its prose may use them as words."""
    names: set[str] = set()
    for code in _CODE.findall(text):
        if code.startswith("```"):
            names.update(name for pair in _NAME_IN_CODE.findall(code) for name in pair)
        else:
            names.update(re.findall(r"[A-Za-z]\w+", code))
    return {name.casefold() for name in names if name}
