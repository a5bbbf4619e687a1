"""Every test of the storage runs on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Cluster, postgres, programs
from waygate_mcp.storage.engine import Database, database_url

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL for all tests of this process."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres() as running:
        yield running


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    return address_of(request.param, request, tmp_path)


def address_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Make an empty database of a kind, for a fixture that has more kinds than these."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'waygate.db'}"
    made: Cluster = request.getfixturevalue("cluster")
    return made.make()


@pytest.fixture
async def database(address: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database of each kind, its tables made."""
    async with Database(database_url(address, tmp_path)) as opened:
        yield opened
