"""Calls, events and figures as rows: what is counted, what is cut, what is pruned and by whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from waygate_mcp.storage import retention, tables
from waygate_mcp.storage.engine import Database
from waygate_mcp.storage.history import (
    CallRecord,
    CallTally,
    EventRecord,
    Figure,
    write_calls,
    write_events,
    write_figures,
)
from waygate_mcp.storage.retention import Pruner, is_mine, prune

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AT_S = NOW.timestamp()


def record(**more: Any) -> CallRecord:
    values: dict[str, Any] = {
        "at_s": AT_S,
        "request_id": "r1",
        "principal": "key:abc",
        "endpoint": "default",
        "method": "tools/call",
        "provider": "files",
        "name": "files__read",
        "outcome": "ok",
        "seconds": 0.25,
        "error": None,
    }
    return CallRecord(**(values | more))


async def rows(database: Database, table: sa.Table) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(table))).mappings())


def tallies(*records: CallRecord) -> list[CallTally]:
    """A tally for each record, as `runtime.call_notes` fills them."""
    found = []
    for one in records:
        tally = CallTally(one.at_s)
        is_error = one.outcome in ("failed", "tool_error")
        tally.count(
            (one.principal, one.provider, one.method, one.name), one.seconds, is_error=is_error
        )
        tally.kept.append(one)
        found.append(tally)
    return found


async def write(database: Database, *records: CallRecord) -> None:
    async with database.writing() as connection:
        await write_calls(connection, tallies(*records))


async def test_a_call_is_in_the_history_and_counted_for_its_key_and_its_command(
    database: Database,
) -> None:
    failed = record(outcome="failed", error=("unknown_name", "Unknown tool: x"), seconds=0.5)
    await write(database, record(), failed)
    await write(database, record(at_s=AT_S - 5, outcome="tool_error"))
    history = await rows(database, tables.command_history)
    assert [(one["outcome"], one["duration_ms"]) for one in history] == [
        ("ok", 250), ("failed", 500), ("tool_error", 250),
    ]  # fmt: skip
    assert history[0]["at_utc"] == NOW
    (failure,) = await rows(database, tables.execution_logs)
    assert (failure["message"], failure["data"]["code"]) == ("Unknown tool: x", "unknown_name")
    (usage,) = await rows(database, tables.api_key_usage)
    assert usage == {"key_id": "abc", "day": "2026-11-28", "calls": 3, "errors": 2}
    (command,) = await rows(database, tables.plugin_metrics)
    assert (command["command"], command["calls"], command["errors"]) == ("files__read", 3, 2)
    assert (command["duration_ms"], command["slowest_ms"]) == (1000, 500)
    async with database.reading() as connection:
        (seen,) = (await connection.execute(sa.text("SELECT * FROM v_plugin_performance"))).all()
    assert (seen.calls_total, seen.errors_total) == (3, 2)
    assert round(float(seen.avg_duration_ms), 3) == round(1000 / 3, 3)


async def test_who_has_no_key_is_in_the_history_alone(database: Database) -> None:
    await write(database, record(principal="local", provider="", name=""))
    assert len(await rows(database, tables.command_history)) == 1
    for table in (tables.api_key_usage, tables.plugin_metrics, tables.execution_logs):
        assert await rows(database, table) == []


async def test_resources_are_counted_under_their_method_not_under_each_address(
    database: Database,
) -> None:
    await write(database, *(record(method="resources/read", name=f"file:///{n}") for n in range(9)))
    (command,) = await rows(database, tables.plugin_metrics)
    assert (command["command"], command["calls"]) == ("resources/read", 9)


async def test_texts_from_outside_are_made_storable_and_cut(database: Database) -> None:
    await write(database, record(name="a\0b\ud800é" + "x" * 5000, request_id="\0"))
    (found,) = await rows(database, tables.command_history)
    assert found["name"].startswith("a\N{REPLACEMENT CHARACTER}b?é")
    assert len(found["name"]) == 1000
    assert found["request_id"] == "\N{REPLACEMENT CHARACTER}"


async def test_two_that_count_the_same_keys_at_once_lose_nothing(database: Database) -> None:
    records = [record(principal=f"key:k{number}", name=f"t{number}") for number in range(6)]

    async def count(backwards: bool) -> None:
        for _ in range(10):
            await write(database, *(reversed(records) if backwards else records))

    await asyncio.gather(count(False), count(True))
    assert {one["calls"] for one in await rows(database, tables.api_key_usage)} == {20}
    assert {one["calls"] for one in await rows(database, tables.plugin_metrics)} == {20}


async def test_events_and_figures_are_stored(database: Database) -> None:
    async with database.writing() as connection:
        event = EventRecord(AT_S, "reload", "error", None, "failed", {"problems": ["a.b: no"]})
        await write_events(connection, [event, event._replace(subject="web")])
        await write_figures(connection, [Figure(AT_S, "sessions", {"process": "1"}, 4.5)])
    events = await rows(database, tables.system_events)
    assert [one["subject"] for one in events] == [None, "web"]
    assert events[0]["data"] == {"problems": ["a.b: no"]}
    (figure,) = await rows(database, tables.metrics)
    assert (figure["name"], figure["value"], figure["labels"]) == (
        "sessions",
        4.5,
        {"process": "1"},
    )


async def test_what_is_too_old_goes_and_the_rest_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 4)
    ages = {
        tables.command_history: 90, tables.execution_logs: 60, tables.metrics: 30,
        tables.system_events: 365,
    }  # fmt: skip
    assert dict(retention.DAYS) == ages
    for days in range(0, 400, 5):
        moment = AT_S - days * 86_400 - 60
        async with database.writing() as connection:
            await write_calls(connection, tallies(record(at_s=moment, error=("x", "y"))))
            await write_events(connection, [EventRecord(moment, "k", "info", None, "m", {})])
            await write_figures(connection, [Figure(moment, "n", {}, 1)])
    taken = await prune(database, NOW)
    for table, days in ages.items():
        left = await rows(database, table)
        assert len(left) == days // 5, table.name
        assert min(one["at_utc"] for one in left) >= NOW - timedelta(days=days)
        assert taken[table.name] == 80 - days // 5
    assert len(await rows(database, tables.plugin_metrics)) == 19
    assert await prune(database, NOW) == {}


async def test_of_too_many_the_oldest_go(database: Database) -> None:
    await write(database, *(record(request_id=f"r{number}") for number in range(30)))
    assert await prune(database, NOW, max_rows=10) == {"command_history": 20}
    left = [one["request_id"] for one in await rows(database, tables.command_history)]
    assert left == [f"r{number}" for number in range(20, 30)]


async def test_one_of_many_prunes_and_again_an_hour_later(database: Database) -> None:
    async def claim(now: datetime) -> int:
        return sum(await asyncio.gather(*(is_mine(database, now) for _ in range(8))))

    assert await claim(NOW) == 1
    assert await claim(NOW + timedelta(minutes=59)) == 0
    assert await claim(NOW + timedelta(minutes=61)) == 1
    # A clock that was wrong and was set right does not stop it until then.
    assert await claim(NOW) == 1


async def test_a_turn_prunes_once(database: Database) -> None:
    await write(database, record(at_s=AT_S - 91 * 86_400))
    pruners = [Pruner(database, lambda: AT_S) for _ in range(3)]
    taken = await asyncio.gather(*(pruner.turn() for pruner in pruners))
    expected = {"command_history": 1, "plugin_metrics": 1}
    assert sorted(taken, key=len) == [{}, {}, expected]


async def test_a_turn_without_a_database_is_no_failure(database: Database) -> None:
    await database.close()
    assert await Pruner(database, lambda: AT_S).turn() == {}
