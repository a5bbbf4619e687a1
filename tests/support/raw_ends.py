"""A gateway between two ends that write their messages byte by byte and keep what they read as it was written.

An upstream of any revision over a stand-in for the network, a client of any revision at the MCP door, in virtual time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.support.dialogues import CAPABILITIES, EVERYTHING, VERSION, Desk, Visitor
from tests.support.exchange import EVENTS, JSON, FakeExchange, Request, Response
from tests.support.json_texts import members, written
from tests.support.virtual_time import run_virtual
from waygate_mcp.model.ports import Provider
from waygate_mcp.protocol.framing import SseDecoder
from waygate_mcp.runtime.tasks import TaskSupervisor
from waygate_mcp.upstreams.streamable_http import connect

MODERN, LEGACY = "2026-07-28", "2025-11-25"
CAN: dict[str, Any] = {
    area: {} for area in ("tools", "prompts", "resources", "logging", "completions")
}
PAIRS = [(client, upstream) for client in (LEGACY, MODERN) for upstream in (LEGACY, MODERN)]
INFO = "io.modelcontextprotocol/serverInfo"
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
METHODS = ("tools/call", "prompts/get", "resources/read", "completion/complete")


class Upstream:
    """A server that answers in the very bytes it is told, and keeps what it received."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.answers: dict[str, str] = {}
        self.questions: list[str] = []
        self.error = ""
        self.log = ""
        self.half = ""
        self.received: dict[str, bytes] = {}
        self.answered: list[bytes] = []
        self.exchange = FakeExchange(
            initialize=self._initialize, server__discover=self._discover, response=self._take_answer
        )
        self.exchange.handlers["notifications/initialized"] = lambda _: Response(202)
        self.exchange.handlers["DELETE"] = lambda _: Response(204)
        self.exchange.handlers["logging/setLevel"] = lambda asked: self._said(asked, "result", "{}")
        for method in (*METHODS, *LISTS):
            self.exchange.handlers[method] = self._answer

    @property
    def is_modern(self) -> bool:
        return self.revision == MODERN

    def _initialize(self, request: Request) -> Response:
        if self.is_modern:
            return self._said(request, "error", '{"code":-32601,"message":"no"}')
        agreed = {
            "protocolVersion": self.revision,
            "capabilities": CAN,
        }
        return self._said(request, "result", json.dumps(agreed), **{"mcp-session-id": "s"})

    def _discover(self, request: Request) -> Response:
        if not self.is_modern:
            return Response(400)
        offered = {
            "supportedVersions": [MODERN],
            "capabilities": CAN,
        }
        return self._said(request, "result", self.framed(json.dumps(offered)))

    def _answer(self, request: Request) -> Response:
        self.received[request.rpc] = bytes(request.body)
        if request.rpc in LISTS:
            member, _ = LISTS[request.rpc]
            listed = self.answers.get(request.rpc, "[]")
            return self._said(request, "result", self.framed(written({member: listed})))
        if self.half:
            return Response(200, JSON, [self._response(request, "result", self.half)])
        if self.log:
            return Response(200, EVENTS, self._tell(request))
        if self.error:
            return self._said(request, "error", self.error)
        if self.questions and not self.is_modern:
            return Response(200, EVENTS, self._ask(request))
        if self.questions and "inputResponses" not in request.params:
            asked = written({f"k{n}": text for n, text in enumerate(self.questions)})
            result = written({"resultType": '"input_required"', "inputRequests": asked})
            return self._said(request, "result", result)
        return self._said(request, "result", self.framed(self.answers[request.rpc]))

    async def _ask(self, request: Request) -> Any:
        for number, question in enumerate(self.questions):
            found = members(question)
            text = written(
                {"jsonrpc": '"2.0"', "id": f'"q{number}"'}
                | {k: v.decode() for k, v in found.items()}
            )
            yield b"data: " + text.replace("\n", " ").encode() + b"\n\n"
            while len(self.answered) <= number:
                await _tick()
        answer = self._response(request, "result", self.answers[request.rpc])
        yield b"data: " + answer.replace(b"\n", b" ") + b"\n\n"

    async def _tell(self, request: Request) -> Any:
        log = {"jsonrpc": '"2.0"', "method": '"notifications/message"', "params": self.log}
        yield b"data: " + written(log).encode() + b"\n\n"
        answer = self.framed(self.answers[request.rpc])
        yield b"data: " + self._response(request, "result", answer) + b"\n\n"

    def _take_answer(self, request: Request) -> Response:
        self.answered.append(bytes(request.body))
        return Response(202)

    def answer_to_one(self) -> dict[str, bytes]:
        """The members of the answer to the one question it asked."""
        if not self.is_modern:
            return members(members(self.answered[0])["result"])
        (answer,) = members(
            members(members(self.received["tools/call"])["params"])["inputResponses"]
        ).values()
        return members(answer)

    def framed(self, result: str) -> str:
        """Add what each result of the revision has."""
        if not self.is_modern:
            return result
        found = {name: value.decode() for name, value in members(result).items()}
        meta = {name: value.decode() for name, value in members(found.get("_meta", "{}")).items()}
        found["_meta"] = written({INFO: '{"name":"u","version":"1"}', **meta})
        return written(
            {"ttlMs": "7", **found, "resultType": '"complete"', "cacheScope": '"public"'}
        )

    @staticmethod
    def _response(request: Request, member: str, text: str) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"%b":%b}' % (
            json.dumps(request.message["id"]).encode(), member.encode(), text.encode(),
        )  # fmt: skip

    def _said(self, request: Request, member: str, text: str, **headers: str) -> Response:
        return Response(200, {**JSON, **headers}, [self._response(request, member, text)])


async def _tick() -> None:
    await asyncio.sleep(0.01)


class Pair:
    """A client of one era before an upstream of another."""

    def __init__(self, client: str, upstream: Upstream, visitor: Visitor) -> None:
        self.client = client
        self.upstream = upstream
        self.visitor = visitor

    @property
    def is_modern(self) -> bool:
        """Whether the client is."""
        return self.client == MODERN

    def message(
        self, method: str, given: dict[str, str]
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """A request of the client's, its parameters as texts, and its headers."""
        params = dict(given)
        if not self.is_modern:
            text = written(
                {
                    "jsonrpc": '"2.0"',
                    "id": "1",
                    "method": json.dumps(method),
                    "params": written(params),
                }
            )
            return text.encode(), self.visitor.session_headers
        meta = {name: value.decode() for name, value in members(params.get("_meta", "{}")).items()}
        envelope = {VERSION: json.dumps(MODERN), CAPABILITIES: json.dumps(EVERYTHING)}
        params["_meta"] = written({**meta, **envelope})
        text = written(
            {"jsonrpc": '"2.0"', "id": "1", "method": json.dumps(method), "params": written(params)}
        )
        headers = [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", method.encode())]
        name = params.get("uri" if method.startswith("resources/") else "name")
        if name is not None:
            headers.append((b"mcp-name", json.loads(name).encode()))
        return text.encode(), headers

    async def answer_one(
        self, method: str, params: dict[str, str], answer: str
    ) -> dict[str, bytes]:
        """Make a request, answer the one question it raises, and give that question's members."""
        body, headers = self.message(method, params)
        request = self.visitor.send(body, headers)
        if self.is_modern:
            result = members(members((await request.over()).body)["result"])
            ((key, asked),) = members(result["inputRequests"]).items()
            given = {"inputResponses": written({key: answer})}
            if "requestState" in result:
                given["requestState"] = result["requestState"].decode()
            await self.ask(method, {**params, **given})
            return members(asked)
        question = await request.response.next_event()
        (event,) = SseDecoder(2**20).feed(request.response.body)[-1:]
        text = written({"jsonrpc": '"2.0"', "id": json.dumps(question["id"]), "result": answer})
        await self.visitor.post(text.encode(), self.visitor.session_headers)
        assert "result" in (await request.over()).final
        return members(event.data or b"")

    async def ask(self, method: str, params: dict[str, str]) -> dict[str, bytes]:
        """Make a request and give the members of its result."""
        body, headers = self.message(method, params)
        response = await self.visitor.post(body, headers)
        found = members(response.body)
        assert "result" in found, response.body
        return members(found["result"])


@asynccontextmanager
async def pair(client: str, upstream: Upstream, beside: Provider | None) -> AsyncIterator[Pair]:
    """A gateway between two ends; with a provider `beside`, names have prefixes."""
    async with TaskSupervisor(close_s=1.0) as supervisor:
        opened = connect("up", upstream.exchange, "/mcp", lambda _: None, supervisor=supervisor)
        async with opened as provider, Desk(*filter(None, (provider, beside))) as desk:
            visitor = Visitor(desk.door)
            if client != MODERN:
                await visitor.open(client)
            yield Pair(client, upstream, visitor)


def in_every_pair(
    run: Callable[[Pair], Coroutine[Any, Any, None]],
    prepare: Callable[[Upstream], None],
    pairs: Sequence[tuple[str, str]] = PAIRS,
    beside: Provider | None = None,
) -> None:
    """Do the same in all four pairs of eras, or in those given."""

    async def all_pairs() -> None:
        for client, revision in pairs:
            upstream = Upstream(revision)
            prepare(upstream)
            async with pair(client, upstream, beside) as both:
                await run(both)

    run_virtual(all_pairs())


def items(raw: bytes) -> list[bytes]:
    """The items of a list, each as it is written."""
    return [bytes(item) for item in msgspec.json.decode(raw, type=list[msgspec.Raw])]


def plain(found: dict[str, bytes], *without: str) -> list[tuple[str, bytes]]:
    """Members in their order, line breaks between tokens aside."""
    return [
        (name, value.replace(b"\n", b" ")) for name, value in found.items() if name not in without
    ]
