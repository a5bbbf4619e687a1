"""What each binding of an endpoint offers, under the names and with the words it has there.

Knows how an entry becomes public: prefix, new name, other words, mark of its URI; and why one does not.
Refuses to know whose a name is where two want it, and how long anything is kept (`catalog.py`).
Spec: protocol.md 5; threat model rules 24 and 25.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from waygate_mcp.gateway.links import map_definition
from waygate_mcp.gateway.names import UriMark, hidden_character, look_alike, public_name
from waygate_mcp.model.catalog import Condition, Entry, Kind
from waygate_mcp.model.ports import Provider
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.uris import UriTemplate, UriTemplateError

__all__ = [
    "NAMED_KINDS",
    "Binding",
    "BindingStatus",
    "EndpointStatus",
    "Found",
    "HiddenEntry",
    "Offer",
    "Offers",
    "Part",
    "Rules",
]

NAMED_KINDS = frozenset({Kind.TOOL, Kind.PROMPT})
_URI_MEMBERS = {Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}
_NO_MARK = UriMark()
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _all(*_names: str) -> bool:
    return True


class Binding(msgspec.Struct, frozen=True):
    """A provider on an endpoint; what stands before the names of its tools and prompts, and its URIs."""

    provider: Provider
    prefix: str
    mark: UriMark = _NO_MARK


class Found(msgspec.Struct, frozen=True):
    """Where a public name leads. `entry` is None where no list shows it."""

    provider: Provider
    target: str
    entry: Entry | None
    mark: UriMark = _NO_MARK


class Rules(msgspec.Struct, frozen=True):
    """What an operator wants of an endpoint, besides its bindings.

    The filters are given all names of an entry. `rename`, `titles` and `descriptions` go by the names
    tools have without `rename`. `schemes` says who answers for the URIs of a scheme that nobody lists.
    `holders` are all who are bound, switched off or not: only they can hold a name. The providers of
    `auto_prefixes` have a prefix nobody wrote down. An endpoint that `is_strict` shows no list of which
    a part cannot be had.
    """

    endpoint: str = "default"
    tools: Callable[..., bool] = _all
    prompts: Callable[..., bool] = _all
    resources: Callable[..., bool] = _all
    rename: Mapping[str, str] = {}
    titles: Mapping[str, str] = {}
    descriptions: Mapping[str, str] = {}
    schemes: Mapping[str, str] = {}
    holders: frozenset[str] = frozenset()
    auto_prefixes: frozenset[str] = frozenset()
    is_strict: bool = False
    page_size: int = 1_000


class HiddenEntry(msgspec.Struct, frozen=True):
    """An entry that is not shown, and why, for the operator."""

    kind: str
    provider: str
    original: str
    name: str
    reason: str


class BindingStatus(msgspec.Struct, frozen=True):
    """A binding, for people: the text before its names and URIs, and how its lists were last come by."""

    provider: str
    prefix: str
    uri_prefix: str
    lists: Mapping[str, Condition]


class EndpointStatus(msgspec.Struct, frozen=True):
    """An endpoint, for people, from memory.

    `hidden` is what the lists last looked at left out. `unknown` are names of the document's `rename`,
    `titles` and `describe` that no tool was seen to have.
    """

    bindings: tuple[BindingStatus, ...]
    hidden: tuple[HiddenEntry, ...]
    unknown: tuple[str, ...]


class Offer(msgspec.Struct, frozen=True):
    """An entry under its public name."""

    name: str
    found: Found
    definition: bytes


class Part(msgspec.Struct, frozen=True):
    """What one binding offers of a kind, in the order of the public names. Built from `entries`.

    `templates` are those URIs can be matched with, shown or not. `keys` are the names without `rename`.
    """

    entries: tuple[Entry, ...]
    offers: tuple[Offer, ...] = ()
    hidden: tuple[HiddenEntry, ...] = ()
    templates: tuple[tuple[UriTemplate, Found], ...] = ()
    keys: frozenset[str] = frozenset()


class Offers:
    """Makes the parts of an endpoint's lists."""

    def __init__(self, bindings: Sequence[Binding], rules: Rules) -> None:
        self._bindings = tuple(bindings)
        self._rules = rules
        self._filters = {
            Kind.TOOL: rules.tools,
            Kind.PROMPT: rules.prompts,
            Kind.RESOURCE: rules.resources,
            Kind.TEMPLATE: rules.resources,
        }
        self._words = frozenset((*rules.titles, *rules.descriptions))
        self.keys = self._words | frozenset(rules.rename)

    def names(self, kind: Kind, binding: Binding, original: str) -> tuple[str, ...]:
        """Give the public name of a provider's entry, and the one it has without `rename`, if any."""
        if kind not in NAMED_KINDS:
            return (binding.mark.add(original),)
        name = public_name(binding.prefix, original)
        new = self._rules.rename.get(name) if kind is Kind.TOOL else None
        return (name,) if new is None else (new, name)

    def part(self, kind: Kind, binding: Binding, entries: tuple[Entry, ...]) -> Part:
        """Make public what a provider lists. An entry that cannot be is left out by itself."""
        offers: list[Offer] = []
        hidden: list[HiddenEntry] = []
        templates: list[tuple[UriTemplate, Found]] = []
        keys: set[str] = set()
        for entry in entries:
            names = self.names(kind, binding, entry.name)
            found = Found(binding.provider, entry.name, entry, binding.mark)
            keys.add(names[-1])
            problem = self._problem(kind, binding, entry.name, names)
            if problem is None and kind is Kind.TEMPLATE:
                try:
                    templates.append((UriTemplate(entry.name), found))
                except UriTemplateError as exc:  # it is shown, and leads nowhere
                    text = f"is shown, but no URI leads to it: it cannot be read from: {exc}"
                    hidden.append(_hidden(kind, found, names[0], text))
            if not self._filters[kind](*names):
                continue
            if problem is not None:
                hidden.append(_hidden(kind, found, names[0], problem))
                continue
            offers.append(Offer(names[0], found, self._definition(kind, entry, names, binding)))
        offers.sort(key=lambda offer: offer.name)
        return Part(entries, tuple(offers), tuple(hidden), tuple(templates), frozenset(keys))

    def _problem(
        self, kind: Kind, binding: Binding, original: str, names: tuple[str, ...]
    ) -> str | None:
        """Say why an entry is not shown, None where nothing is wrong with its name."""
        name = names[0]
        unseen = hidden_character(original)
        if unseen is not None:
            return f"is left out: its name holds {unseen}"
        if kind in NAMED_KINDS:
            alike = look_alike(name)
            if alike is not None:
                return f"is left out: its name has {alike}; a prefix mends that"
        if len(names) > 1:  # the operator's own choice
            return None
        for other in self._bindings:
            if other is binding or (kind in NAMED_KINDS and binding.prefix):
                continue
            if kind in NAMED_KINDS and other.prefix and name.startswith(other.prefix):
                return f"is left out: its name begins as those of {other.provider.name} do"
            is_marked = not binding.mark.text and other.mark.text
            if kind not in NAMED_KINDS and is_marked and other.mark.remove(name) is not None:
                return f"is left out: its URI begins as those of {other.provider.name} do"
        return None

    def _definition(
        self, kind: Kind, entry: Entry, names: tuple[str, ...], binding: Binding
    ) -> bytes:
        """Give a definition under its public name, every other member untouched."""
        definition = entry.definition
        if binding.mark.text:
            definition = map_definition(definition, _URI_MEMBERS.get(kind), binding.mark.add)
        has_words = kind is Kind.TOOL and names[-1] in self._words
        if kind not in NAMED_KINDS or (names[0] == entry.name and not has_words):
            return definition
        members = _decode_members(definition)
        members["name"] = _raw(names[0])
        if has_words:
            self._describe(members, names[-1])
        return jsonrpc.encode_json(members)

    def _describe(self, members: dict[str, msgspec.Raw], key: str) -> None:
        """Put the operator's words in place of the provider's."""
        title = self._rules.titles.get(key)
        if title is not None:
            members["title"] = _raw(title)
            notes = members.get("annotations")
            if notes is not None and bytes(notes)[:1] == b"{":  # where older clients look
                members["annotations"] = _raw(_decode_members(notes) | {"title": _raw(title)})
        description = self._rules.descriptions.get(key)
        if description is not None:
            members["description"] = _raw(description)


def _hidden(kind: Kind, found: Found, name: str, reason: str) -> HiddenEntry:
    return HiddenEntry(kind.value, found.provider.name, found.target, name, reason)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(jsonrpc.encode_json(value))
