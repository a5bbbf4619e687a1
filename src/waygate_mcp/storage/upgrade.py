"""From the tables of any earlier version to those of this one.

Knows which revision a database is at and how Alembic walks from there to ours, inside the transaction
it is given: all or nothing. Refuses to open anything. Alembic itself is loaded only where there are older
tables to change: it takes time and memory that the first start and every usual one do without.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.tables import VIEWS, counters, metadata

__all__ = ["HEAD", "current_revision", "upgrade"]

HEAD = "0001"
"""The newest revision under `migrations/versions`; a test compares."""

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x57415947
"""Number of PostgreSQL's advisory lock that lets one of several processes upgrade."""

_VERSION = sa.table("alembic_version", sa.column("version_num"))


def current_revision(connection: sa.Connection) -> str | None:
    """Give the revision the tables are at, None for a database that has none."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(sa.select(_VERSION.c.version_num)).scalar()


def upgrade(connection: sa.Connection, to: str = HEAD) -> bool:
    """Bring the tables to revision `to`; gives whether there was anything to do.

    Raises:
        StorageError: the tables are of a version of the program that this one does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = current_revision(connection)
    if found == to:
        return False
    if found is None and to == HEAD:
        _make(connection)
    else:
        _walk(connection, found, to)
    return True


def _make(connection: sa.Connection) -> None:
    """Make the tables of an empty database as they are now; the same as walking all revisions is."""
    metadata.create_all(connection)
    for name, query in VIEWS.items():
        connection.execute(sa.text(f"CREATE VIEW {name} AS {query}"))
    connection.execute(sa.insert(counters).values(name="version", value=0))
    stamp = sa.Table(
        _VERSION.name,
        sa.MetaData(),
        sa.Column("version_num", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
    )
    stamp.create(connection)
    connection.execute(sa.insert(stamp).values(version_num=HEAD))


def _walk(connection: sa.Connection, found: str | None, to: str) -> None:
    # Loaded here: it costs a quarter of a second and 13 MB, and is wanted once in a version's life.
    alembic_config: Any = importlib.import_module("alembic.config")
    environment: Any = importlib.import_module("alembic.runtime.environment")
    scripts: Any = importlib.import_module("alembic.script")
    config = alembic_config.Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    script = scripts.ScriptDirectory.from_config(config)
    if found is not None and found not in {one.revision for one in script.walk_revisions()}:
        raise StorageError(
            f"the database is at revision {found}, which this version of Waygate does not know: "
            "it was written by a newer one. Use that, or restore a backup"
        )

    def steps(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs(to, revision)  # noqa: SLF001 - the way Alembic's own commands go

    with environment.EnvironmentContext(config, script, fn=steps) as context:
        context.configure(connection=connection)
        context.run_migrations()
