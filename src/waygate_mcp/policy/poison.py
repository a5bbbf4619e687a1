"""Signs in a definition that it means to deceive: a model, or the person who reads it.

Knows what deceiving definitions have in common. Refuses to decide: signs are shown beside a change, and
only grave ones hold back what would be trusted on first use. Each names the field and says in a sentence
what is there. Work is bounded: so much text, so many signs, and patterns that never go back far.
Spec: threat model rules 23, 24 and 25.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from waygate_mcp.model.look_alikes import look_alike, plain_form
from waygate_mcp.policy.definitions import UnsafeDefinitionError, parse_definition

__all__ = ["Sign", "find_signs", "forms_of", "signs_in_text", "visible"]

MAX_CHARS = 256 * 1024
MAX_SIGNS = 50
LONG_TEXT_CHARS = 8_000
_PIECE_CHARS = 16_384
_OVERLAP_CHARS = 512
_SHOWN_CHARS = 60


class Sign(msgspec.Struct, frozen=True):
    """A sign: the path of the field, what kind it is, a sentence, and whether it is grave.

    Grave is what no honest definition has a reason for.
    """

    path: str
    kind: str
    text: str
    is_grave: bool = False


class _Pattern(msgspec.Struct, frozen=True):
    kind: str
    text: str
    is_grave: bool
    regex: re.Pattern[str]


_PERSON = r"(?:the |your |this )?(?:end[- ])?(?:user|human|person|operator|customer)s?"
_NOT = r"(?:do not|don'?t|dont|never|must not|mustn'?t|should not|shouldn'?t|cannot|avoid|without|refrain from)"
_TELL = (
    r"(?:tell|telling|inform|informing|mention|mentioning|notify|notifying|alert|alerting"
    r"|disclose|disclosing|warn|warning)"
)
_SHOW = r"(?:show|showing|explain|explaining|report|reporting|reveal|revealing|let)"
_SECRET_FILE = (
    r"(?:~?/?\.ssh\b|\bid_(?:rsa|dsa|ecdsa|ed25519)\b|/etc/(?:passwd|shadow)\b|\.aws/credentials|\.netrc\b"
    r"|\.kube/config|\.docker/config\.json|\.git-credentials|\.npmrc\b|\.pypirc\b"
    r"|\bmcp\.json\b|claude_desktop_config)"
)
_SECRET = (
    r"(?:passwords?|private keys?|api[ _-]?keys?|access tokens?|credentials?|secrets?|environment variables"
    r"|system prompt|conversation history|chat history|previous messages)"
)
_TAKE = r"(?:read|include|attach|send|pass|copy|append|insert|put|collect|forward|exfiltrate|provide|upload)"


def _pattern(kind: str, text: str, regex: str, *, grave: bool = False) -> _Pattern:
    return _Pattern(kind, text, grave, re.compile(regex))


_PATTERNS = (
    _pattern(
        "hides",
        "tells the model to hide something from the user",
        rf"\b{_NOT}(?: ever)? {_TELL}\b(?: [\w'-]+){{0,5}}? {_PERSON}\b"
        rf"|\b{_NOT} (?:ever )?{_TELL} (?:them|anyone|anybody)\b",
        grave=True,
    ),
    _pattern(
        "hides",
        "tells the model what to keep from the user",
        rf"\b{_NOT}(?: ever)? {_SHOW}\b(?: [\w'-]+){{0,5}}? {_PERSON}\b",
    ),
    _pattern(
        "hides",
        "tells the model to hide something from the user",
        rf"\b(?:hide|conceal|keep)\b(?: [\w'-]+){{0,6}}? (?:from|secret from|hidden from) {_PERSON}\b"
        rf"|\b{_PERSON} (?:must|should|need|may) (?:not|never) (?:know|see|be told|be informed|notice|be aware)\b",
        grave=True,
    ),
    _pattern(
        "overrides",
        "tells the model to ignore other instructions",
        r"\b(?:ignore|disregard|forget|override)\b(?: [\w'-]+){0,3}?"
        r" (?:previous|prior|earlier|above|other|existing|system)"
        r" (?:[\w'-]+ )?(?:instructions?|prompts?|rules|directives|messages)\b",
        grave=True,
    ),
    _pattern(
        "overrides",
        "holds a mark that makes it look like a message of the system",
        r"</?system>|\[/?(?:system|inst)\]|<\|(?:im_start|im_end|system|user|assistant)\|>",
        grave=True,
    ),
    _pattern(
        "overrides",
        "holds a mark that makes it look like more than a description",
        r"</?(?:important|instructions?|secret|hidden|admin)>",
    ),
    _pattern(
        "orders",
        "wants to be used before, after or instead of other tools",
        r"\b(?:before|after|instead of|prior to|whenever) (?:you )?(?:us(?:e|ing)|call(?:ing)?|invok(?:e|ing)"
        r"|run(?:ning)?) (?:any|all|every|each|an)? ?(?:other|another|tools?\b)"
        r"|\b(?:always|must) (?:first )?(?:call|use|invoke|run) this tool\b"
        r"|\b(?:all|any|every) other tools?(?: [\w'-]+){0,3}? (?:deprecated|broken|unsafe|disabled|forbidden)\b",
    ),
    _pattern("secrets", "names a file that holds secrets", _SECRET_FILE),
    _pattern(
        "secrets",
        "asks for secrets or for the conversation",
        rf"\b{_TAKE}\b(?: [\w'-]+){{0,4}}? (?:the |your |all |any |of ){{1,3}}(?:[\w'-]+ ){{0,3}}?{_SECRET}\b",
    ),
    _pattern(
        "address",
        "holds a picture whose address carries data away",
        r"!\[[^\]\n]{0,200}\]\(https?://[^)\s]{0,500}[?&=]",
        grave=True,
    ),
    _pattern(
        "address",
        "holds an address that carries data away",
        r"\bhttps?://[^\s\"'<>]{0,200}[?&](?:data|d|payload|exfil|leak|dump)=(?:\{|\$|<|\[|%7b)",
    ),
    _pattern(
        "address",
        "holds an address of a service that collects what it is sent, or none but digits",
        r"\bhttps?://(?:[\w-]+\.){0,6}(?:webhook\.site|requestbin\.\w+|pipedream\.net|ngrok(?:-free)?\.(?:io|app|dev)"
        r"|burpcollaborator\.net|oastify\.com|oast\.\w+|interact\.sh|requestcatcher\.com|beeceptor\.com)\b"
        r"|\bhttps?://(?!127\.|10\.|192\.168\.|0\.0\.0\.0|169\.254\.)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
    ),
)
_BLOB = re.compile(r"[A-Za-z0-9+/_-]{120,}={0,2}")
_SPACE = re.compile(r"\s+")
_PICTURE = re.compile(r"\A(?:data:image/|https?://)")
_NAMES = frozenset({"name"})
_NO_OTHERS: Mapping[str, str] = {}

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = frozenset("\u200c\u200d")
_MARKS_OF_DIRECTION = frozenset("\u200e\u200f\u061c")
_PLAIN_CONTROLS = frozenset("\t\n\r")
_FLAG = "\U0001f3f4"
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ue000-\uf8ff"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff\ud800-\udfff]"
)


def forms_of(names: Iterable[str]) -> dict[str, str]:
    """Give names by what they could be taken for, as `find_signs` wants them."""
    return {plain_form(name[:1_000]): name for name in names}


def find_signs(definition: bytes | str, others: Mapping[str, str] = _NO_OTHERS) -> tuple[Sign, ...]:
    """Give the signs in a definition; `others` are names its own could be taken for (`forms_of`).

    At most 50 signs, of the first 256 KiB of its text.
    """
    try:
        value = parse_definition(definition)
    except UnsafeDefinitionError as exc:
        return (Sign("", "unreadable", f"the definition cannot be read: {exc}", True),)
    found: dict[tuple[str, str, str], Sign] = {}
    left = MAX_CHARS
    for path, text, is_name in _texts(value):
        if left <= 0:
            sign = Sign("", "long", f"it has more than {MAX_CHARS} characters of text")
            found[sign.path, sign.kind, sign.text] = sign
            break
        read, left = text[:left], left - len(text)
        for sign in signs_in_text(path, read, is_name=is_name):
            found.setdefault((sign.path, sign.kind, sign.text), sign)
        if len(found) >= MAX_SIGNS:
            break
    name = value.get("name")
    if isinstance(name, str):
        other = others.get(plain_form(name[:1_000]), name)
        if other != name:
            sign = Sign("name", "look-alike", f"could be taken for {other[:_SHOWN_CHARS]!r}")
            found.setdefault((sign.path, sign.kind, sign.text), sign)
    return tuple(sorted(found.values(), key=lambda sign: not sign.is_grave))[:MAX_SIGNS]


def signs_in_text(path: str, text: str, *, is_name: bool = False) -> Iterator[Sign]:
    """Give the signs in one text; `is_name` says that it is a name and no prose."""
    hidden = _hidden(text)
    if hidden is not None:
        yield Sign(path, "hidden", f"holds {hidden[0]}", hidden[1])
    if is_name:
        alike = look_alike(text[:1_000])
        if alike is not None:
            yield Sign(path, "look-alike", f"is a name with {alike}", True)
    if len(text) > LONG_TEXT_CHARS:
        yield Sign(path, "long", f"has {len(text)} characters, more than anybody reads")
    if not _PICTURE.match(text):
        blob = _blob(text)
        if blob:
            yield Sign(
                path,
                "blob",
                f"holds {len(blob)} characters that look encoded: {blob[:_SHOWN_CHARS]}…",
            )
    for plain in _plain_pieces(text):
        for pattern in _PATTERNS:
            match = pattern.regex.search(plain)
            if match is not None:
                shown = match.group()[:_SHOWN_CHARS].strip()
                yield Sign(path, pattern.kind, f"{pattern.text}: “{shown}”", pattern.is_grave)


def _texts(value: Any) -> Iterator[tuple[str, str, bool]]:
    """Give every text of a definition with its path, names of members included; and whether it is a name."""
    stack: list[tuple[str, Any, bool]] = [("", value, False)]
    while stack:
        path, each, is_name = stack.pop()
        if isinstance(each, dict):
            for key, child in reversed(each.items()):
                here = f"{path}.{key}" if path else key
                stack.append((here, child, key in _NAMES))
                if not key.isascii() or len(key) > 64:
                    stack.append((f"the name of {here}", key, True))
        elif isinstance(each, list):
            stack.extend((f"{path}[{n}]", each[n], False) for n in reversed(range(len(each))))
        elif isinstance(each, str) and each:
            yield path, each, is_name


def _hidden(text: str) -> tuple[str, bool] | None:
    """Say which character of a text cannot be seen and why that matters, None where all is well."""
    mild: tuple[str, bool] | None = None
    for match in _SUSPECT.finditer(text):
        place, character = match.start(), match.group()
        if _has_reason(text, place, character):
            continue
        code = f"U+{ord(character):04X}"
        if "\U000e0000" <= character <= "\U000e007f":
            return (f"the tag character {code}: text that models read and people do not see", True)
        if character in _BIDI:
            return (f"the character {code}, which turns the direction of text round", True)
        if character in "\u00ad" or character in _MARKS_OF_DIRECTION:
            mild = mild or (f"the character {code}, which cannot be seen", False)
            continue
        if character == "\x1b" or character < " " or "\x7f" <= character <= "\x9f":
            return (f"the control character {code}", True)
        return (f"the character {code}, which cannot be seen", True)
    return mild


def _has_reason(text: str, place: int, character: str) -> bool:
    """Tell whether a character nobody sees does its proper work: in emoji, flags and scripts that need it."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if character in "\ufe0e\ufe0f":
        return bool(before) and (
            unicodedata.category(before) in ("So", "Sm", "Sk", "Po") or before in "0123456789#*©®"
        )
    if character in _JOINERS:
        in_emoji = _is_pictorial(before) and _is_pictorial(after)
        return in_emoji or (_joins(before) and _joins(after))
    if "\U000e0020" <= character <= "\U000e007f":  # the flags of England, Scotland and Wales
        start = text.rfind(_FLAG, max(place - 7, 0), place)
        return start >= 0 and all(
            "\U000e0020" <= one <= "\U000e007f" for one in text[start + 1 : place]
        )
    if character == "\ufeff":
        return place == 0
    return False


def _is_pictorial(character: str) -> bool:
    return bool(character) and (
        unicodedata.category(character) in ("So", "Sk") or character in "\ufe0f\u2640\u2642"
    )


def _joins(character: str) -> bool:
    """Tell whether letters of this script are written joined: Arabic, and those of South Asia."""
    return bool(character) and (
        "\u0600" <= character <= "\u08ff"
        or "\u0900" <= character <= "\u0dff"
        or "\ufb50" <= character <= "\ufefc"
    )


def _blob(text: str) -> str:
    """Give the first long run that looks encoded: letters of both cases and digits, and no words."""
    for match in _BLOB.finditer(text[:MAX_CHARS]):
        run = match.group()
        kinds = (any(map(str.isupper, run)), any(map(str.islower, run)), any(map(str.isdigit, run)))
        if all(kinds):
            return run
    return ""


def _plain_pieces(text: str) -> Iterator[str]:
    """Give a text as patterns want it, in pieces that overlap: small letters, single spaces, no disguise."""
    seen = "".join(each for each in text if not _SUSPECT.match(each) or each in _PLAIN_CONTROLS)
    if not seen.isascii():
        seen = unicodedata.normalize("NFKC", seen).replace("\u2019", "'")
    plain = _SPACE.sub(" ", seen.replace("*", "")).casefold()
    for start in range(0, max(len(plain), 1), _PIECE_CHARS):
        yield plain[max(start - _OVERLAP_CHARS, 0) : start + _PIECE_CHARS]


def visible(text: str) -> str:
    """Give a text in which every character can be seen; others are shown by their number."""
    return "".join(
        each if each.isprintable() and not _SUSPECT.match(each) else _escaped(each) for each in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
