"""Check whether UTF-8 can store a text, make texts that it can, and make control characters visible."""

import re
import unicodedata

# Characters that a page hides or a terminal obeys, or that reorder the text around them.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HALF_CHARACTER = "contains half a character (a lone surrogate), which UTF-8 cannot store"


def is_unicode(text: str) -> bool:
    """Check whether UTF-8 can store a text. An escape in JSON may be half of a character, a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def writable(text: str) -> str:
    """Return a text that UTF-8 can store: a lone surrogate becomes U+FFFD, and a pair of surrogates becomes its character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def normal_form(text: str) -> str:
    """Compose letters and their accents (Unicode NFC) before texts are compared: «й» may be one character or two."""
    return unicodedata.normalize("NFC", text)


def visible(text: str) -> str:
    """Return a text with its control characters as visible codes, such as `[U+001B]`."""
    return _HIDDEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", writable(text).replace("\r\n", "\n"))
