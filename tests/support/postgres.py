"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, reached by its socket alone.

Knows Debian's packages. PostgreSQL refuses to run as root; then it runs as the user `postgres` the
package made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WITHIN_S = 60


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, the newest; None where it is not installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3])
    )
    return found[-1].parent if found else None


@dataclass
class Cluster:
    """A running PostgreSQL. `folder` holds its socket."""

    folder: Path
    bin: Path
    process: subprocess.Popen[bytes]
    _made: list[str] = field(default_factory=list)

    def make(self) -> str:
        """Make an empty database, and give its address."""
        name = f"test_{len(self._made) + 1}"
        self._made.append(name)
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0", "postgres")
        return f"postgresql+asyncpg://waygate@/{name}?host={self.folder}"

    def sql(self, statement: str, database: str) -> str:
        """Run a statement as the administrator, and give what it said."""
        ran = subprocess.run(
            [self.bin / "psql", "-h", self.folder, "-U", "waygate", "-At", "-c", statement, database],
            capture_output=True, text=True, timeout=_WITHIN_S, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_WITHIN_S)

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self.process = _start(self.bin, self.folder)


@contextmanager
def postgres() -> Iterator[Cluster]:
    """A cluster, stopped and removed at the end."""
    where = programs()
    assert where is not None, "ask `programs` first"
    # Its socket's path has 107 bytes at most: not below pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="wg-pg-"))
    try:
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = folder / "data"
        subprocess.run(
            [where / "initdb", "-D", data, "-U", "waygate", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, timeout=_WITHIN_S, **_as_postgres(),
        )  # fmt: skip
        cluster = Cluster(folder, where, _start(where, folder))
        try:
            yield cluster
        finally:
            cluster.process.send_signal(signal.SIGINT)
            cluster.process.wait(_WITHIN_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres() -> dict[str, Any]:
    """What lets a program run as `postgres` where we are root."""
    if os.getuid() != 0:
        return {}
    owner = pwd.getpwnam("postgres")
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": "/"}


def _start(where: Path, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [where / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=",
             "-c", "shared_buffers=16MB", "-c", "max_connections=60"],
            stdout=log, stderr=log, **_as_postgres(),
        )  # fmt: skip
    ready: list[str | Path] = [
        where / "pg_isready",
        "-q",
        "-h",
        folder,
        "-U",
        "waygate",
        "-d",
        "postgres",
    ]
    for _ in range(_WITHIN_S * 10):
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
        if subprocess.run(ready, check=False, timeout=_WITHIN_S).returncode == 0:
            return process
        subprocess.run(["sleep", "0.1"], check=True)
    process.kill()
    raise AssertionError("PostgreSQL does not answer")
