"""Pins of definitions in the database: the table `tool_pins`. Fulfils `model.ports.PinStore`.

Knows how a pin is written as a row. Refuses to know how pins change, which is `model/pins.py`'s.

The column `definition` holds what was approved last together with the digests in force, as JSON:
`{"accepted": [digest…], "definition": text}`; `digest` is the newest of them, for people who look at the
table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from waygate_mcp.errors import StorageError
from waygate_mcp.model.pins import Approval, Pin, Sighting, approved, rejected, seen
from waygate_mcp.storage.engine import Database, next_version
from waygate_mcp.storage.tables import tool_pins

__all__ = ["ToolPins"]

_Key = tuple[str, str, str]
_KEY = ("upstream", "kind", "name")
_STATES = ("approved", "pending", "changed")
_AT_ONCE = 200
"""Rows asked for in one statement: SQLite bounds the values of one."""


class _Approved(msgspec.Struct, frozen=True):
    accepted: tuple[str, ...]
    definition: str | None


_decode = msgspec.json.Decoder(_Approved).decode
_encode = msgspec.json.Encoder().encode


class ToolPins:
    """The repository. `now` gives seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def load(self, after: int = 0) -> Sequence[Pin]:
        """See PinStore."""
        newer = (
            sa.select(tool_pins).where(tool_pins.c.version > after).order_by(tool_pins.c.version)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(newer)).mappings().all()
        return [_pin_of(row) for row in rows]

    async def see(self, sightings: Sequence[Sighting]) -> Sequence[Pin]:
        """See PinStore."""
        if not sightings:
            return []
        now = self._moment()
        async with self._database.writing() as connection:
            version = await next_version(connection)  # first: from here on writers wait
            pins = await _found(connection, (one.key for one in sightings))
            changed: dict[_Key, Pin] = {}
            for one in sightings:
                pin = seen(changed.get(one.key) or pins.get(one.key), one, now)
                if pin is not None:
                    changed[one.key] = _at(pin, version)
            await _store(connection, changed, old=pins)
        merged = pins | changed
        return [merged[key] for key in dict.fromkeys(one.key for one in sightings)]

    async def approve(self, approvals: Sequence[Approval], by: str) -> Sequence[Pin]:
        """See PinStore."""
        now = self._moment()
        return await self._decide(approvals, lambda pin, digest: approved(pin, digest, by, now))

    async def reject(self, approvals: Sequence[Approval]) -> Sequence[Pin]:
        """See PinStore."""
        return await self._decide(approvals, rejected)

    async def _decide(
        self, approvals: Sequence[Approval], decide: Callable[[Pin, str], Pin | None]
    ) -> Sequence[Pin]:
        if not approvals:
            return []
        async with self._database.writing() as connection:
            version = await next_version(connection)
            pins = await _found(connection, (one.key for one in approvals))
            changed: dict[_Key, Pin] = {}
            for one in approvals:
                pin = changed.get(one.key) or pins.get(one.key)
                decided = None if pin is None else decide(pin, one.digest)
                if decided is not None:
                    changed[one.key] = _at(decided, version)
            await _store(connection, changed, old=pins)
        return list(changed.values())

    def _moment(self) -> float:
        """Give the time as precisely as the database keeps it."""
        return datetime.fromtimestamp(self._now(), UTC).timestamp()


async def _found(connection: AsyncConnection, keys: Iterable[_Key]) -> dict[_Key, Pin]:
    """Read the pins of these keys, in a transaction that may change them."""
    wanted = list(dict.fromkeys(keys))
    columns = sa.tuple_(tool_pins.c.upstream, tool_pins.c.kind, tool_pins.c.name)
    found: dict[_Key, Pin] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        chosen = sa.select(tool_pins).where(columns.in_(wanted[start : start + _AT_ONCE]))
        for row in (await connection.execute(chosen)).mappings():
            pin = _pin_of(row)
            found[pin.key] = pin
    return found


async def _store(
    connection: AsyncConnection, pins: Mapping[_Key, Pin], *, old: Mapping[_Key, Pin]
) -> None:
    """Write pins, those that are not among the old ones as new rows."""
    new = [_row_of(pin) for key, pin in pins.items() if key not in old]
    if new:
        await connection.execute(sa.insert(tool_pins), new)
    for key, pin in pins.items():
        if key in old:
            this = (tool_pins.c[name] == value for name, value in zip(_KEY, key, strict=True))
            await connection.execute(sa.update(tool_pins).where(*this).values(_row_of(pin)))


def _at(pin: Pin, version: int) -> Pin:
    return msgspec.structs.replace(pin, version=version)


def _pin_of(row: Any) -> Pin:
    """Read a row, and believe nothing of it that cannot be.

    Raises:
        StorageError: it was not written by us.
    """
    try:
        kept = _Approved((), None) if row["definition"] is None else _decode(row["definition"])
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise StorageError(f"the pin of {row['upstream']} {row['kind']} is damaged") from exc
    is_settled = row["seen_digest"] is None and bool(kept.accepted)
    if row["state"] not in _STATES or (row["state"] == "approved") != is_settled:
        raise StorageError(f"the pin of {row['upstream']} {row['kind']} is in no state")
    approved_at = row["approved_at_utc"]
    return Pin(
        upstream=row["upstream"],
        kind=row["kind"],
        name=row["name"],
        state=row["state"],
        accepted=kept.accepted,
        definition=kept.definition,
        waiting_digest=row["seen_digest"],
        waiting_definition=row["seen_definition"],
        first_seen_at=row["first_seen_at_utc"].timestamp(),
        changed_at=row["changed_at_utc"].timestamp(),
        approved_at=None if approved_at is None else approved_at.timestamp(),
        approved_by=row["approved_by"],
        version=row["version"],
    )


def _row_of(pin: Pin) -> dict[str, Any]:
    kept = _encode(_Approved(pin.accepted, pin.definition)).decode() if pin.accepted else None
    return {
        "upstream": pin.upstream,
        "kind": pin.kind,
        "name": pin.name,
        "state": pin.state,
        "digest": pin.accepted[0] if pin.accepted else None,
        "definition": kept,
        "seen_digest": pin.waiting_digest,
        "seen_definition": pin.waiting_definition,
        "first_seen_at_utc": _time(pin.first_seen_at),
        "changed_at_utc": _time(pin.changed_at),
        "approved_at_utc": None if pin.approved_at is None else _time(pin.approved_at),
        "approved_by": pin.approved_by,
        "version": pin.version,
    }


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
