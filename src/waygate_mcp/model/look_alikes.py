"""Names that could be taken for others: letters that look the same, alphabets that are mixed.

Knows how letters are drawn. Refuses to know whose a name is.
Spec: threat model rule 25.
"""

from __future__ import annotations

import unicodedata

__all__ = ["look_alike", "plain_form"]

# Letters of Cyrillic, Greek and Armenian, and rare Latin ones, that are drawn as one of `A-Za-z` is.
_LOOKS_LIKE = {
    "a": "\u0430\u03b1\u0251",
    "b": "\u042c\u044c\u0185",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u04bd",
    "g": "\u0581\u0261",
    "h": "\u04bb\u0570",
    "i": "\u0456\u0131\u03b9",
    "j": "\u0458\u03f3\u0237\u0575",
    "k": "\u043a\u03ba",
    "l": "\u04cf",
    "m": "\u043c",
    "n": "\u0578\u057c",
    "o": "\u043e\u03bf\u0585",
    "p": "\u0440\u03c1",
    "q": "\u051b\u0563\u0566",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u03c5\u057d",
    "v": "\u0475\u03bd",
    "w": "\u051d\u0461",
    "x": "\u0445\u03c7",
    "y": "\u0443\u04af\u03b3",
    "A": "\u0410\u0391",
    "B": "\u0412\u0392",
    "C": "\u0421\u03f9",
    "E": "\u0415\u0395",
    "G": "\u050c",
    "H": "\u041d\u0397",
    "I": "\u0406\u0399\u04c0",
    "J": "\u0408\u037f",
    "K": "\u041a\u039a",
    "L": "\u053c",
    "M": "\u041c\u039c",
    "N": "\u039d",
    "O": "\u041e\u039f\u0555",
    "P": "\u0420\u03a1",
    "Q": "\u051a",
    "S": "\u0405\u054f",
    "T": "\u0422\u03a4",
    "U": "\u054d",
    "W": "\u051c",
    "X": "\u0425\u03a7",
    "Y": "\u04ae\u03a5",
    "Z": "\u0396",
}
_DRAWN_ALIKE = {ord(each): letter for letter, all_of in _LOOKS_LIKE.items() for each in all_of}
_ALPHABETS_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE"})

_DIGITS_ALIKE = str.maketrans({"0": "o", "1": "l", "-": "_", ".": "_", " ": "_"})


def look_alike(name: str) -> str | None:
    """Say how a name could be taken for another that is written differently, None where it could not.

    1. It has another form that looks the same (wide letters, ligatures, loose accents).
    2. All its letters are drawn as letters of `A-Za-z`, and some are not.
    3. It mixes alphabets that share forms; one alphabet alone is somebody's language.
    """
    if name.isascii():
        return None
    if unicodedata.normalize("NFKC", name) != name:
        return "letters that have a plainer form"
    if name.translate(_DRAWN_ALIKE).isascii():
        return "letters that look like those of A-Z"
    alphabets = {unicodedata.name(each, "").partition(" ")[0] for each in name if each.isalpha()}
    mixed = sorted(alphabets & _ALPHABETS_ALIKE)
    return f"a mixture of alphabets ({', '.join(mixed)})" if len(mixed) > 1 else None


def plain_form(name: str) -> str:
    """Give what is left of a name when letters, digits and dashes that look alike are one.

    Names with the same plain form could be taken for each other.
    """
    drawn = unicodedata.normalize("NFKC", name).translate(_DRAWN_ALIKE).replace("I", "l")
    return drawn.casefold().translate(_DIGITS_ALIKE).replace("rn", "m").replace("vv", "w")
