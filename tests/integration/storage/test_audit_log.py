"""The copy of the journal, and heads anchored beside it, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.support.audit import KEYS
from waygate_mcp.audit.files import Head
from waygate_mcp.storage.audit_log import AuditLog
from waygate_mcp.storage.engine import Database

DAY = "2026-07-28T12:00:{:02d}.000Z"


def a_record(sequence: int, **more: Any) -> tuple[dict[str, Any], str]:
    record = {
        "chain": "c1",
        "sequence": sequence,
        "at": DAY.format(sequence),
        "kind": "outcome",
        "principal": "key:ada",
        "duration_ms": 1.5,
        **more,
    }
    return record, msgspec.json.encode(record).decode()


async def test_records_are_copied_once_and_found(database: Database) -> None:
    log = AuditLog(database)
    assert await log.last("c1") == 0
    await log.put([])
    await log.put([a_record(1), a_record(2, principal="key:bob", name="x' OR 1=1 --")])
    await log.put([a_record(2, principal="forged"), a_record(3)])
    assert await log.last("c1") == 3
    total, lines = await log.find({}, None, None, skip=0, limit=2)
    assert (total, [msgspec.json.decode(line)["sequence"] for line in lines]) == (3, [3, 2])
    total, lines = await log.find({"principal": "key:bob"}, None, None, skip=0, limit=9)
    assert (total, lines) == (1, [a_record(2, principal="key:bob", name="x' OR 1=1 --")[1]])
    assert (await log.find({"name": "x' OR 1=1 --"}, None, None, skip=0, limit=9))[0] == 1
    since, until = (datetime(2026, 7, 28, 12, 0, second, tzinfo=UTC) for second in (2, 3))
    assert (await log.find({}, since, until, skip=0, limit=9))[0] == 1
    assert await log.prune(until.timestamp()) == 2
    assert (await log.find({}, None, None, skip=0, limit=9))[0] == 1


async def test_the_newest_heads_are_kept_as_they_were_signed(database: Database) -> None:
    log = AuditLog(database)
    heads = [Head("c1", n, f"mac{n}", DAY.format(n), n == 5).signed(KEYS) for n in range(1, 6)]
    for head in (*heads, heads[-1]):
        await log.put_head(msgspec.to_builtins(head))
    kept = [msgspec.convert(head, Head) for head in await log.heads()]
    assert kept == heads[2:]
    assert all(KEYS.is_signed(head.text(), head.signature) for head in kept)
