"""What a gateway acknowledged over HTTP until it was killed, and whether all of it is there afterwards.

Knows the work of an administrator: keys made and revoked, definitions approved. Refuses to know of kills and of the
gateway's life; `kills` does. What is compared is the database's own rows and the journal's own lines.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.integration.gateway_process import KEY
from waygate_mcp.audit.files import FOLDER, Head, chains_in
from waygate_mcp.audit.keys import AuditKeys
from waygate_mcp.audit.reading import records
from waygate_mcp.audit.verify import verify

UPSTREAM = "files"
TOOLS = 60
_MANY = 3
"""Definitions approved by one request."""

# Defines all its tools anew each time it is started: what was approved then waits again.
CHANGING = """
import json, os, sys

tools = [
    {"name": f"t{number}", "description": os.urandom(8).hex(), "inputSchema": {"type": "object"}}
    for number in range(int(sys.argv[1]))
]
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if message["method"] == "initialize":
        answer["result"] = {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "changing", "version": "1"},
        }
    elif message["method"] == "tools/list":
        answer["result"] = {"tools": tools}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
"""


@dataclass
class Acknowledged:
    """What all administrators were told was done. `asked` and `approved` are by a definition's name.

    `asked` are the digests an approval was sent for, in order; `approved` is how many of them, counted from the
    first, are behind us since the last one that was acknowledged.
    """

    made: dict[str, str] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    """Keys whose revocation was asked for: it may be done without having been acknowledged."""
    asked: dict[str, list[str]] = field(default_factory=dict)
    approved: dict[str, int] = field(default_factory=dict)
    approvals: int = 0
    acts: list[tuple[str, str]] = field(default_factory=list)
    """Action and what it was about: each must stand in the journal."""
    refused: list[str] = field(default_factory=list)
    """Answers that say it was not done. Right only where the database is gone."""


def administer(port: int, done: Acknowledged, stop: threading.Event) -> None:
    """Make keys, revoke every other one and approve what waits, until the gateway is gone or `stop` is set."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line,
    ):
        for number in range(1_000_000):
            if stop.is_set():
                return
            try:
                _act(line, done, number)
            except NotDoneError as refusal:
                done.refused.append(str(refusal))
                return


class NotDoneError(Exception):
    """The gateway answered that it did not do it."""


def _act(line: http.client.HTTPConnection, done: Acknowledged, number: int) -> None:
    wanted = {"name": f"n{number}", "roles": ["viewer"]}
    made = ask(line, "POST", "/admin/v1/keys", wanted, status=201)
    done.made[made["id"]] = made["key"]
    done.acts.append(("keys.create", made["id"]))
    if number % 2:
        done.doubtful.add(made["id"])
        ask(line, "DELETE", f"/admin/v1/keys/{made['id']}")
        done.revoked[made["id"]] = made["key"]
        done.acts.append(("keys.revoke", made["id"]))
    _approve(line, done)


def _approve(line: http.client.HTTPConnection, done: Acknowledged) -> None:
    waiting = ask(line, "GET", f"/admin/v1/approvals?limit={_MANY}")["approvals"]
    chosen = [{key: one[key] for key in ("upstream", "kind", "name", "digest")} for one in waiting]
    if not chosen:
        return
    for one in chosen:
        done.asked.setdefault(one["name"], []).append(one["digest"])
    answer = ask(line, "POST", "/admin/v1/approvals/decisions", {"definitions": chosen})
    for one in answer["decided"]:
        done.approved[one["name"]] = len(done.asked[one["name"]])
        done.approvals += 1
        done.acts.append(("approvals.approve", one["digest"]))


def ask(
    line: http.client.HTTPConnection, method: str, path: str, body: Any = None, status: int = 200
) -> Any:
    """Ask the admin API with the bootstrap key.

    Raises:
        NotDoneError: the answer was not the expected one.
    """
    sent = None if body is None else json.dumps(body)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    line.request(method, path, sent, headers)
    answer = line.getresponse()
    text = answer.read()
    if answer.status != status:
        raise NotDoneError(f"{method} {path}: {answer.status} {text[:500]!r}")
    return json.loads(text)


def status_of(port: int, key: str) -> int:
    """Give the status a key is answered with."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line:
        line.request("GET", "/mcp/status", headers={"Authorization": f"Bearer {key}"})
        answer = line.getresponse()
        answer.read()
        return answer.status


def missing_approvals(done: Acknowledged, rows: Sequence[tuple[str, str | None]]) -> list[str]:
    """Give the names whose digest in force (`rows`: name, digest) is older than the one acknowledged last."""
    in_force = dict(rows)
    lost = []
    for name, count in done.approved.items():
        digest = in_force.get(name)
        if digest not in done.asked[name][count - 1 :]:
            lost.append(name)
    return lost


class Records:
    """The audit journal of a gateway's data folder, looked at after each kill."""

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER
        self.read = 0
        self._key = data / "secret.key"
        self._seen: set[str] = set()

    def look(
        self, answered: Mapping[str, float], acts: Sequence[tuple[str, str]], heads: Sequence[Head]
    ) -> list[str]:
        """Give what is wrong with the chains begun since the last look: broken, or lacking what was acknowledged."""
        fresh = sorted({*chains_in(self.folder)} - self._seen)
        self._seen |= {*fresh}
        problems = []
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as copied:
            folder = Path(copied)
            for chain in fresh:
                for file in self.folder.glob(f"{chain}.*"):
                    if file.suffix != ".lock":  # held by the process that died
                        os.link(file, folder / file.name)
            keys = AuditKeys(self._key.read_text().strip().encode())
            report = verify(folder, keys, [head for head in heads if head.chain in fresh])
            self.read += report.records
            problems += [str(one) for one in report.findings if not one.is_note]
            ended: set[str] = set()
            recorded: set[tuple[str, str]] = set()
            for record, _ in records(folder):
                if record["kind"] == "outcome":
                    ended.add(str(record.get("request_id")))
                elif record["kind"] == "administration" and record["outcome"] == "done":
                    details: Any = record["details"]
                    about = [one["digest"] for one in details.get("definitions", [])]
                    about += [details["id"]] if "id" in details else []
                    recorded |= {(str(record["name"]), one) for one in about}
        if lost := answered.keys() - ended:
            problems.append(
                f"{len(lost)} answered calls are not in the journal: {sorted(lost)[:3]}"
            )
        if unwritten := set(acts) - recorded:
            problems.append(
                f"{len(unwritten)} acts are not in the journal: {sorted(unwritten)[:3]}"
            )
        return problems


def heads_of(rows: Sequence[tuple[Any, ...]]) -> list[Head]:
    """Read anchored heads from the database's rows: chain, sequence, mac, signature."""
    heads = []
    for chain, sequence, mac, text in rows:
        signature, _, rest = text.partition(":")
        closed, _, at = rest.partition(":")
        head = {"chain": chain, "sequence": int(sequence), "mac": mac, "at": at}
        heads.append(
            msgspec.convert({**head, "is_closed": closed == "1", "signature": signature}, Head)
        )
    return heads
