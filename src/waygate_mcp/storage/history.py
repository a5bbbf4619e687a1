"""What happened, for people: calls, what failed, who called how often, figures and events.

Knows how these records become rows, many at a time: each `write_…` is a sink of the BackgroundWriter.
Refuses to be the record nobody can change: that is the audit journal. Texts from outside are cut and
made storable here; arguments and results are never among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from waygate_mcp.storage.tables import (
    api_key_usage,
    command_history,
    execution_logs,
    metrics,
    plugin_metrics,
    system_events,
)

__all__ = [
    "NAMED",
    "CallRecord",
    "CallTally",
    "EventRecord",
    "Figure",
    "write_calls",
    "write_events",
    "write_figures",
]

MAX_TEXT = 1_000
KEY = "key:"
"""How the id of a principal begins that is an API key."""
NAMED = frozenset({"tools/call", "prompts/get"})
"""Methods whose names are of a list that has an end; others are counted under the method."""


Use = tuple[str, str, str, str]
"""Principal, provider, method, name."""
MAX_USES = 10_000
OTHER = "other"


class CallRecord(NamedTuple):
    """One answered call. `at_s` is seconds since 1970, `error` the code and words of what failed."""

    at_s: float
    request_id: str
    principal: str
    endpoint: str
    method: str
    provider: str
    name: str
    outcome: str
    seconds: float
    error: tuple[str, str] | None


class EventRecord(NamedTuple):
    """Something that happened to the installation. `severity` is info, warning or error."""

    at_s: float
    kind: str
    severity: str
    subject: str | None
    message: str
    data: Mapping[str, Any]


class Figure(NamedTuple):
    """A measured value."""

    at_s: float
    name: str
    labels: Mapping[str, str]
    value: float


class CallTally:
    """Calls of a fraction of a second: each is counted, and as many as the caller likes are kept whole.

    It is handed to the writer with its first call, at `at_s`, and filled until it is closed. A use is
    who called, whom, by which method, and what: the name is empty where nobody offers it.
    """

    __slots__ = ("at_s", "is_closed", "kept", "uses")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.is_closed = False
        self.kept: list[CallRecord] = []
        self.uses: dict[Use, list[float]] = {}

    def count(self, use: Use, seconds: float, *, is_error: bool) -> None:
        """Count one call."""
        cell = self.uses.get(use)
        if cell is None:
            if len(self.uses) >= MAX_USES:
                use = ("", "", "", OTHER)
            cell = self.uses.setdefault(use, [0, 0, 0.0, 0.0])
        cell[0] += 1
        cell[1] += is_error
        cell[2] += seconds
        cell[3] = max(cell[3], seconds)


async def write_calls(connection: AsyncConnection, records: Sequence[CallTally]) -> None:
    """Store calls: the history of those kept whole, words of failures, use of keys and of commands.

    The tallies are closed: what follows belongs to others.
    """
    for tally in records:
        tally.is_closed = True
    kept = [one for tally in records for one in tally.kept]
    if kept:
        await connection.execute(sa.insert(command_history), [_history_row(one) for one in kept])
    failures = [_failure_row(one) for one in kept if one.error is not None]
    if failures:
        await connection.execute(sa.insert(execution_logs), failures)
    await _count_keys(connection, records)
    await _count_commands(connection, records)


async def write_events(connection: AsyncConnection, records: Sequence[EventRecord]) -> None:
    """Store events of the installation."""
    rows = [
        {
            "at_utc": _moment(one.at_s),
            "kind": one.kind,
            "severity": one.severity,
            "subject": None if one.subject is None else _storable(one.subject),
            "message": _storable(one.message),
            "data": dict(one.data),
        }
        for one in records
    ]
    await connection.execute(sa.insert(system_events), rows)


async def write_figures(connection: AsyncConnection, records: Sequence[Figure]) -> None:
    """Store measured values."""
    rows = [
        {
            "at_utc": _moment(one.at_s),
            "name": one.name,
            "labels": dict(one.labels),
            "value": one.value,
        }
        for one in records
    ]
    await connection.execute(sa.insert(metrics), rows)


async def _count_keys(connection: AsyncConnection, records: Sequence[CallTally]) -> None:
    counts: dict[tuple[str, str], list[float]] = {}
    for tally in records:
        for (principal, _, _, _), cell in tally.uses.items():
            if principal.startswith(KEY):
                key = principal.removeprefix(KEY)
                found = counts.setdefault((key, _day(tally.at_s)), [0, 0])
                found[0] += cell[0]
                found[1] += cell[1]
    if not counts:
        return
    # In one order for all processes, so that no two wait for each other's rows.
    rows = [
        {"key_id": key, "day": day, "calls": calls, "errors": errors}
        for (key, day), (calls, errors) in sorted(counts.items())
    ]
    await connection.execute(_adding(connection, api_key_usage, ("calls", "errors")), rows)


async def _count_commands(connection: AsyncConnection, records: Sequence[CallTally]) -> None:
    counts: dict[tuple[str, str, str], list[float]] = {}
    for tally in records:
        for (_, provider, method, name), cell in tally.uses.items():
            if provider:
                command = _storable(name) if method in NAMED else method
                found = counts.setdefault((provider, command, _day(tally.at_s)), [0, 0, 0.0, 0.0])
                found[0] += cell[0]
                found[1] += cell[1]
                found[2] += cell[2] * 1000
                found[3] = max(found[3], cell[3] * 1000)
    if not counts:
        return
    rows = [
        {
            "plugin": plugin, "command": command, "day": day,
            "calls": calls, "errors": errors, "duration_ms": total, "slowest_ms": slowest,
        }
        for (plugin, command, day), (calls, errors, total, slowest) in sorted(counts.items())
    ]  # fmt: skip
    adding = _adding(connection, plugin_metrics, ("calls", "errors", "duration_ms"), "slowest_ms")
    await connection.execute(adding, rows)


def _adding(
    connection: AsyncConnection, table: sa.Table, sums: Sequence[str], greatest: str | None = None
) -> Any:
    """Give the statement that inserts a row, or adds its numbers to the one that is there."""
    is_sqlite = connection.dialect.name == "sqlite"
    insert: Callable[[sa.Table], Any] = sqlite.insert if is_sqlite else postgresql.insert
    statement = insert(table)
    values = {name: table.c[name] + statement.excluded[name] for name in sums}
    if greatest is not None:
        old, new = table.c[greatest], statement.excluded[greatest]
        values[greatest] = sa.case((new > old, new), else_=old)
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)


def _history_row(one: CallRecord) -> dict[str, Any]:
    return {
        "at_utc": _moment(one.at_s),
        "request_id": _storable(one.request_id),
        "principal": one.principal,
        "endpoint": one.endpoint,
        "method": one.method,
        "provider": one.provider or None,
        "name": _storable(one.name) or None,
        "outcome": one.outcome,
        "duration_ms": round(one.seconds * 1000, 3),
    }


def _failure_row(one: CallRecord) -> dict[str, Any]:
    code, words = one.error or ("", "")
    return {
        "at_utc": _moment(one.at_s),
        "request_id": _storable(one.request_id),
        "level": "error",
        "source": one.provider or "gateway",
        "message": _storable(words),
        "data": {
            "code": code,
            "endpoint": one.endpoint,
            "method": one.method,
            "name": _storable(one.name),
            "principal": one.principal,
        },
    }


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _day(at_s: float) -> str:
    return _moment(at_s).date().isoformat()


def _storable(text: str) -> str:
    """Give what both databases take: no half of a surrogate pair, no NUL, not endless."""
    if text.isascii():
        return text[:MAX_TEXT].replace("\0", "\N{REPLACEMENT CHARACTER}")
    clean = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    return clean.replace("\0", "\N{REPLACEMENT CHARACTER}")
