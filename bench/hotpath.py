"""What one call costs in process, whole and in parts: no sockets, no uvicorn, no load generator.

Drives our ASGI application inside one event loop, with the connection's shorter way for whole
answers faked as well, and then the parts a call passes through, each alone, on the same objects. A
figure is the smallest mean of many short repeats, in microseconds of this thread's CPU time: noise
only ever adds. What the parts leave unexplained is the door's own work, printed as such. The log's
thread is not in these figures; it is in those of run.py.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

import settings as bench
from calls import FIRST_ID, Era, Method, Request, Target, WrongAnswerError, build
from run import LOAD_CORE
from servers import HERE
from waygate_mcp.config.settings import read_settings
from waygate_mcp.gateway.intake import Arrival, Attached, begin_modern
from waygate_mcp.model.call import Call, Reply
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.ladder import ModernInbound, classify_post
from waygate_mcp.protocol.stateless import encode_complete
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import Logs, RequestRecord, open_logs
from waygate_mcp.web.app import App, build_app
from waygate_mcp.web.body import read_body
from waygate_mcp.web.cycle import CYCLE
from waygate_mcp.web.guard import Guard, guard_of

REPEATS = 35
Message = dict[str, Any]


def now(work: Awaitable[Any]) -> Any:
    """Run something awaitable that never has to wait; its result."""
    try:
        next(work.__await__())
    except StopIteration as done:
        return done.value
    raise WrongAnswerError("this part waited for something: it cannot be timed this way")


class FakeCycle:
    """The connection's shorter way for whole answers (`web/cycle.py`), ending in the client."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.body = client.body

    def take_body(self) -> bytes:
        """The whole body."""
        return self.body

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Keep a whole answer."""
        client = self._client
        client.status, client.sent_headers, client.chunks = status, headers, [body]
        return True


class Client:
    """One prepared request, as uvicorn would hand it over."""

    def __init__(self, app: App, request: Request) -> None:
        self._app = app
        body = request.body(FIRST_ID)
        self.body = body
        pairs = {"Host": "127.0.0.1:8000", **request.headers, "Content-Length": str(len(body))}
        self.pairs = [(k.lower().encode(), v.encode()) for k, v in pairs.items()]
        self.headers = dict(self.pairs)
        self.status = 0
        self.chunks: list[bytes] = []
        self.sent_headers: Iterable[tuple[bytes, bytes]] = ()
        self._extensions = {CYCLE: FakeCycle(self)}

    def scope(self) -> Message:
        """A fresh scope: servers may write into it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "query_string": b"",
            "root_path": "",
            "headers": self.pairs,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
            "extensions": self._extensions,
        }

    async def receive(self) -> Message:
        """The whole body at once."""
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def send(self, message: Any) -> None:
        """Keep what was sent, to be looked at after the clock has stopped."""
        if message["type"] == "http.response.start":
            self.sent_headers = message["headers"]
            self.status = message["status"]
            self.chunks = []
        else:
            self.chunks.append(message["body"])

    async def call(self) -> None:
        """One call through the whole application."""
        await self._app(self.scope(), self.receive, self.send)

    def header(self, name: bytes) -> str:
        """One header of the last answer."""
        return str(dict(self.sent_headers).get(name, b"").decode())

    def result(self) -> Any:
        """The last answer, checked.

        Raises:
            WrongAnswerError: it is none.
        """
        body = b"".join(self.chunks)
        message = json.loads(body) if body else {}
        if self.status != 200 or "result" not in message:
            raise WrongAnswerError(f"status {self.status}: {body[:300]!r}")
        return message["result"]


async def time_whole(call: Callable[[], Awaitable[None]], calls: int) -> float:
    """Microseconds of an awaited call."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.thread_time()
        for _ in range(calls):
            await call()
        best = min(best, time.thread_time() - start)
        await asyncio.sleep(0.05)  # lets the log's thread write what was queued
    return best / calls * 1e6


async def time_part(
    part: Callable[[], object], calls: int, prepare: Callable[[], Awaitable[None]]
) -> float:
    """Microseconds of a plain function; each repeat is prepared."""
    best = float("inf")
    for _ in range(REPEATS):
        await prepare()
        start = time.thread_time()
        for _ in range(calls):
            part()
        best = min(best, time.thread_time() - start)
    return best / calls * 1e6


async def open_session(app: App, key: str) -> str:
    """Open a legacy session in process; its id."""
    target = Target(0, key=key)
    headers = build(target, "legacy", "tools/list").headers
    params: Message = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    tail = json.dumps({"method": "initialize", "params": params})
    opening = Client(app, Request(headers, b'{"jsonrpc":"2.0","id":', b"," + tail[1:].encode()))
    await opening.call()
    opening.result()
    return opening.header(b"mcp-session-id")


async def client_for(app: App, key: str, era: Era, method: Method) -> Client:
    """A client of an era, its first answer checked."""
    session = await open_session(app, key) if era == "legacy" else ""
    client = Client(app, build(Target(0, key=key), era, method, session))
    await client.call()
    client.result()
    return client


class NoFront:
    """Carries the messages of a call to nobody."""

    async def send(self, message: bytes) -> None:
        """Drop an event."""

    async def finish(self, message: bytes | None, status: int = 200) -> None:
        """Drop the answer."""

    async def close_stream(self) -> None:
        """Nothing is open."""


class Parts:
    """The parts of a modern `tools/call`, on the objects of an open house."""

    def __init__(self, house: House[Guard], client: Client) -> None:
        self._house = house
        self._client = client
        generation = house.current()
        self.guard = generation.guard
        self._gateway = generation.gateway
        self.endpoint = generation.gateway.endpoints["default"]
        self.admission = self.guard.admit(client.scope())
        inbound = classify_post(client.body, self.admission.headers)
        assert isinstance(inbound, ModernInbound)
        self.inbound = inbound
        self.handler = self.endpoint.handler_for("tools/call")
        self.provider = generation.providers[0]
        self.tool = self.provider.box.tools["echo"]  # type: ignore[attr-defined]
        self.arguments: Message = inbound.message.params["arguments"]
        call = self.begin()[0].call
        now(self.handler(call))
        self.routed: Call = call
        reply = now(self.provider.call(call))
        assert isinstance(reply, Reply)
        self.reply = reply

    async def refresh(self) -> None:
        """Have the list of tools read anew: a second later, a call in the middle of a part would wait for it."""
        self.endpoint.forget(ListChanged(self.provider.name, Kind.TOOL))
        await self._client.call()

    def begin(self) -> Any:
        """From a classified message to an exchange."""
        admission = self.admission
        arrival = Arrival(
            admission.principal, admission.request_id, self._client.body, admission.headers
        )
        begun = begin_modern(self._gateway, self.endpoint, self.inbound, NoFront(), arrival)
        assert not isinstance(begun, Attached)
        return begun

    def run(self) -> None:
        """A whole exchange, from its making to its last message."""
        exchange, handler = self.begin()
        now(exchange.run(handler))

    def encode(self) -> bytes:
        """From a reply to the body of the response."""
        return encode_complete(FIRST_ID, self.reply.result, None, self._gateway.server_info_meta)

    def log(self) -> None:
        """The line of the request log, as far as the event loop pays for it."""
        self._house.request_log.write(
            RequestRecord(
                request_id="0123456789ab-1",
                door="http",
                method="POST",
                path="/mcp",
                status=200,
                duration_ms=0.123,
                endpoint="default",
                rpc_method="tools/call",
                name="echo",
                outcome="ok",
                principal="key:bootstrap",
                client="127.0.0.1",
            )
        )

    def count(self) -> None:
        """The metrics of one call and one request."""
        metrics = self._house.metrics
        metrics.observe_call("default", "tools/call", "hello", "ok", 0.0001)
        metrics.observe_request("POST", "default", 200, 0.0001)

    def timer(self) -> None:
        """A timer that is armed and cancelled."""
        asyncio.get_running_loop().call_later(60, self.count).cancel()

    def table(self) -> dict[str, Callable[[], object]]:
        """Name → part, in the order of a call; indented parts are inside the one above."""
        client, call = self._client, self.routed
        return {
            "guard: host, id, credential": lambda: self.guard.admit(client.scope()),
            "  scope of the request (the bench's own)": client.scope,
            "ladder: parse, envelope, headers": lambda: classify_post(
                client.body, self.admission.headers
            ),
            "  parse strictly": lambda: jsonrpc.loads_strict(client.body),
            "exchange, from making to its end": self.run,
            "  making it": self.begin,
            "  steps, route, provider": lambda: now(self.handler(call)),
            "    provider: validate, run, reply": lambda: now(self.provider.call(call)),
            "      validate": lambda: self.tool.is_valid(self.arguments),
            "  encode": self.encode,
            "  body, the way of other servers": lambda: now(
                read_body(client.receive, 1 << 20, 30.0, self.admission.headers)
            ),
            "timer": self.timer,
            "metrics": self.count,
            "log line": self.log,
        }


@contextmanager
def logs_in(folder: Path, key: str, document: str) -> Iterator[tuple[Any, Logs]]:
    """Settings and logging as `waygate serve` has them, in a folder of their own."""
    os.environ |= {"WAYGATE_API_KEY": key, "WAYGATE_RATE_LIMIT": "1000000000"}
    overrides = {
        "config": HERE / document,
        "data_dir": folder / "data",
        "log_dir": folder / "logs",
    }
    settings = read_settings(overrides, env_file=None)
    with (
        (folder / "stderr.txt").open("wb") as stream,
        open_logs(settings, descriptor=stream.fileno()) as logs,
    ):
        yield settings, logs


async def wholes(folder: Path, document: str, method: Method, calls: int) -> list[str]:
    """Whole calls of both eras, as lines."""
    key = bench.bootstrap_key()
    lines = []
    eras: tuple[Era, ...] = ("modern", "legacy")
    with logs_in(folder, key, document) as (settings, logs):
        house = House(settings, logs, guard_of)
        app = build_app(house)
        async with house:
            for era in eras:
                client = await client_for(app, key, era, method)
                figure = await time_whole(client.call, calls)
                client.result()
                lines.append(f"{figure:8.2f}  whole {method}, {era}")
    return lines


async def parts(folder: Path, calls: int) -> list[str]:
    """The parts of a modern `tools/call`, as lines."""
    key = bench.bootstrap_key()
    lines = []
    with logs_in(folder, key, "waygate.yaml") as (settings, logs):
        house = House(settings, logs, guard_of)
        app = build_app(house)
        async with house:
            client = await client_for(app, key, "modern", "tools/call")
            whole = await time_whole(client.call, calls)
            explained = 0.0
            measured = Parts(house, client)
            for name, part in measured.table().items():
                figure = await time_part(part, calls, measured.refresh)
                lines.append(f"{figure:8.2f}  {name}")
                explained += 0.0 if name.startswith(" ") else figure
                await asyncio.sleep(0.05)
            lines.append(f"{whole - explained:8.2f}  left: the door's own work")
    return lines


async def measure(calls: int, folder: Path) -> list[str]:
    """All figures, as lines."""
    few = max(calls // 20, 1)
    lines = await wholes(folder, "waygate.yaml", "tools/call", calls)
    lines += await wholes(folder, "waygate-thousand.yaml", "tools/list", few)
    return [*lines, "", *await parts(folder, calls)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000, help="calls of one repeat")
    parser.add_argument("--save", action="store_true", help="write results/hotpath.txt")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    command = f"python bench/hotpath.py --calls {options.calls}"
    load = f"load average {os.getloadavg()[0]:.2f}"
    head = [f"{command}: µs per call, best of {REPEATS}; {load}", ""]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        lines = head + uvloop.run(measure(options.calls, Path(folder)))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.save:
        (HERE / "results" / "hotpath.txt").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
