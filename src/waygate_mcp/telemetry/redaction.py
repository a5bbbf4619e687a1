"""What may stand in a log line: no secrets, no tricks, no endless text.

Knows three ways to spot a secret, the first being the rule and the others the net below it: by type
(the secret wrappers), by the name of the field, and by look (our keys, bearer tokens, private keys,
tokens of well-known services, and every text that was remembered as secret). Refuses to look into
objects it does not know: of those only the type is shown.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from pydantic import SecretBytes, SecretStr

from waygate_mcp.config.secrets import SecretText

MASK = "***"
MAX_FIELD_CHARS = 2048
"""Text of one field; what is longer is clipped and says by how much."""
MAX_ITEMS = 64
MAX_DEPTH = 6
MAX_REMEMBERED = 1000
MIN_REMEMBERED_CHARS = 8
"""A shorter text is not looked for: it would blot out ordinary words."""

_SCAN_CHARS = 64 * 1024
_MAX_PLAIN = 2048
_MAX_PLAIN_CHARS = 256

_SENSITIVE_KEY = re.compile(
    r"(?:^|_)(?:authorization|cookies?|passwords?|passwd|passphrases?|secrets?|tokens?|api_?keys?|"
    r"private_keys?|secret_keys?|credentials?|request_?state|input_?responses|arguments)$"
)
_ALSO_SENSITIVE = re.compile(r"(?:^|_)(?:key|pat|pwd|pass|auth|dsn)$")
_HARMLESS = re.compile(r"(?:[0-9]{0,6}|true|false|yes|no|on|off|none|null|default)", re.IGNORECASE)
_INVISIBLE = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_CONTROL = re.compile(r"[\x00-\x1f]")
_TAIL = re.compile(r"[^\s\"',;]{0,4096}\Z")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"wg_[A-Za-z0-9_-]{8,}"), f"wg_{MASK}"),
    (re.compile(r"(?i)\b(bearer)(?:\s|%20|\+){1,8}[^\s\"',;]+"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b(basic)\s{1,8}[A-Za-z0-9+/]{12,}={0,2}"), rf"\1 {MASK}"),
    (re.compile(r"(://[^\s/@:]{0,256}):[^\s/@]{1,1024}@"), rf"\1:{MASK}@"),
    (
        re.compile(
            r"(?i)([?&;][\w.-]{0,40}(?:token|key|secret|password|passwd|signature|sig|code|auth)"
            r"[\w.-]{0,40}=)[^&;\s#\"']+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)*"), MASK),
    (re.compile(r"\b(gh[pousr]_|github_pat_|glpat-|sk-|xox[a-z]-)[\w-]{16,}"), rf"\1{MASK}"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), rf"\1{MASK}"),
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}-----|\Z)"
        ),
        MASK,
    ),
)


def is_sensitive(key: str) -> bool:
    """Whether a field of this name holds something that is not to be shown."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:100]).lower().replace("-", "_")
    return _SENSITIVE_KEY.search(snake) is not None


def is_secret(name: str, text: str) -> bool:
    """Tell whether `text`, which stands beside `name`, looks like a secret that stands there itself."""
    if "${" in text or _HARMLESS.fullmatch(text.strip()):
        return False
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:100]).lower().replace("-", "_")
    if is_sensitive(name) or _ALSO_SENSITIVE.search(snake):
        return True
    return Redactor().text(text, len(text) + 1) != text


def escape(text: str) -> str:
    r"""Write characters that hide, reorder or steer as `\uXXXX`.

    Those below U+0020 are left, since JSON escapes them; `escape_line` takes them too.
    """
    return text if text.isascii() and "\x7f" not in text else _INVISIBLE.sub(_code_point, text)


def escape_line(text: str) -> str:
    """Make `text` fit on one line of a terminal."""
    return _CONTROL.sub(_code_point, escape(text))


def clip(text: str, limit: int = MAX_FIELD_CHARS) -> str:
    """Cut `text` to `limit` characters and say how many are missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}…(+{len(text) - limit})"


class Redactor:
    """Makes values fit for a log line. One for each process.

    `plain` holds short texts that were found clean, so that the request log need not look twice; it
    is emptied whenever there is a new secret to look for.
    """

    def __init__(self) -> None:
        self.plain: set[str | None] = {None}
        self._remembered: dict[str, None] = {}
        self._longest_first: tuple[str, ...] = ()

    def remember(self, secret: str) -> None:
        """Hide `secret` wherever it turns up from now on, also as it stands in a URL.

        Texts of fewer than 8 characters are not remembered, and of more than 1,000 the oldest are
        forgotten.
        """
        for form in (secret, quote(secret, safe="")):
            if len(form) < MIN_REMEMBERED_CHARS or form in self._remembered:
                continue
            self._remembered[form] = None
            if len(self._remembered) > MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        self._longest_first = tuple(sorted(self._remembered, key=len, reverse=True))
        self.plain.clear()
        self.plain.add(None)

    def found_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Give what is hidden of these texts, for another process that will have them too."""
        kept = tuple(texts)
        return tuple(one for one in self._remembered if any(one in text for text in kept))

    def hide(self, text: str) -> str:
        """Hide what was remembered, and change nothing else: for text that clients are told as it stands."""
        for secret in self._longest_first:
            text = text.replace(secret, MASK)
        return text

    def hide_in_json(self, data: bytes) -> bytes:
        """Do as `hide` does in the strings of a JSON text, which stays one."""
        for secret in self._longest_first:
            for form in {json.dumps(secret), json.dumps(secret, ensure_ascii=False)}:
                data = data.replace(form[1:-1].encode("utf-8", "surrogatepass"), MASK.encode())
        return data

    def text(self, text: str, limit: int = MAX_FIELD_CHARS) -> str:
        """Hide secrets in `text`, escape what cannot be seen, and clip it."""
        scanned = text
        if len(text) > _SCAN_CHARS:
            # What stands across the cut could be half a secret that no pattern knows.
            scanned = _TAIL.sub("", text[:_SCAN_CHARS])
        for secret in self._longest_first:
            scanned = scanned.replace(secret, MASK)
        for pattern, mask in _PATTERNS:
            scanned = pattern.sub(mask, scanned)
        missing = len(text) - _SCAN_CHARS
        if missing > 0:
            scanned = f"{scanned[:limit]}…(+{missing + max(0, len(scanned) - limit)})"
            return escape(scanned)
        return escape(clip(scanned, limit))

    def clean(self, text: str) -> str:
        """Do as `text` does, and note in `plain` what needed no change."""
        cleaned = self.text(text)
        if cleaned == text and len(text) <= _MAX_PLAIN_CHARS:
            if len(self.plain) >= _MAX_PLAIN:
                self.plain.clear()
                self.plain.add(None)
            self.plain.add(text)
        return cleaned

    def value(self, value: Any, *, key: str = "", depth: int = 0) -> Any:
        """Give `value` as plain JSON without secrets; `key` is the name of its field."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float)):
            return value if _fits_json(value) else self.text(str(value))
        if isinstance(value, (SecretText, SecretStr, SecretBytes)):
            return MASK
        if key and is_sensitive(key):
            return MASK
        if isinstance(value, str):
            return self.text(str(value))
        if depth >= MAX_DEPTH:
            return "…"
        return self._compound(value, depth)

    def _compound(self, value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth)
        if isinstance(value, (bytes, bytearray)):
            return self.text(bytes(value[:_SCAN_CHARS]).decode("utf-8", "backslashreplace"))
        if isinstance(value, enum.Enum):
            return self.value(value.value, depth=depth + 1)
        if isinstance(value, BaseException):
            return self.text(f"{type(value).__name__}: {value}")
        if isinstance(value, type):
            return value.__qualname__
        if isinstance(value, (PurePath, uuid.UUID, datetime.date, datetime.timedelta)):
            return self.text(str(value))
        return f"<{type(value).__qualname__}>"

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for count, (raw, item) in enumerate(value.items()):
            if count >= MAX_ITEMS:
                result["…"] = f"+{len(value) - MAX_ITEMS}"
                break
            name = _name(raw)
            result[self.text(name, 200)] = self.value(item, key=name, depth=depth + 1)
        return result

    def _items(self, value: Any, depth: int) -> list[Any]:
        items = list(value)[: MAX_ITEMS + 1]
        if len(items) == 2 and isinstance(items[0], (str, bytes)) and is_sensitive(_name(items[0])):
            # A header as a pair: (b"authorization", b"Bearer …").
            return [self.value(items[0], depth=depth + 1), MASK]
        result = [self.value(item, depth=depth + 1) for item in items[:MAX_ITEMS]]
        if len(items) > MAX_ITEMS:
            result.append(f"…+{len(value) - MAX_ITEMS}")
        return result


def _name(raw: object) -> str:
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)


def _fits_json(number: float) -> bool:
    # Encoders refuse whole numbers beyond 64 bits and turn non-finite ones into null.
    return -(2**63) <= number < 2**64 if isinstance(number, int) else math.isfinite(number)


def _code_point(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
