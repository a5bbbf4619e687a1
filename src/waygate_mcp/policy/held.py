"""What is held back, for people: which fields changed, which signs of deceit there are, what to approve.

Knows how a pin is read by somebody who has to decide. Refuses to decide, and to print: outside text is in
here as it came, but for `visible`, which makes it fit to be shown.
Spec: threat model rules 24 and 34.
"""

from __future__ import annotations

import difflib
import itertools
import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from waygate_mcp.model.pins import Approval, Pin
from waygate_mcp.policy.definitions import FieldChange, UnsafeDefinitionError, changes_between
from waygate_mcp.policy.poison import Sign, find_signs, forms_of, visible

__all__ = ["HeldEntry", "diff_lines", "held_entries", "select", "waiting_pins"]

SHORT_DIGEST = 12
"""Characters of a digest that people are asked to repeat."""

MAX_CHANGES = 200
MAX_LINES = 400
_SHORT_CHARS = 120
_WIDTH = 100
_MAX_TEXT = 20_000


class HeldEntry(msgspec.Struct, frozen=True):
    """One definition that waits. `omitted` is how many more fields differ than `changes` holds."""

    upstream: str
    kind: str
    name: str
    state: str
    digest: str
    changes: tuple[FieldChange, ...]
    omitted: int
    signs: tuple[Sign, ...]
    seen_at: float

    @property
    def label(self) -> str:
        """What people call it: instructions have no name."""
        return self.name or self.kind

    @property
    def approval(self) -> Approval:
        """What approves exactly this."""
        return Approval(self.upstream, self.kind, self.name, self.digest)


def waiting_pins(pins: Iterable[Pin], upstream: str | None = None) -> list[Pin]:
    """Give the pins that wait, of one upstream or of all, in the order of upstreams, kinds and names."""
    waiting = (pin for pin in pins if pin.waiting_digest is not None)
    return sorted(
        (pin for pin in waiting if upstream in (None, pin.upstream)), key=lambda pin: pin.key
    )


def held_entries(waiting: Iterable[Pin], known: Iterable[Pin]) -> tuple[HeldEntry, ...]:
    """Describe pins that wait. Takes a while: not for the thread that serves.

    Their names are compared with those that were approved among `known`, of whatever upstream, so that
    one that could be taken for another is told.
    """
    names: dict[str, set[str]] = {}
    for pin in known:
        if pin.accepted:
            names.setdefault(pin.kind, set()).add(pin.name)
    forms = {kind: forms_of(found) for kind, found in names.items()}
    return tuple(_held(pin, forms.get(pin.kind, {})) for pin in waiting)


def _held(pin: Pin, names: dict[str, str]) -> HeldEntry:
    definition = pin.waiting_definition or "{}"
    try:
        changes = changes_between(pin.definition, definition)
    except UnsafeDefinitionError as exc:  # of an older version of ours, or not written by us
        changes = (FieldChange("", None, json.dumps(f"cannot be read: {exc}")),)
    return HeldEntry(
        pin.upstream,
        pin.kind,
        pin.name,
        pin.state,
        pin.waiting_digest or "",
        changes[:MAX_CHANGES],
        max(len(changes) - MAX_CHANGES, 0),
        find_signs(definition, names),
        pin.changed_at,
    )


def select(entries: Sequence[HeldEntry], wanted: str) -> tuple[HeldEntry, ...]:
    """Give the entries somebody means by `NAME` or `NAME@DIGEST`, the beginning of a digest.

    With a digest, none whose definition is another one by now.
    """
    found = tuple(one for one in entries if wanted in (one.label, visible(one.label)))
    name, at, digest = wanted.rpartition("@")
    if found or not at or len(digest) < SHORT_DIGEST:
        return found
    return tuple(
        one
        for one in entries
        if name in (one.label, visible(one.label)) and one.digest.startswith(digest.lower())
    )


def diff_lines(entry: HeldEntry) -> Iterator[str]:
    """Give the changed fields as a unified diff, in lines of visible characters."""
    left = MAX_LINES
    for change in entry.changes:
        for line in _field_lines(change):
            if left == 0:
                yield "… and more lines; --json shows all of them"
                return
            left -= 1
            yield line
    if entry.omitted:
        yield f"… and {entry.omitted} more fields"


def _field_lines(change: FieldChange) -> Iterator[str]:
    yield f"@@ {visible(change.path) or 'the whole definition'} @@"
    old, new = _lines(change.old), _lines(change.new)
    if len(old) <= 1 or len(new) <= 1:
        yield from (f"-{line}" for line in old)
        yield from (f"+{line}" for line in new)
        return
    found = itertools.islice(difflib.unified_diff(old, new, lineterm="", n=1), 2, None)
    yield from (line for line in found if not line.startswith("@@"))


def _lines(value: str | None) -> list[str]:
    """Give a value as lines: JSON where it is short, a long text as what it says, wrapped."""
    if value is None:
        return []
    text = json.loads(value) if value.startswith('"') else None
    if text is None or (len(text) <= _SHORT_CHARS and "\n" not in text):
        return [visible(value)]
    lines = [part for line in text[:_MAX_TEXT].split("\n") for part in _wrapped(visible(line))]
    if len(text) > _MAX_TEXT:
        lines.append(f"… {len(text) - _MAX_TEXT} more characters; --json shows all of them")
    return lines


def _wrapped(line: str) -> list[str]:
    kept = textwrap.wrap(
        line, _WIDTH, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False
    )
    return kept or [""]
