"""Backups: one file with the database and the small files of the data folder, and the way back.

Knows how each database is copied while it is used, what is taken along and how a copy is checked.
Refuses to take the master key and what lives as long as the process: who finds a backup finds
hashes and ciphertext. A backup is restored over nothing that is in use.

    waygate-….tar   manifest.json           what it holds: size and digest of each, and where it is from
                    database.sqlite         or database.dump, of `pg_dump`
                    data/keys.json …        files of the data folder; data/audit/… the audit journal
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import URL

from waygate_mcp.config.secrets import KEY_FILE
from waygate_mcp.errors import StorageError
from waygate_mcp.storage.engine import Database
from waygate_mcp.storage.in_use import locked_alone
from waygate_mcp.storage.upgrade import HEAD

__all__ = ["Manifest", "back_up", "check_backup", "default_name", "restore"]

MANIFEST = "manifest.json"
SQLITE, DUMP = "database.sqlite", "database.dump"
DATA = "data"
FOLDERS = ("audit",)
"""Folders of the data folder that are taken whole."""
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
TOOL_S = 3600.0
"""How long `pg_dump` or `pg_restore` may take."""
_CHUNK = 1024 * 1024


class Part(msgspec.Struct, frozen=True):
    """One file of a backup."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `revision` is that of the tables, `version` of the program."""

    format: Literal[1]
    database: Literal["sqlite", "postgresql"]
    revision: str | None
    version: str
    made_at: str
    parts: list[Part]


async def back_up(
    database: Database, data_dir: Path, target: Path, *, now: datetime, version: str
) -> Manifest:
    """Copy an open database and the data folder into a new file `target`, which only its owner may read.

    The server may run. Nothing is left at `target` where it fails.

    Raises:
        StorageError: `target` exists, the copy failed, or is not sound.
    """
    revision = await database.revision()
    kind: Literal["sqlite", "postgresql"] = "sqlite" if database.is_sqlite else "postgresql"
    empty = Manifest(1, kind, revision, version, now.isoformat(timespec="seconds"), [])
    return await asyncio.to_thread(_back_up, database, data_dir, target, empty)


def check_backup(source: Path) -> Manifest:
    """Read all of a backup, compare every digest, and let SQLite look at its copy.

    Raises:
        StorageError: it is damaged, cut off, or none of ours.
    """
    with _unpacked(source) as (manifest, _):
        return manifest


async def restore(database: Database, data_dir: Path, source: Path, *, now: datetime) -> Manifest:
    """Put a backup in place of what is there. `database` is not open, and no server uses it.

    A file of SQLite that was there is kept beside the new one, with the time in its name; tables
    of PostgreSQL are replaced in one transaction.

    Raises:
        StorageError: the backup is not sound or of another kind of database, something uses the
            database, or it could not be written.
    """
    if not database.is_sqlite:
        async with database:  # makes an empty database's tables too, so that there is one to ask
            if others := await _others(database):
                raise StorageError(
                    f"{others} other connections use the database; stop every server first"
                )
    return await asyncio.to_thread(_restore, database, data_dir, source, now)


async def _others(database: Database) -> int:
    """Count who else is connected; ours are those of this one process."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
        "AND application_name <> current_setting('application_name')"
    )
    async with database.reading() as connection:
        return int((await connection.execute(query)).scalar_one())


def _back_up(database: Database, data_dir: Path, target: Path, empty: Manifest) -> Manifest:
    if target.exists():
        raise StorageError(f"{target} exists; a backup never overwrites")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as folder:
            copy = Path(folder) / (SQLITE if database.is_sqlite else DUMP)
            if database.path is not None:
                _copy_sqlite(database.path, copy)
            else:
                _run_tool(["pg_dump", "--format=custom", "--no-owner", "--no-privileges",
                           "--file", str(copy)], database.url)  # fmt: skip
            files = [(copy.name, copy), *_files_of(data_dir)]
            draft = Path(folder) / "draft.tar"
            parts = _pack(draft, files, empty)
            os.link(draft, target)  # unlike a rename, it never overwrites
            _sync_folder(target.parent)
    except OSError as exc:
        raise StorageError(f"the backup was not written: {exc.strerror or exc}") from exc
    return msgspec.structs.replace(empty, parts=parts)


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy in one step: one state of the database, while others go on writing.

    Raises:
        StorageError: SQLite cannot read it, or the copy is damaged.
    """
    try:
        with closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as old:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(target)) as new:
                old.backup(new)
                new.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as exc:
        raise StorageError(f"the database cannot be copied: {exc}") from exc
    _examine(target)


def _examine(copy: Path) -> None:
    """Let SQLite look at every page.

    Raises:
        StorageError: it found something.
    """
    try:
        with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            found = [str(row[0]) for row in opened.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as exc:
        found = [str(exc)]
    if found != ["ok"]:
        raise StorageError(f"the copy of the database is damaged: {'; '.join(found)[:500]}")


def _files_of(data_dir: Path) -> Iterator[tuple[str, Path]]:
    """Give what of the data folder is taken along, by its name in the backup."""
    for path in sorted(data_dir.glob("*.json")):
        if path.is_file() and not path.is_symlink():
            yield f"{DATA}/{path.name}", path
    for folder in FOLDERS:
        for path in sorted((data_dir / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield f"{DATA}/{path.relative_to(data_dir).as_posix()}", path


def _pack(draft: Path, files: list[tuple[str, Path]], empty: Manifest) -> list[Part]:
    """Write the archive, the manifest last, when all digests are known; it is on the disk then."""
    parts: list[Part] = []
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        with tarfile.open(fileobj=handle, mode="w") as archive:
            for name, path in files:
                with path.open("rb") as content:
                    # A journal may grow meanwhile: as much is taken as it has now.
                    reader = _Digesting(content, os.fstat(content.fileno()).st_size)
                    archive.addfile(_member(name, reader.size), reader)
                parts.append(Part(name, reader.size, reader.digest.hexdigest()))
            text = msgspec.json.encode(msgspec.structs.replace(empty, parts=parts))
            archive.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
        handle.flush()
        os.fsync(handle.fileno())
    return parts


class _Digesting(io.RawIOBase):
    """The first `size` bytes of a file, and their digest once they were read."""

    def __init__(self, content: IO[bytes], size: int) -> None:
        self.size = size
        self.digest = hashlib.sha256()
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self.digest.update(data)
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class _unpacked:  # noqa: N801 - used as a verb: `with _unpacked(source) as …`
    """A backup in a folder of its own, checked; the folder goes when this is left."""

    def __init__(self, source: Path, beside: Path | None = None) -> None:
        self._source = source
        self._beside = beside

    def __enter__(self) -> tuple[Manifest, Path]:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix=".restore-", dir=self._beside)
        except OSError as exc:
            raise StorageError(f"no room to unpack: {exc.strerror}") from exc
        folder = Path(self._folder.name)
        try:
            manifest = _unpack(self._source, folder)
            if manifest.database == "sqlite":
                _examine(folder / SQLITE)
        except (OSError, EOFError, tarfile.TarError, msgspec.MsgspecError) as exc:
            self._folder.cleanup()
            raise StorageError(f"{self._source} is no sound backup: {exc}") from exc
        except StorageError:
            self._folder.cleanup()
            raise
        return manifest, folder

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _unpack(source: Path, folder: Path) -> Manifest:
    """Write what the manifest names into `folder`; names that lead elsewhere are refused."""
    with tarfile.open(source, mode="r:") as archive:
        members = {one.name: one for one in archive.getmembers() if one.isreg()}
        if MANIFEST not in members or members[MANIFEST].size > MAX_MANIFEST_BYTES:
            raise StorageError(f"{source} is no backup of Waygate: it has no manifest")
        text = archive.extractfile(members[MANIFEST])
        manifest = msgspec.json.decode(text.read() if text else b"", type=Manifest)
        names = [part.name for part in manifest.parts]
        if (SQLITE if manifest.database == "sqlite" else DUMP) not in names:
            raise StorageError(f"{source} holds no database")
        for part in manifest.parts:
            path = folder / _safe(part.name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = archive.extractfile(members[part.name]) if part.name in members else None
            if content is None:
                raise StorageError(f"{source} lacks {part.name}")
            digest = hashlib.sha256()
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                while data := content.read(_CHUNK):
                    digest.update(data)
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != part.sha256:
                raise StorageError(f"{source} is damaged: {part.name} is not what was backed up")
    return manifest


def _safe(name: str) -> PurePosixPath:
    """Give the place of a part below a folder.

    Raises:
        StorageError: it is none of those we write.
    """
    path = PurePosixPath(name)
    is_ours = name in (SQLITE, DUMP) or (len(path.parts) > 1 and path.parts[0] == DATA)
    if not is_ours or ".." in path.parts or KEY_FILE in path.parts or path.is_absolute():
        raise StorageError(f"the backup names a file that is none of ours: {name[:100]!r}")
    return path


def _restore(database: Database, data_dir: Path, source: Path, now: datetime) -> Manifest:
    place = data_dir if database.path is None else database.path.parent
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _unpacked(source, place) as (manifest, folder):
            if (manifest.database == "sqlite") != database.is_sqlite:
                raise StorageError(f"the backup is of {manifest.database}, the database is not")
            if manifest.revision is not None and manifest.revision > HEAD:
                raise StorageError("the backup was made by a newer version of Waygate; use that")
            if database.path is not None:
                with locked_alone(database.path):
                    _put_sqlite(folder / SQLITE, database.path, now)
            else:
                _run_tool(["pg_restore", "--clean", "--if-exists", "--no-owner", "--no-privileges",
                           "--single-transaction", "--exit-on-error",
                           "--dbname", str(database.url.database or ""), str(folder / DUMP)],
                          database.url)  # fmt: skip
            _put_files(folder / DATA, data_dir)
    except OSError as exc:
        raise StorageError(f"the backup was not restored: {exc.strerror or exc}") from exc
    return manifest


def _put_sqlite(copy: Path, path: Path, now: datetime) -> None:
    """Move what was there aside, with its companions, and the copy in its place."""
    aside = path.with_name(f"{path.name}.before-{now.strftime('%Y%m%dT%H%M%SZ')}")
    for ending in ("-wal", "-shm", ""):
        old = path.with_name(path.name + ending)
        if old.exists():
            old.rename(aside.with_name(aside.name + ending))
    copy.rename(path)
    _sync_folder(path.parent)


def _put_files(folder: Path, data_dir: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target = data_dir / path.relative_to(folder)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.restored")
            shutil.copyfile(path, draft)
            draft.chmod(0o600)
            draft.rename(target)
    _sync_folder(data_dir)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run_tool(command: list[str], url: URL) -> None:
    """Run a tool of PostgreSQL; the password is in its environment, where other users see nothing.

    Raises:
        StorageError: it is not installed, failed, or took too long.
    """
    try:
        ran = subprocess.run(  # noqa: S603 - our own words; what is outside is in the environment
            command, env=_environment(url), capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=TOOL_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise StorageError(
            f"{command[0]} is not installed; on Debian: apt-get install postgresql-client"
        ) from None
    except subprocess.TimeoutExpired:
        raise StorageError(f"{command[0]} did not end within {TOOL_S:.0f} s") from None
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or ["no reason given"]
        raise StorageError(f"{command[0]} failed: {lines[0][:300]}")


def _environment(url: URL) -> dict[str, str]:
    def text(name: str) -> str | None:
        value = url.query.get(name)
        return value if value is None or isinstance(value, str) else value[0]

    given = {
        "PGHOST": url.host or text("host"),
        "PGPORT": str(url.port) if url.port else text("port"),
        "PGUSER": url.username,
        "PGPASSWORD": None if url.password is None else str(url.password),
        "PGDATABASE": url.database,
        "PGSSLMODE": text("ssl") or text("sslmode"),
        "PGCONNECT_TIMEOUT": "10",
    }
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {name: value for name, value in given.items() if value}


def default_name(now: datetime) -> str:
    """Give the name of a backup that is given none."""
    return f"waygate-{now.strftime('%Y%m%dT%H%M%SZ')}.tar"
