"""A few cycles of what `bench/kills.py` does by the hundred: nothing that was acknowledged is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.kills import Kills
from tests.support.postgres import Cluster
from waygate_mcp.storage import tables
from waygate_mcp.storage.engine import Database, database_url

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
                for name in ("a", "b")
            ],
        )  # fmt: skip
    kills.found.made.update(["a", "never-written"])
    kills.found.revoked.add("a")
    kills.look(1)
    assert kills.found.problems == [
        "cycle 1: keys lost: ['never-written']",
        "cycle 1: revocations lost: ['a']",
        "cycle 1: half a transaction is there",
        "cycle 1: a version was given twice",
    ]
