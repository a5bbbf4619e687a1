"""Kills a gateway and its neighbours in mid-work, again and again, and looks for what they had acknowledged.

Knows cycles: a gateway under calls and an administrator (`acknowledged`), and a process that writes beside it, all on
one database; `kill -9` at a random moment; every row and record that was acknowledged is there, whole; then the gateway
again, ready within a bound, and keys are what they were. Now and then PostgreSQL itself is killed first.
`bench/kills.py` runs hundreds of cycles, the suite a few.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.gateway_process import KEY, clean_environment, waygate, write_document
from tests.support.acknowledged import (
    CHANGING,
    TOOLS,
    UPSTREAM,
    Acknowledged,
    Records,
    administer,
    heads_of,
    missing_approvals,
    status_of,
)
from tests.support.ports import free_port
from tests.support.postgres import Cluster

DOCUMENT = {
    "version": 1,
    "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
    "upstreams": {
        UPSTREAM: {
            "command": sys.executable,
            "args": ["-u", "-c", CHANGING, str(TOOLS)],
            "quarantine": "on",
            "sandbox": "none",
        }
    },
}
READY_S = 60.0
"""After which a start counts as failed, however slow the machine is."""
SETTLED_S = 2.0
"""A call that was answered this long before the kill should be in the history."""
SAMPLED = 3
"""Keys asked with after each start, of those made and of those revoked last."""
BODY = json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
    "params": {
        "name": "echo", "arguments": {"text": "x"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "kills", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
})  # fmt: skip
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "echo",
    "Authorization": f"Bearer {KEY}",
}

# Each key is made together with a counter of its name, which nobody prunes, and every other one is revoked.
# What is printed was acknowledged: the transaction was left without an error.
WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
import sqlalchemy as sa
from waygate_mcp.errors import StorageError
from waygate_mcp.storage.engine import Database, database_url, next_version
from waygate_mcp.storage.tables import api_keys, counters

sys.stdin.readline()

async def main(url, name):
    async with Database(database_url(url, Path("."))) as database:
        for number in range(1_000_000):
            key, now = f"{name}-{number}", datetime.now(UTC)
            async with database.writing() as connection:
                version = await next_version(connection)
                await connection.execute(sa.insert(api_keys).values(
                    id=key, digest=b"d", name=key, roles=[], narrowing={}, limits={},
                    created_at_utc=now, created_by="kills", changed_at_utc=now, version=version))
                await connection.execute(sa.insert(counters).values(name=key, value=version))
            print("made", key, flush=True)
            if number % 2:
                async with database.writing() as connection:
                    version = await next_version(connection)
                    await connection.execute(sa.update(api_keys).where(api_keys.c.id == key).values(
                        revoked_at_utc=now, version=version))
                print("revoked", key, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Findings:
    """What all cycles together showed; `problems` is empty where nothing was lost."""

    cycles: int = 0
    made: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    approvals: int = 0
    records: int = 0
    answered: int = 0
    late: int = 0
    ready_s: list[float] = field(default_factory=list)
    database_kills: int = 0
    problems: list[str] = field(default_factory=list)


class Kills:
    """One database and the folder of one gateway. `address` is of the database, `cluster` its PostgreSQL."""

    def __init__(
        self, folder: Path, address: str, cluster: Cluster | None, seed: int, longest_s: float = 1.5
    ) -> None:
        self.found = Findings()
        self._folder = folder
        self._address = address
        self._cluster = cluster
        self._random = random.Random(seed)
        self._longest_s = longest_s
        self._settled: set[str] = set()
        self.done = Acknowledged()
        self._records = Records(folder / "data")
        write_document(folder, DOCUMENT)

    def run(self, cycles: int, every_database_kill: int = 10, within_s: float = 1e9) -> Findings:
        """Run `cycles` of them, fewer where the time is over, and look at everything after each."""
        over_s = time.monotonic() + within_s
        for number in range(cycles):
            if time.monotonic() > over_s:
                break
            kills_database = self._cluster is not None and number % every_database_kill == 2
            self._cycle(number, kills_database=kills_database)
            self.look(number)
            self.found.cycles += 1
            if self.found.problems:
                break
        return self.found

    def _cycle(self, number: int, *, kills_database: bool) -> None:
        answered: dict[str, float] = {}
        stop = threading.Event()
        writer = self._writer(f"c{number}")
        said: list[str] = []
        with self._gateway(number) as (port, gateway):
            self._ask_with_keys(number, port)
            acts = len(self.done.acts)
            threads = [
                threading.Thread(target=_listen, args=(writer, said), daemon=True),
                threading.Thread(target=administer, args=(port, self.done, stop), daemon=True),
            ]
            threads += [
                threading.Thread(
                    target=_call, args=(port, f"c{number}t{each}", answered, stop), daemon=True
                )
                for each in range(2)
            ]
            for thread in threads:
                thread.start()
            _begin(writer)
            approvals = self.done.approvals
            _until(lambda: bool(said) and self.done.approvals > approvals, gateway)
            time.sleep(self._random.uniform(0.0, self._longest_s))
            if kills_database and self._cluster is not None:
                self._cluster.kill()
                self.found.database_kills += 1
            victims: list[subprocess.Popen[Any]] = [gateway, writer]
            self._random.shuffle(victims)
            for victim in victims:
                victim.kill()
            killed_s = time.monotonic()
            stop.set()
            for victim in victims:
                victim.wait(20)
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive(), "somebody waits for a gateway that is gone"
        if kills_database and self._cluster is not None:
            self._cluster.start()
        for line in said:
            what, key = line.split()
            (self.found.made if what == "made" else self.found.revoked).add(key)
        if self.done.refused and not kills_database:
            self.found.problems.append(f"cycle {number}: refused {self.done.refused[:3]}")
        self.done.refused.clear()
        self.found.made |= self.done.made.keys()
        self.found.revoked |= self.done.revoked.keys()
        self.found.answered += len(answered)
        self._look_at_records(number, answered, acts)
        early = () if kills_database else answered.items()
        self._settled |= {one for one, at_s in early if killed_s - at_s > SETTLED_S}

    def _ask_with_keys(self, number: int, port: int) -> None:
        """Ask the gateway that came back: keys it made are good, keys it revoked are not."""
        made, revoked = self.done.made, self.done.revoked
        for id_ in list(revoked)[-SAMPLED:]:
            if (status := status_of(port, revoked[id_])) != 401:
                self.found.problems.append(f"cycle {number}: revoked key {id_} got {status}")
        for id_ in [one for one in made if one not in self.done.doubtful][-SAMPLED:]:
            if (status := status_of(port, made[id_])) != 200:
                self.found.problems.append(f"cycle {number}: key {id_} got {status}")

    def _look_at_records(self, number: int, answered: dict[str, float], acts: int) -> None:
        """Verify what this cycle wrote into the journal, against the heads the database holds."""
        rows = self._rows("SELECT chain, sequence, mac, signature FROM audit_heads")
        wrong = self._records.look(answered, self.done.acts[acts:], heads_of(rows))
        self.found.problems += [f"cycle {number}: {one}" for one in wrong]
        self.found.records = self._records.read
        self.found.approvals = self.done.approvals

    @contextlib.contextmanager
    def _gateway(self, number: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
        port = free_port()
        environment = clean_environment(self._folder) | {"WAYGATE_DB_URL": self._address}
        command = [
            waygate(),
            "serve",
            "-c",
            str(self._folder / "waygate.yaml"),
            "--port",
            str(port),
        ]
        started_s = time.monotonic()
        with (self._folder / "output.log").open("wb") as log:
            gateway = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            _until_ready(gateway, port, self._folder / "output.log")
            if number:  # the first one had to make the tables
                self.found.ready_s.append(time.monotonic() - started_s)
            yield port, gateway
        finally:
            gateway.kill()
            gateway.wait(20)

    def _writer(self, name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WRITER, self._address, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            cwd=self._folder, env=clean_environment(self._folder),
        )  # fmt: skip

    def look(self, number: int) -> None:
        """Compare the database with what was acknowledged, without any code of ours between."""
        found, problems = self.found, self.found.problems
        keys = {row[0]: row[1] == "1" for row in self._rows(
            "SELECT id, CASE WHEN revoked_at_utc IS NULL THEN '0' ELSE '1' END FROM api_keys"
        )}  # fmt: skip
        written = {key for key in keys if "-" in key}  # those of the writer
        counted = {row[0] for row in self._rows("SELECT name FROM counters WHERE name LIKE '%-%'")}
        pins = self._rows("SELECT name, digest FROM tool_pins")
        if lost := found.made - keys.keys():
            problems.append(f"cycle {number}: keys lost: {sorted(lost)[:5]}")
        if alive := {key for key in found.revoked if not keys.get(key)}:
            problems.append(f"cycle {number}: revocations lost: {sorted(alive)[:5]}")
        if forgotten := missing_approvals(self.done, [(row[0], row[1]) for row in pins]):
            problems.append(f"cycle {number}: approvals lost: {forgotten[:5]}")
        if counted != written:
            problems.append(f"cycle {number}: half a transaction is there")
        versions = [row[0] for row in self._rows("SELECT version FROM api_keys")]
        if len(set(versions)) != len(versions):
            problems.append(f"cycle {number}: a version was given twice")
        if self._cluster is None:
            sound = self._rows("PRAGMA integrity_check")
            if sound != [("ok",)]:
                problems.append(f"cycle {number}: {sound}")
        kept = {row[0] for row in self._rows("SELECT request_id FROM command_history")}
        found.late = len(self._settled - kept)

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self._cluster is None:
            path = self._address.removeprefix("sqlite:///")
            with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
                return connection.execute(statement).fetchall()
        name = self._address.partition("@/")[2].partition("?")[0]
        lines = self._cluster.sql(statement, name).splitlines()
        return [tuple(line.split("|")) for line in lines]


def _listen(process: subprocess.Popen[str], lines: list[str]) -> None:
    """Take whole lines; half a line was never acknowledged."""
    assert process.stdout is not None
    with process.stdout as output:
        lines.extend(line for line in output if line.endswith("\n"))


def _call(port: int, name: str, answered: dict[str, float], stop: threading.Event) -> None:
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line,
    ):
        for number in range(1_000_000):
            if stop.is_set():
                return
            asked = f"{name}n{number}-{os.getpid()}"
            line.request("POST", "/mcp", BODY, HEADERS | {"X-Request-ID": asked})
            answer = line.getresponse()
            answer.read()
            if answer.status == 200 and answer.headers["X-Request-ID"] == asked:
                answered[asked] = time.monotonic()


def _begin(writer: subprocess.Popen[str]) -> None:
    """Let the writer, which has loaded its libraries meanwhile, begin."""
    assert writer.stdin is not None
    with writer.stdin as line:
        line.write("go\n")


def _until(fact: Callable[[], bool], gateway: subprocess.Popen[bytes]) -> None:
    """Wait until all work is under way: a kill before says little."""
    give_up_s = time.monotonic() + READY_S
    while not fact():
        assert time.monotonic() < give_up_s, "the writer or the administrator does nothing"
        assert gateway.poll() is None, "the gateway ended by itself"
        time.sleep(0.02)


def _until_ready(gateway: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_s = time.monotonic() + READY_S
    while time.monotonic() < give_up_s:
        assert gateway.poll() is None, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(OSError, http.client.HTTPException):
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(line):
                line.request("GET", "/ready")
                if line.getresponse().status == 200:
                    return
        time.sleep(0.02)
    raise AssertionError(f"not ready after {READY_S:.0f} s")
