"""A few cycles of what `bench/kills.py` does by the hundred: nothing that was acknowledged is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.acknowledged import Records
from tests.support.kills import Kills
from tests.support.postgres import Cluster
from waygate_mcp.audit.files import FOLDER
from waygate_mcp.audit.journal import Journal
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.trail import Trail
from waygate_mcp.storage import tables
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.telemetry.redaction import Redactor

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def test_a_kill_loses_nothing_that_was_acknowledged(
    address: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cluster: Cluster | None = None
    if address.startswith("postgresql"):
        cluster = request.getfixturevalue("cluster")
    found = Kills(tmp_path, address, cluster, seed=4, longest_s=0.3).run(3)
    assert found.problems == []
    assert found.cycles == 3
    assert found.made
    assert found.revoked
    assert found.approvals
    assert found.records
    assert found.answered
    assert found.database_kills == (cluster is not None)


async def test_what_is_lost_is_found(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'waygate.db'}"
    kills = Kills(tmp_path, url, None, seed=5)
    async with Database(database_url(url, tmp_path)) as database, database.writing() as connection:
        await connection.execute(
            sa.insert(tables.api_keys),
            [
                {
                    "id": name, "digest": b"d", "name": name, "roles": [], "narrowing": {},
                    "limits": {}, "created_at_utc": NOW, "created_by": "x", "changed_at_utc": NOW,
                    "version": 1,
                }
                for name in ("w-1", "w-2")
            ],
        )  # fmt: skip
        pins = [(name, f"digest of {name}") for name in ("kept", "old", "newer")]
        await connection.execute(
            sa.insert(tables.tool_pins),
            [
                {
                    "upstream": "up", "kind": "tool", "name": name, "digest": digest,
                    "state": "approved", "first_seen_at_utc": NOW, "changed_at_utc": NOW, "version": 1,
                }
                for name, digest in pins
            ],
        )  # fmt: skip
    kills.found.made.update(["w-1", "never-written"])
    kills.found.revoked.add("w-1")
    kills.done.asked = {
        "kept": ["x", "digest of kept"],
        "old": ["digest of old", "acknowledged"],
        "newer": ["acknowledged", "digest of newer"],  # which was sent, and never answered
        "gone": ["acknowledged"],
    }
    kills.done.approved = {"kept": 2, "old": 2, "newer": 1, "gone": 1}
    kills.look(1)
    assert kills.found.problems == [
        "cycle 1: keys lost: ['never-written']",
        "cycle 1: revocations lost: ['w-1']",
        "cycle 1: approvals lost: ['old', 'gone']",
        "cycle 1: half a transaction is there",
        "cycle 1: a version was given twice",
    ]


def test_records_that_are_lost_are_found(tmp_path: Path) -> None:
    """A journal whose last record is cut off, and one that lacks a call and an act."""
    secret = tmp_path / "secret.key"
    secret.write_text("k" * 40)
    keys, folder = AuditKeys(secret.read_bytes()), tmp_path / FOLDER
    journal = Journal(folder, keys, NOW.timestamp)
    trail = Trail(journal, Redactor(), NOW.timestamp, lambda: 0.0)
    trail.record("keys.create", principal="p", details={"id": "there"})
    trail.record("keys.revoke", principal="p", details={"id": "there"}, outcome="begun")
    assert journal.close() is not None
    head = journal.head()
    journal.release()
    assert Records(tmp_path).look({}, [("keys.create", "there")], [head]) == []
    lacking = Records(tmp_path).look(
        {"asked": 1.0}, [("keys.create", "there"), ("keys.revoke", "there")], [head]
    )
    assert lacking == [
        "1 answered calls are not in the journal: ['asked']",
        "1 acts are not in the journal: [('keys.revoke', 'there')]",
    ]
    (file,) = folder.glob("*.jsonl")
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    (cut,) = Records(tmp_path).look({}, [("keys.create", "there")], [head])
    assert "cut" in cut
