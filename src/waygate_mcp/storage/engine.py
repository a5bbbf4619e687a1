"""One database: SQLite in the data folder, or PostgreSQL.

Knows how a connection is made, how reading and writing begin, and how what fails is told. Refuses to
know any table. A transaction that writes takes SQLite's write lock at its beginning, so that two that
read and then write cannot both be right (threat model rule 31); when `writing` is left without an
error, what was written is on the disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from waygate_mcp.errors import ConfigError, StorageError
from waygate_mcp.storage.in_use import use
from waygate_mcp.storage.tables import counters, metadata
from waygate_mcp.storage.upgrade import HEAD, current_revision, upgrade

__all__ = ["Database", "DatabaseState", "database_url", "next_version"]

FILE_NAME = "waygate.db"
BUSY_S = 5.0
"""How long a statement waits for SQLite's write lock."""
CONNECT_S = 5.0
STATEMENT_S = 15.0
POOL_SIZE = 5
POOL_WAIT_S = 10.0

_WRITES = "waygate_writes"


def database_url(given: str | None, data_dir: Path) -> URL:
    """Give the address of the database: the one that is set, or SQLite in the data folder.

    Raises:
        ConfigError: it is no address, or of a database we do not know.
    """
    if given is None:
        return URL.create("sqlite+aiosqlite", database=str(data_dir / FILE_NAME))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "is no database address; postgresql+asyncpg://USER:PASSWORD@HOST/NAME is one",
            path="WAYGATE_DB_URL",
        ) from None
    kind = url.drivername.partition("+")[0]
    if kind in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+asyncpg")
    if kind == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite+aiosqlite")
    raise ConfigError(
        f"{url.drivername} is not known; sqlite:///FILE and postgresql+asyncpg://… are",
        path="WAYGATE_DB_URL",
    )


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """How a database is. `place` holds no password; `rows` are there for tables of our revision."""

    place: str
    kind: str
    revision: str | None
    newest: str
    size_bytes: int
    rows: Mapping[str, int]

    @property
    def is_current(self) -> bool:
        """Whether its tables are this version's."""
        return self.revision == self.newest


class Database:
    """Opens with `async with`: makes the file or connects, and brings the tables up to date.

    `is_sqlite` tells which of the two it is. Usable from one event loop.
    """

    def __init__(self, url: URL, *, pool_size: int = POOL_SIZE) -> None:
        self.url = url
        self.is_sqlite = url.drivername.startswith("sqlite")
        self._pool_size = pool_size
        self._engine: AsyncEngine | None = None
        self._in_use: int | None = None

    @property
    def path(self) -> Path | None:
        """The file of SQLite, None for PostgreSQL."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"Database({self.url.render_as_string(hide_password=True)})"

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            StorageError: it cannot be reached, is damaged, or belongs to a newer version of us.
        """
        await self.open(upgrade_tables=True)
        return self

    async def open(self, *, upgrade_tables: bool) -> None:
        """Open it, and bring the tables up to date where wanted. As `async with` does.

        Raises:
            StorageError: see `__aenter__`.
        """
        if self.path is not None:
            _make_file(self.path)
            self._in_use = use(self.path)
        self._engine = _engine(self.url, self._pool_size)
        try:
            with _translated():
                async with self._engine.connect() as connection:
                    await connection.execute(sa.select(1))
            if upgrade_tables:
                await self.upgrade()
        except BaseException:
            await self.close()
            raise

    async def upgrade(self) -> bool:
        """Bring the tables up to date; gives whether there was anything to do.

        Raises:
            StorageError: it failed, and nothing was changed; or the tables are newer than we are.
        """
        if await self.revision() == HEAD:
            return False  # the usual start takes no lock
        async with self.writing() as connection:
            return await connection.run_sync(upgrade)

    async def revision(self) -> str | None:
        """Give the revision the tables are at, None where there are none."""
        async with self.reading() as connection:
            return await connection.run_sync(current_revision)

    async def state(self) -> DatabaseState:
        """Look at all of it; counting rows may take a while.

        Raises:
            StorageError: it does not answer.
        """
        revision, rows = await self.revision(), {}
        size = "SELECT pg_database_size(current_database())"
        if self.is_sqlite:
            size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        async with self.reading() as connection:
            size_bytes = int((await connection.execute(sa.text(size))).scalar_one())
            if revision == HEAD:
                for table in metadata.sorted_tables:
                    count = sa.select(sa.func.count()).select_from(table)
                    rows[table.name] = int((await connection.execute(count)).scalar_one())
        place = self.url.render_as_string(hide_password=True)
        kind = "sqlite" if self.is_sqlite else "postgresql"
        return DatabaseState(
            str(self.path) if self.path else place, kind, revision, HEAD, size_bytes, rows
        )

    async def ping(self) -> None:
        """Ask for nothing, to see whether anybody answers.

        Raises:
            StorageError: nobody does.
        """
        async with self.reading() as connection:
            await connection.execute(sa.select(1))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections. Safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        descriptor, self._in_use = self._in_use, None
        if descriptor is not None:
            os.close(descriptor)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads one state of the database.

        Raises:
            StorageError: the database did not do as it was asked, in time.
        """
        with _translated():
            async with self._opened().connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: durable once this is left, undone where it is left by an error.

        Raises:
            StorageError: nothing was written. A commit whose answer was lost is an error too.
        """
        with _translated():
            async with self._opened().connect() as connection:
                await connection.execution_options(**{_WRITES: True})
                async with connection.begin():
                    yield connection

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise StorageError("the database is not open")
        return self._engine


async def next_version(connection: AsyncConnection) -> int:
    """Take the next number of the counter that orders all changes, inside a writing transaction.

    Writers follow each other from here to their commit, so that numbers become visible in order.
    """
    statement = (
        sa.update(counters)
        .where(counters.c.name == "version")
        .values(value=counters.c.value + 1)
        .returning(counters.c.value)
    )
    return int((await connection.execute(statement)).scalar_one())


def _engine(url: URL, pool_size: int) -> AsyncEngine:
    if url.drivername.startswith("sqlite"):
        engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            hide_parameters=True,
            connect_args={"timeout": BUSY_S},
        )
        sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_S,
            "command_timeout": STATEMENT_S,
            # One name for all connections of a process, so that a restore can tell others from itself.
            "server_settings": {"application_name": f"waygate-{secrets.token_hex(4)}"},
        },
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Set what SQLite keeps for each connection; the driver's own transactions are switched off."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={int(BUSY_S * 1000)}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_file(path: Path) -> None:
    """Make the file before SQLite does, for its owner only; its companions take its mode.

    Raises:
        StorageError: the folder does not let us.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as exc:
        raise StorageError(f"cannot open the database {path}: {exc.strerror}") from exc


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the library and the drivers raise into a StorageError without statement or values."""
    try:
        yield
    except DBAPIError as exc:
        raise StorageError(f"the database refused: {_first_line(exc.orig)}") from exc
    except SQLAlchemyError as exc:
        raise StorageError(f"the database cannot be used: {_first_line(exc)}") from exc
    except (OSError, TimeoutError) as exc:
        reason = getattr(exc, "strerror", None) or "no answer in time"
        raise StorageError(f"the database cannot be reached: {reason}") from exc


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines() if error is not None else []
    return lines[0][:200] if lines else type(error).__name__
