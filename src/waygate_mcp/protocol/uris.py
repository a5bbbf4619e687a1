"""URI templates (RFC 6570), read backwards: which template a URI was made from, and with what values.

Knows the operators of levels 1 to 3 (`{a}`, `{+a}`, `{#a}`, `{.a}`, `{/a}`, `{;a}`, `{?a,b}`, `{&a}`)
and `*` for values with slashes. Refuses prefixes (`{a:3}`), which cannot be read backwards, and two
variables with nothing between them, which cannot be told apart.

A URI is matched in time proportional to its length times the template's, whatever it holds: no
regular expression backtracks here. Spec: 2026-07-28 server/resources, "Resource Templates".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

__all__ = ["MAX_URI_CHARS", "UriTemplate", "UriTemplateError"]

MAX_URI_CHARS = 8192
"""Longer URIs match nothing."""

_MAX_TEMPLATE_CHARS = 2048
_MAX_VARIABLES = 32
_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_QUERY_OPERATORS = "?&"
_LEADS = {"": "", "+": "", "#": "#", ".": ".", "/": "/", ";": ";"}
_SEPARATORS = {"": ",", "+": ",", "#": ",", ".": ".", "/": "/", ";": ";"}
_STOPS = {"": "/?#", "+": "", "#": "", ".": "/?#.", "/": "/?#", ";": "/?#;"}


class UriTemplateError(ValueError):
    """A URI template is not one, or cannot be read backwards."""


class _Literal(msgspec.Struct, frozen=True):
    """Text that stands as it is."""

    text: str


class _Variable(msgspec.Struct, frozen=True):
    """One or more characters, none of `stops`; `runs` finds the longest stretches of them."""

    name: str
    stops: str
    runs: re.Pattern[str]


class UriTemplate:
    """One template, parsed. Equal texts match alike; instances are immutable.

    `variables` are the names in order; `optional` those of the query, which a URI may leave out.
    """

    __slots__ = (
        "_parts",
        "_query",
        "_suffix",
        "optional",
        "prefix",
        "specificity",
        "text",
        "variables",
    )

    def __init__(self, text: str) -> None:
        """Parse a template.

        Raises:
            UriTemplateError: see the module.
        """
        if len(text) > _MAX_TEMPLATE_CHARS:
            raise UriTemplateError(f"a URI template has at most {_MAX_TEMPLATE_CHARS} characters")
        self.text = text
        parts, query = _parse(text)
        self._parts = parts
        self._query = query
        self.optional = frozenset(query)
        names = [part.name for part in parts if isinstance(part, _Variable)] + list(query)
        if len(set(names)) != len(names):
            raise UriTemplateError(f"{text}: a variable stands twice")
        if len(names) > _MAX_VARIABLES:
            raise UriTemplateError(f"{text}: more than {_MAX_VARIABLES} variables")
        self.variables = tuple(names)
        first, last = (parts[0], parts[-1]) if parts else (_Literal(""), _Literal(""))
        self.prefix = first.text if isinstance(first, _Literal) else ""
        self._suffix = last.text if isinstance(last, _Literal) else ""
        literal_chars = sum(len(part.text) for part in parts if isinstance(part, _Literal))
        wide = sum(1 for part in parts if isinstance(part, _Variable) and "/" not in part.stops)
        self.specificity = (-literal_chars, wide, len(names))

    def __repr__(self) -> str:
        return f"UriTemplate({self.text!r})"

    def match(self, uri: str) -> dict[str, str] | None:
        """Give the variables' values, percent-decoded, or None where `uri` is not of this template.

        Variables of a query that are absent from it are absent from the answer. Where several
        readings are possible the variables further left take as much as they can. Templates are to
        be tried in the order of `specificity`, smallest first.
        """
        if len(uri) > MAX_URI_CHARS or not uri.startswith(self.prefix):
            return None
        values: dict[str, str] = {}
        if self._query:
            uri, _, query = uri.partition("?")
            read = self._read_query(query)
            if read is None:
                return None
            values = read
        if not uri.endswith(self._suffix):
            return None
        spans = self._spans(uri)
        if spans is None:
            return None
        for name, raw in spans.items():
            value = _decode(raw)
            if value is None:
                return None
            values[name] = value
        return values

    def _spans(self, uri: str) -> dict[str, str] | None:
        """Find where each variable begins and ends.

        First it is noted, from the right, from which positions the rest of the template can reach
        the end; then each variable takes the longest stretch that ends at such a position.
        """
        size = len(uri)
        reach = [bytearray(size + 1) for _ in range(len(self._parts) + 1)]
        reach[-1][size] = 1
        for index in range(len(self._parts) - 1, -1, -1):
            _step_back(self._parts[index], uri, reach[index + 1], reach[index])
        if not reach[0][0]:
            return None
        found: dict[str, str] = {}
        at = 0
        for index, part in enumerate(self._parts):
            if isinstance(part, _Literal):
                at += len(part.text)
                continue
            end = reach[index + 1].rfind(1, at + 1, _run_end(uri, at, part.stops) + 1)
            found[part.name] = uri[at:end]
            at = end
        return found

    def _read_query(self, query: str) -> dict[str, str] | None:
        """Read `a=1&b=2` in any order; a name that is unknown or stands twice fits nothing."""
        values: dict[str, str] = {}
        for pair in query.split("&") if query else ():
            name, _, raw = pair.partition("=")
            value = _decode(raw)
            if name not in self._query or name in values or value is None:
                return None
            values[name] = value
        return values


def _step_back(part: _Literal | _Variable, uri: str, after: bytearray, before: bytearray) -> None:
    """Mark in `before` the positions from which `part` leads to a position marked in `after`."""
    if isinstance(part, _Literal):
        at = after.find(1)
        while at >= 0:
            start = at - len(part.text)
            if start >= 0 and uri.startswith(part.text, start):
                before[start] = 1
            at = after.find(1, at + 1)
        return
    # In a run of allowed characters every position before the last reachable end leads to it.
    for run in part.runs.finditer(uri):
        start, end = run.span()
        last = after.rfind(1, start + 1, end + 1)
        if last >= 0:
            before[start:last] = b"\x01" * (last - start)


def _run_end(uri: str, start: int, stops: str) -> int:
    """Give the position behind the last allowed character of the run that begins at `start`."""
    ends = [at for stop in stops if (at := uri.find(stop, start)) >= 0]
    return min(ends, default=len(uri))


def _decode(raw: str) -> str | None:
    """Undo percent-encoding; None where it is not UTF-8."""
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return None


def _parse(text: str) -> tuple[tuple[_Literal | _Variable, ...], Mapping[str, None]]:
    """Split a template into its parts, and the names of its query apart from them."""
    parts: list[_Literal | _Variable] = []
    query: dict[str, None] = {}
    at = 0
    for found in _EXPRESSION.finditer(text):
        _add_literal(parts, text, text[at : found.start()], bool(query))
        at = found.end()
        operator = found[1][:1] if found[1][:1] in "+#./;?&" else ""
        names = found[1][len(operator) :].split(",")
        for name in names:
            if not _NAME.fullmatch(name.removesuffix("*")):
                raise UriTemplateError(f"{text}: cannot read the expression {found[0]}")
        if operator and operator in _QUERY_OPERATORS:
            query.update(dict.fromkeys(name.removesuffix("*") for name in names))
            continue
        if query:
            raise UriTemplateError(f"{text}: nothing but more query may follow a query")
        for number, name in enumerate(names):
            lead = _SEPARATORS[operator] if number else _LEADS[operator]
            if operator == ";":
                lead += f"{name.removesuffix('*')}="
            stops = _STOPS[operator]
            if name.endswith("*"):
                stops = stops.replace("/", "")
            if len(names) > 1 and _SEPARATORS[operator] == ",":
                stops += ","
            _add_literal(parts, text, lead, False)
            runs = re.compile(f"[^{re.escape(stops)}]+" if stops else "(?s:.+)")
            _add_variable(parts, text, _Variable(name.removesuffix("*"), stops, runs))
    _add_literal(parts, text, text[at:], bool(query))
    return tuple(parts), query


def _add_literal(
    parts: list[_Literal | _Variable], text: str, literal: str, has_query: bool
) -> None:
    if "{" in literal or "}" in literal:
        raise UriTemplateError(f"{text}: a brace without its partner")
    if not literal:
        return
    if has_query:
        raise UriTemplateError(f"{text}: nothing but more query may follow a query")
    if parts and isinstance(parts[-1], _Literal):
        parts[-1] = _Literal(parts[-1].text + literal)
    else:
        parts.append(_Literal(literal))


def _add_variable(parts: list[_Literal | _Variable], text: str, variable: _Variable) -> None:
    if parts and isinstance(parts[-1], _Variable):
        raise UriTemplateError(f"{text}: two variables with nothing between them")
    parts.append(variable)
