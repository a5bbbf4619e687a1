"""Calls over REST: made as an MCP client's are, and answered in one piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange import Request, Response, modern_result
from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, Answer, ask, open_house, scope_of, settings_in
from tests.support.house_keys import key_for, revoke
from waygate_mcp.model.call import Reply
from waygate_mcp.runtime.house import House
from waygate_mcp.web.execute import _Nobody, _said, _whole
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.rest import RestDoor

PLUGIN = '''
import asyncio
from typing import Any
from pydantic import BaseModel
from waygate_mcp import Context, Toolbox, ToolError
from waygate_mcp.errors import RpcError
from waygate_mcp.model.call import InputRequired, Question

box = Toolbox()

class Name(BaseModel):
    name: str

@box.tool
async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b

@box.tool(structured=False)
async def told(ctx: Context) -> str:
    """Say what stands in `_meta`."""
    return repr(dict(ctx.request.meta))

@box.tool(structured=False)
async def reports(ctx: Context) -> str:
    """Report progress, a log line, and fail."""
    await ctx.report_progress(1)
    await ctx.info("so far")
    raise ToolError("no such file")

@box.tool(structured=False)
async def waits() -> str:
    """Wait."""
    with open(__file__ + ".begun", "a") as begun:
        begun.write("x")
    await asyncio.sleep(60)
    return "never"

@box.tool(structured=False)
async def asks(ctx: Context) -> str:
    """Ask."""
    return str(await ctx.elicit("Who?", Name))

@box.tool(structured=False)
async def refers(code: int) -> str:
    """Answer an error of the protocol."""
    raise RpcError(code, "not so", b'{"a":1}')
'''
DOCUMENT: dict[str, Any] = {
    "plugins": {"acts": {"use": "./acts.py"}},
    "endpoints": {"dev": {"tools": {"deny": ["add"]}}},
}


class Api:
    """The REST door of a house with that plugin."""

    def __init__(self, house: House[Guard]) -> None:
        self.house = house
        self._door = RestDoor(house)

    async def post(
        self, path: str, body: Any, key: tuple[bytes, bytes] = BEARER, length: str = ""
    ) -> Answer:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await self._door(scope, scope["raw_path"].decode(), receive, send)

        more = [(b"content-length", length.encode())] if length else []
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = (b"content-type", b"application/json")
        return await ask(serve, path, "POST", (HOST, key, content, *more), sent)

    async def run(self, action: str, **more: Any) -> Answer:
        return await self.post("/mcp/execute", {"action": action, **more})


def begun(folder: Path) -> str:
    """One letter for each call of `waits` that began."""
    file = folder / "acts.py.begun"
    return file.read_text(encoding="utf-8") if file.exists() else ""


@asynccontextmanager
async def open_api(folder: Path, **sections: Any) -> AsyncIterator[Api]:
    (folder / "acts.py").write_text(PLUGIN, encoding="utf-8")
    settings = settings_in(folder, {**DOCUMENT, **sections}, max_request_size=4_096)
    async with open_house(settings) as house:
        yield Api(house)


async def test_a_command_is_carried_out_and_a_tool_called_by_either_words(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.run("add", params={"a": 2, "b": 3})
        body = answer.json()
        assert (answer.status, body["status"], body["error"]) == (200, "success", None)
        assert body["result"]["structuredContent"] == {"result": 5}
        assert body["command_id"] == answer.header("x-request-id")
        assert 0 < body["duration_ms"] < 10_000
        assert body["timestamp"].endswith("Z")
        assert answer.header("cache-control") == "no-store"
        same = await api.post("/mcp/tools/execute", {"name": "add", "arguments": {"a": 2, "b": 3}})
        assert same.json()["result"] == body["result"]


async def test_context_reaches_the_tool_and_nothing_of_the_protocol_may_stand_in_it(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path) as api:
        said = (await api.run("told", context={"case": 7})).json()
        assert said["result"]["content"][0]["text"] == "{'case': 7}"
        for key in ("progressToken", "io.modelcontextprotocol/protocolVersion"):
            answer = await api.run("told", context={key: "x"})
            assert (answer.status, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")


async def test_a_failure_a_tool_reports_itself_is_an_answer(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.run("reports")
        body = answer.json()
        assert (answer.status, body["status"]) == (200, "failed")
        assert (body["error"]["code"], body["error"]["message"]) == ("TOOL_FAILED", "no such file")
        assert body["result"]["isError"] is True


async def test_what_takes_too_long_is_ended_and_said_to_be(tmp_path: Path) -> None:
    async with open_api(tmp_path, limits={"call_timeout_s": 0.05}) as api:
        answer = await api.run("waits", timeout=1)
        body = answer.json()
        assert (answer.status, body["status"], body["result"]) == (408, "timeout", None)
        assert (body["error"]["code"], body["error"]["request_id"]) == (
            "TIMEOUT",
            body["command_id"],
        )


async def test_a_tool_that_asks_is_told_that_nobody_can_answer(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.run("asks")
        assert (answer.status, answer.json()["status"]) == (400, "failed")
        assert "only MCP clients can answer" in answer.json()["error"]["message"]


async def test_an_upstream_gets_every_value_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def answered(request: Request) -> Response:
        asked.append(request)
        return modern_result(request, {"content": [{"type": "text", "text": "12"}]})

    server = FakeServer({"name": "buy", "inputSchema": {"type": "object"}})
    server.put_in_place(monkeypatch)
    real = server.answer
    monkeypatch.setattr(
        server, "answer", lambda method: answered if method == "tools/call" else real(method)
    )
    upstreams = {"shop": {"url": "https://shop.example.org/mcp"}}
    async with open_api(tmp_path, upstreams=upstreams) as api:
        body = b'{"action":"shop__buy","params":{"price":1.10,"n":12345678901234567890123},'
        answer = await api.post("/mcp/execute", body + b'"context":{"case":"7"}}')
        assert answer.json()["result"]["content"][0]["text"] == "12"
    (request,) = asked
    assert request.params["name"] == "buy"
    assert b'"arguments":{"price":1.10,"n":12345678901234567890123}' in request.body
    assert request.params["_meta"]["case"] == "7"


async def test_an_error_of_the_protocol_keeps_its_code_and_words(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        for code, status in ((-32602, 400), (1, 500)):
            answer = await api.run("refers", params={"code": code})
            error = answer.json()["error"]
            assert (answer.status, error["message"]) == (status, "not so")
            assert error["details"] == {"rpc_code": code}


BAD: list[Any] = [
    {"action": "add", "timeout": 0.5},
    {"action": "add", "timeout": 301},
    {"action": "add", "params": []},
    {"action": "add", "more": 1},
    {"action": ""},
    {"name": "add"},
    b"{",
    b"[" * 2_000,
    b'{"action": "add", "params": {"a": NaN}}',
    b'{"action": "add", "params": {"a": 1e999}}',
    b'{"action": "add", "params": {"a": 1, "a": 2}}',
    b'{"action": "told", "context": {"a": "\\ud800"}}',
]


async def test_a_body_that_cannot_be_is_400_in_our_envelope(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        for body in BAD:
            answer = await api.post("/mcp/execute", body)
            assert answer.status == 400, body
            assert answer.json()["error"]["code"] in ("INVALID_REQUEST", "MISSING_PARAMETER")


async def test_arguments_that_do_not_fit_are_named(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.run("add", params={"a": "two"})
        assert answer.status in (200, 400)
        assert answer.json()["status"] == "failed"
        assert "a" in answer.json()["error"]["message"] + str(answer.json()["error"]["details"])


async def test_a_body_over_the_limit_is_refused_and_so_is_one_that_breaks_off(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path) as api:
        answer = await api.run("told", context={"a": "x" * 5_000})
        assert (answer.status, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        declared = await api.post("/mcp/execute", b"{}", length="999999")
        assert declared.status == 413


async def test_what_may_not_be_called_is_not_there_and_nothing_is_called_without_leave(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path, roles={"adder": ["tools:list:add", "tools:call:add"]}) as api:
        missing = await api.run("nowhere")
        assert (missing.status, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
        denied = await api.post("/mcp/execute?endpoint=dev", {"action": "add", "params": {"a": 1}})
        assert denied.status == 404
        assert (await api.post("/mcp/execute?endpoint=gone", {"action": "add"})).status == 404
        narrow, viewer = await key_for(api.house, "adder"), await key_for(api.house, "viewer")
        allowed = await api.post("/mcp/execute", {"action": "add", "params": {"a": 1}}, narrow)
        assert allowed.status == 200
        hidden = await api.post("/mcp/execute", {"action": "told"}, narrow)
        assert hidden.status == 404
        refused = await api.post("/mcp/execute", {"action": "add"}, viewer)
        assert (refused.status, refused.json()["error"]["details"]) == (
            403,
            {"permission": "tools:call"},
        )
        elsewhere = await key_for(api.house, "operator", endpoints=("dev",))
        assert (await api.post("/mcp/execute", {"action": "add"}, elsewhere)).status == 404


async def test_a_call_is_counted_once_and_one_too_many_says_when_to_come_back(
    tmp_path: Path,
) -> None:
    rates = {"default": ["3/day"]}
    async with open_api(tmp_path, limits={"rates": rates}) as api:
        key = await key_for(api.house, "operator")
        statuses = [
            (await api.post("/mcp/execute", {"action": "add", "params": {"a": 1}}, key)).status
            for _ in range(3)
        ]
        assert statuses == [200, 200, 200]
        spent = await api.post("/mcp/execute", {"action": "add", "params": {"a": 1}}, key)
        assert (spent.status, spent.json()["error"]["code"]) == (429, "RATE_LIMITED")
        assert int(spent.header("retry-after") or 0) > 0
        assert spent.header("x-ratelimit-limit") == "3"


async def test_no_more_calls_are_under_way_than_the_document_allows(tmp_path: Path) -> None:
    limits = {"calls_in_flight_max": 1, "call_timeout_s": 1}
    async with open_api(tmp_path, limits=limits) as api:
        both = await asyncio.gather(api.run("waits"), api.run("waits"))
        slow, busy = sorted(both, key=lambda answer: answer.status)
        assert (busy.status, busy.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert slow.status == 408
        assert (await api.run("add", params={"a": 1})).status == 200


async def test_a_client_that_goes_away_ends_its_call(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        body = json.dumps({"action": "waits"}).encode()
        headers = (HOST, BEARER, (b"content-type", b"application/json"))
        incoming: list[dict[str, Any]] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": b"", "more_body": False},
            {"type": "http.request", "body": body, "more_body": True},
        ]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return incoming.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        async with asyncio.timeout(5):
            scope = scope_of("/mcp/execute", "POST", headers)
            await RestDoor(api.house)(scope, "/mcp/execute", receive, send)
        assert sent[0]["status"] == 503
        assert not incoming
        assert (await api.run("add", params={"a": 1})).status == 200


async def test_a_call_ends_with_its_key_and_says_so(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        key = await key_for(api.house, "operator")
        other = await key_for(api.house, "operator")
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            ended = group.create_task(api.post("/mcp/execute", {"action": "waits"}, key))
            goes_on = group.create_task(
                api.post("/mcp/execute", {"action": "waits", "timeout": 1}, other)
            )
            while len(begun(tmp_path)) < 2:  # noqa: ASYNC110 - the plugin tells a file
                await asyncio.sleep(0)  # else the key is refused at the door
            await revoke(api.house, key)
        answer = ended.result()
        assert (answer.status, answer.json()["status"]) == (401, "failed")
        assert "was revoked or has expired" in answer.json()["error"]["message"]
        assert goes_on.result().status == 408, "of another key"
        assert (await api.post("/mcp/execute", {"action": "waits"}, key)).status == 401


async def test_a_call_that_is_cut_off_by_the_server_is_not_taken_for_one_of_a_client_that_left(
    tmp_path: Path,
) -> None:
    async with open_api(tmp_path) as api:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await api.run("waits")
        assert (await api.run("add", params={"a": 1})).status == 200


async def test_nobody_hears_what_happens_on_the_way() -> None:
    nobody = _Nobody()
    assert nobody.log_level is None
    await nobody.close_stream()


def test_what_a_tool_says_is_its_first_text() -> None:
    def reply(text: bytes) -> Any:
        return Reply(text)

    assert _said(reply(b'{"content":[{"type":"image"},{"text":"b"}]}')) == "b"
    assert _said(reply(b'{"content":5}')) == _said(reply(b'{"content":[7]}'))
    raw = _whole(Reply(b'{"a":1.10}', meta=b'{"b":2.0}'))
    assert bytes(raw) == b'{"a":1.10,"_meta":{"b":2.0}}'
