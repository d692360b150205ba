"""Check whether UTF-8 can store a text, and make texts that it can."""

import unicodedata

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
