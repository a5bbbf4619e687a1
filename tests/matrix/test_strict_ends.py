"""The two ends are strict: what a revision does not have is a complaint, and so is what its schema does not allow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.peers.strict_server import Line, StrictServer
from tests.support.strict_wire import REVISIONS, Wire, foreign_members

AUDIO = {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"}


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    ("method", "member", "since"),
    [
        ("completion/complete", "context", "2025-06-18"),
        ("tools/call", "task", "2025-11-25"),
        ("tools/call", "inputResponses", "2026-07-28"),
        ("resources/read", "requestState", "2026-07-28"),
        ("sampling/createMessage", "tools", "2025-11-25"),
    ],
)
def test_a_parameter_of_a_later_revision_is_foreign(method: str, member: str, since: str) -> None:
    for revision in REVISIONS:
        foreign = member in foreign_members(revision, method)
        if revision < since:
            assert foreign == Wire(revision).has(method)
        elif (member, revision) != ("task", "2026-07-28"):  # which has tasks as an extension
            assert not foreign


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_the_schema_does_not_allow_is_found(revision: str) -> None:
    wire = Wire(revision)
    good: dict[str, Any] = {"content": [{"type": "text", "text": "x"}]}
    good |= {"resultType": "complete"} if wire.is_modern else {}
    assert wire.problems_of_result(good, "tools/call") == []
    assert wire.problems_of_result({**good, "content": [{"type": "text"}]}, "tools/call")
    knows_audio = wire.problems_of_result({**good, "content": [AUDIO]}, "tools/call") == []
    assert knows_audio == (revision >= "2025-03-26")
    assert wire.problems_of_said(request("tools/call", arguments={}))
    assert wire.problems_of_said(request("tools/summon", name="x"))


@pytest.mark.parametrize("member", ["resultType", "ttlMs", "cacheScope", "requestState"])
def test_members_of_the_modern_era_are_found_in_legacy_results(member: str) -> None:
    for revision in REVISIONS[:-1]:
        result = {"content": [], member: "x"}
        assert Wire(revision).problems_of_result(result, "tools/call") == [
            f"tools/call: {member} is modern"
        ]
    meta: dict[str, Any] = {"io.modelcontextprotocol/serverInfo": {}}
    assert Wire(REVISIONS[0]).problems_of_result({"content": [], "_meta": meta}, "tools/call")


class _Client:
    """Says messages to a strict server and keeps what it complains of."""

    def __init__(self, revision: str) -> None:
        self.complaints: list[Any] = []
        self.answers: list[Any] = []
        self.line: Line = StrictServer(revision, self._note).line(self._send)

    def _note(self, event: str, what: Any) -> None:
        if event == "complaint":
            self.complaints.append(what)

    async def _send(self, message: Any) -> None:
        self.answers.append(message)

    async def say(self, message: Any) -> Any:
        async with asyncio.timeout(5):
            await self.line.take(message)
        return self.answers[-1]


async def test_a_strict_server_complains_of_what_comes_too_early_and_of_what_it_lacks() -> None:
    client = _Client("2025-06-18")
    await client.say(request("tools/list"))
    assert "before the handshake" in client.complaints.pop()
    info = {"name": "c", "version": "1"}
    hello = request("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=info)
    await client.say(hello)
    await client.line.take({"jsonrpc": "2.0", "method": "notifications/initialized"})
    await client.say(request("tools/list"))
    assert client.complaints == []
    answer = await client.say(request("tasks/list"))
    assert answer["error"]["code"] == -32601
    assert "has no tasks/list" in client.complaints.pop()
    await client.line.take({"jsonrpc": "2.0", "id": "nobody", "result": {}})
    assert "answers nothing" in client.complaints.pop()


async def test_a_strict_modern_server_wants_the_context_of_each_request() -> None:
    client = _Client("2026-07-28")
    prefix = "io.modelcontextprotocol/"
    meta = {
        prefix + "protocolVersion": "2026-07-28",
        prefix + "clientCapabilities": {},
        prefix + "clientInfo": {"name": "c", "version": "1"},
    }
    answer = await client.say(request("tools/list", _meta=meta))
    assert answer["result"]["resultType"] == "complete"
    assert client.complaints == []
    with pytest.raises(KeyError):
        await client.say(request("tools/list"))
    assert client.complaints
