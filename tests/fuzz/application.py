"""The whole ASGI application as a fuzz target, driven in process: no socket, no HTTP parser.

A request of the corpus may say `{key}`, `{session}` (of 2025-11-25), `{session 2025-03-26}` or `{state}`
(the last requestState handed out); the running gateway's own are put in, so that inputs get past the
first doors. Invariants, after each:

- exactly one answer, with a documented status, and never 500; a body that is declared JSON is JSON-RPC;
- within the time an input may take;

and after every few: a good request is answered well, and neither a traceback nor a planted secret is in
the log.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tests.fuzz.request_text import Request, read_request
from waygate_mcp.config.settings import Settings
from waygate_mcp.gateway.conversation import Conversation
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.web.app import App, build_app
from waygate_mcp.web.guard import guard_of

KEY = "wg_fuzz_0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899"
CANARY = "canary-7c1e"
"""Stands in arguments, wrong credentials and forged states of the corpus; never in the log."""

DOCUMENT: Mapping[str, Any] = {
    "version": 1,
    "plugins": {
        "hello": {"use": "waygate_mcp.plugins.builtin.hello"},
        "everything": {"use": "waygate_mcp.testing.everything"},
    },
    "server": {"http_sse": True},
    "limits": {
        "call_timeout_s": 1,
        "question_timeout_s": 1,
        "parked_call_timeout_s": 2,
        "sessions_max": 100,
    },
}
STATUSES = frozenset(
    {200, 202, 204, 304, 400, 401, 403, 404, 405, 406, 408, 413, 415, 421, 429, 431, 503}
)
"""Every status a client may see; 500 would be a fault of ours."""

PATIENCE_S = 5.0
"""Seconds one input may take; a stream that stays open is left by its client before."""

_STREAM_S = 0.02
_CHECK_EVERY = 100
_RENEW_EVERY = 200
_SESSION = re.compile(rb"\{session(?: ([0-9-]{10}))?\}")
_STATE = re.compile(rb'"requestState":"([A-Za-z0-9_-]+)"')
Message = MutableMapping[str, Any]


class BrokenError(AssertionError):
    """The application is not well any more, and this input did it."""

    def __init__(self, cause: AssertionError, data: bytes) -> None:
        self.data = data
        super().__init__(*cause.args)


class Exchange:
    """One request to the application and all it sends back."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent: list[Message] = []
        self.is_over = asyncio.Event()
        self.has_left = False
        self._given = False
        self._leaving = asyncio.Event()

    def scope(self) -> dict[str, Any]:
        """What a server would make of the request."""
        path, _, query = self.request.path.partition(b"?")
        path = re.sub(rb"[^\x21-\x7e]", b"", path) or b"/"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": re.sub(r"[^A-Z]", "", self.request.method) or "POST",
            "scheme": "http",
            "path": path.decode("ascii"),
            "raw_path": path,
            "root_path": "",
            "query_string": re.sub(rb"[^\x21-\x7e]", b"", query),
            "headers": list(self.request.headers),
            "client": ("127.0.0.1", 4000),
            "server": ("127.0.0.1", 8000),
        }

    async def receive(self) -> Message:
        """Give the body at once; leave a while after, or when the answer is over."""
        if not self._given:
            self._given = True
            return {"type": "http.request", "body": self.request.body, "more_body": False}
        try:
            async with asyncio.timeout(_STREAM_S):
                await self.is_over.wait()
        except TimeoutError:
            self._leaving.set()
        return {"type": "http.disconnect"}

    async def until_left(self) -> None:
        """Wait until the client has left before the end, and a moment for that to be noticed."""
        await self._leaving.wait()
        await asyncio.sleep(_STREAM_S)
        self.has_left = True

    async def until_over(self) -> None:
        """Wait until the answer is complete, and one step longer for what is sent too much."""
        await self.is_over.wait()
        await asyncio.sleep(0)

    async def send(self, message: Message) -> None:
        """Keep what the application sends, and hold it to the protocol of ASGI."""
        kind = message["type"]
        if kind == "http.response.start":
            assert not self.sent, "a second answer"
        else:
            assert kind == "http.response.body", kind
            assert self.sent, "a body before its start"
            assert not self.is_over.is_set(), "more after the end"
        self.sent.append(message)
        if kind == "http.response.body" and not message.get("more_body", False):
            self.is_over.set()

    @property
    def status(self) -> int:
        """The status of the answer, 0 without one."""
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers of the answer."""
        return {name.lower(): value for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        """The whole body of the answer."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])


class Application:
    """A gateway in its own thread and event loop, for targets that are plain functions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fuzzed", daemon=True)
        self._sessions: dict[bytes, bytes] = {}
        self._state = b"none yet"
        self._under_way: set[asyncio.Task[None]] = set()
        self._count = 0
        self._recent: list[bytes] = []
        self._log_read = 0
        self.statuses: dict[int, int] = {}

    def __enter__(self) -> Application:
        document = self._folder / "waygate.yaml"
        document.write_text(json.dumps(DOCUMENT), encoding="utf-8")
        self._settings = Settings(
            config=document,
            data_dir=self._folder / "data",
            log_dir=self._folder / "logs",
            api_key=SecretStr(KEY),
        )
        self._thread.start()
        self._opened = self._open()
        self._app = self._await(self._opened.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._opened.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _await(self, work: Any) -> Any:
        """Run a coroutine on the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[App]:
        """Start and stop the application as a server does."""
        events: asyncio.Queue[Message] = asyncio.Queue()
        said: asyncio.Queue[Message] = asyncio.Queue()
        with open_logs(self._settings, descriptor=None) as logs:
            self._house = House(self._settings, logs, guard_of)
            app = build_app(self._house)
            life = self._loop.create_task(app({"type": "lifespan"}, events.get, said.put))
            await events.put({"type": "lifespan.startup"})
            assert (await said.get())["type"] == "lifespan.startup.complete"
            yield app
            await events.put({"type": "lifespan.shutdown"})
            assert (await said.get())["type"] == "lifespan.shutdown.complete"
            await life

    def __call__(self, data: bytes) -> None:
        """Send one input and check what comes back."""
        if self._count % _RENEW_EVERY == 0:
            self._renew_sessions()
        self._count += 1
        exchange = self._exchange(read_request(self._filled(data)))
        self._check(exchange)
        if (state := _STATE.search(exchange.body)) is not None:
            self._state = state[1]
        self.statuses[exchange.status] = self.statuses.get(exchange.status, 0) + 1
        self._recent.append(data)
        if self._count % _CHECK_EVERY == 0:
            try:
                self.check_health()
            except AssertionError as found:
                raise self._blame(found) from found
            self._recent.clear()

    def _blame(self, found: AssertionError) -> AssertionError:
        """Find which of the last inputs did it, by giving them again one by one."""
        for data in self._recent:
            self._exchange(read_request(self._filled(data)))
            try:
                self.check_health()
            except AssertionError as again:
                return BrokenError(again, data)
        return found

    def check_health(self) -> None:
        """Assert that a good request is served and that the log is clean."""
        served = self._exchange(read_request(self._filled(GOOD)))
        assert served.status == 200, (served.status, served.body)
        assert json.loads(served.body)["result"]["content"][0]["text"] == "good", served.body
        self._check_log()

    def _check_log(self) -> None:
        """Assert that nothing was written since the last time that should not be."""
        time.sleep(0.02)  # the log has a writer of its own
        files = sorted((self._folder / "logs").glob("*.log"))
        text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
        news, self._log_read = text[self._log_read :], len(text)
        assert "Traceback" not in news, next(x for x in news.splitlines() if "Traceback" in x)
        assert KEY not in news, "the key stands in the log"
        for log_line in news.splitlines():
            assert CANARY not in log_line or _is_public(log_line), log_line

    def _filled(self, data: bytes) -> bytes:
        """Put the key and the sessions in."""
        data = data.replace(b"{key}", KEY.encode()).replace(b"{state}", self._state)
        return _SESSION.sub(lambda found: self._sessions.get(found[1] or b"2025-11-25", b"x"), data)

    def _exchange(self, request: Request) -> Exchange:
        """Have the application answer one request."""
        return self._await(self._answer(request))  # type: ignore[no-any-return]

    async def _answer(self, request: Request) -> Exchange:
        """Give a request to the application until it is answered or its client has left.

        A legacy call goes on without its client and has to end with its session; a parked one goes on
        after its answer and has to end with its time.
        """
        exchange = Exchange(request)
        work = self._app(exchange.scope(), exchange.receive, exchange.send)
        task = self._loop.create_task(work)
        self._under_way.add(task)
        ends = [self._loop.create_task(exchange.until_left())]
        ends.append(self._loop.create_task(exchange.until_over()))
        await asyncio.wait({task, *ends}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        self._reap()
        is_answered = exchange.is_over.is_set()
        assert task.done() or is_answered or exchange.has_left, "an input takes too long"
        return exchange

    def _reap(self) -> None:
        """Forget what has ended, and see what it raised."""
        for task in [task for task in self._under_way if task.done()]:
            self._under_way.discard(task)
            task.result()

    async def _settle(self) -> None:
        """Wait until everything that was begun has ended."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=PATIENCE_S)
        self._reap()
        assert not self._under_way, "a call outlives its session and its time"

    @staticmethod
    def _check(exchange: Exchange) -> None:
        if exchange.has_left and not exchange.sent:
            return
        assert exchange.sent, "no answer"
        assert exchange.status in STATUSES, (exchange.status, exchange.body[:500])
        kind = exchange.headers.get(b"content-type", b"")
        if not kind.startswith(b"text/event-stream"):
            assert exchange.is_over.is_set(), "an answer that does not end"
        if kind == b"application/json" and exchange.request.path == b"/mcp":
            for message in _messages(exchange.body):
                assert message["jsonrpc"] == "2.0"
                assert ("result" in message) != ("error" in message)

    def _renew_sessions(self) -> None:
        """End the sessions and open new ones, so that nothing an input began lasts."""
        for token in self._sessions.values():
            text = b"DELETE /mcp\nHost: localhost\nX-API-Key: {key}\nMcp-Session-Id: " + token
            self._exchange(read_request(self._filled(text + b"\n\n")))
        self._await(self._settle())
        for revision in (b"2024-11-05", b"2025-03-26", b"2025-06-18", b"2025-11-25"):
            request = read_request(self._filled(INITIALIZE.replace(b"REVISION", revision)))
            opened = self._exchange(request)
            assert opened.status == 200, (opened.status, opened.body)
            self._sessions[revision] = opened.headers[b"mcp-session-id"]


class Channel(Application):
    """The same gateway behind one two-way channel, as standard input and output are: inputs are lines.

    Of a corpus request only the body is given. Each line is taken without an error, what is written is
    one message each, and good requests are answered in between.
    """

    def __enter__(self) -> Channel:
        super().__enter__()
        self._written: list[bytes] = []
        self._conversation: Conversation | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._conversation is not None:
            self._await(self._conversation.close())
        super().__exit__()

    def __call__(self, data: bytes) -> None:
        """Give one line and check what is written."""
        if self._count % _RENEW_EVERY == 0:
            self._await(self._renew())
        self._count += 1
        line = self._filled(data.rpartition(b"\n\n")[2]).replace(b"\n", b" ")
        self._await(self._take(line))
        self._recent.append(data)
        if self._count % _CHECK_EVERY == 0:
            self.check_health()
            self._recent.clear()

    def check_health(self) -> None:
        """Assert that a good request is answered and that the log is clean."""
        identifier = f"good-{self._count}"
        self._await(
            self._take(
                GOOD.rpartition(b"\n\n")[2].replace(b'"id":1', b'"id":"%b"' % identifier.encode())
            )
        )
        answers = self._await(self._answers_to(identifier))
        assert [answer["result"]["content"][0]["text"] for answer in answers] == ["good"]
        self._written.clear()
        self._check_log()

    async def _answers_to(self, identifier: str) -> list[dict[str, Any]]:
        """Wait until a request is answered, and give all answers to it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                messages = map(json.loads, self._written)
                answers = [m for m in messages if isinstance(m, dict) and m.get("id") == identifier]
                if answers:
                    return answers
                await asyncio.sleep(0.002)

    async def _renew(self) -> None:
        """End the conversation and begin another, of the legacy era too."""
        if self._conversation is not None:
            async with asyncio.timeout(PATIENCE_S):
                await self._conversation.close()
        house = self._house
        self._conversation = Conversation(
            house.current, "default", LOCAL, self._write, house.supervisor
        )
        await self._take(INITIALIZE.rpartition(b"\n\n")[2].replace(b"REVISION", b"2025-03-26"))

    async def _take(self, line: bytes) -> None:
        assert self._conversation is not None
        async with asyncio.timeout(PATIENCE_S):
            await self._conversation.take(line)
            await asyncio.sleep(0.002)  # most answers come from a task of their own

    async def _write(self, message: bytes) -> None:
        for one in _messages(message):
            assert one["jsonrpc"] == "2.0"
        if (state := _STATE.search(message)) is not None:
            self._state = state[1]
        self._written.append(message)


def _messages(frame: bytes) -> list[dict[str, Any]]:
    """The message of a frame, or the messages of a batch."""
    value = json.loads(frame)
    return value if isinstance(value, list) else [value]


def _is_public(log_line: str) -> bool:
    """Whether the canary stands only where a request's own name for something is recorded."""
    entry = json.loads(log_line)
    public = {"path", "rpc_method", "name", "request_id", "method", "endpoint"}
    return CANARY not in json.dumps({key: v for key, v in entry.items() if key not in public})


GOOD = b"""POST /mcp
Host: localhost
Authorization: Bearer {key}
Content-Type: application/json
Accept: application/json, text/event-stream
MCP-Protocol-Version: 2026-07-28
Mcp-Method: tools/call
Mcp-Name: hello__echo

{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hello__echo","arguments":\
{"text":"good"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",\
"io.modelcontextprotocol/clientCapabilities":{}}}}"""

INITIALIZE = b"""POST /mcp
Host: localhost
Authorization: Bearer {key}
Content-Type: application/json
Accept: application/json, text/event-stream

{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"REVISION",\
"capabilities":{"roots":{},"sampling":{},"elicitation":{"form":{},"url":{}}},\
"clientInfo":{"name":"fuzz","version":"1"}}}"""

RUNNING: Mapping[str, type[Application]] = {"app": Application, "channel": Channel}
"""Every target that needs a running gateway, by its name."""
