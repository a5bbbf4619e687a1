"""The real gateway over loopback sockets, misbehaving servers behind it, and what it holds at a moment.

Knows how a house is opened with principals of the tests' own, how servers are started and started
again, and how to count. Refuses to know what goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.integration.faults.clients import (
    CAPABILITIES,
    ERAS,
    WAIT_S,
    Client,
    Era,
    Message,
    words,
)
from tests.support.house import settings_in
from tests.support.ports import free_port
from tests.support.upstreams import RUN, children
from waygate_mcp.config.document import Document
from waygate_mcp.errors import UnauthenticatedError
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.runtime.house import House
from waygate_mcp.telemetry.logs import open_logs
from waygate_mcp.upstreams.steady import SteadyUpstream
from waygate_mcp.web.app import build_app
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.server import make_server

PROGRAM = Path(__file__).with_name("misbehaving.py")
Transport = Literal["http", "sse", "stdio"]


@dataclass(frozen=True)
class Back:
    """What kind of upstream it is."""

    transport: Transport
    era: Era

    def __str__(self) -> str:
        return f"{self.transport}-{self.era}"

    @property
    def is_line(self) -> bool:
        """Whether all it says comes on one line."""
        return self.transport != "http"


BACKS = (
    Back("http", "modern"),
    Back("http", "legacy"),
    Back("sse", "legacy"),
    Back("stdio", "modern"),
    Back("stdio", "legacy"),
)


class Peer:
    """One misbehaving server: its section of the document, its process where it is ours, its journal."""

    def __init__(self, folder: Path, name: str, back: Back, **options: str) -> None:
        self.name = name
        self.back = back
        self.port = free_port()
        self._options = options
        self._journal = folder / f"{name}.journal"
        self._journal.touch()
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.restarts = 0
        self.pause_s = 0.0
        """Seconds between its end and its next start."""

    @property
    def _words(self) -> list[str]:
        back = self.back
        options = [f"{name}={value}" for name, value in self._options.items()]
        return [
            "-I", "-S", "-u", str(PROGRAM), back.transport, back.era, str(self.port),
            str(self._journal), *options,
        ]  # fmt: skip

    def section(self, **more: Any) -> Message:
        """Its section of the document."""
        if self.back.transport != "stdio":
            path = "/sse" if self.back.transport == "sse" else "/mcp"
            way = "sse" if self.back.transport == "sse" else "streamable"
            return {"url": f"http://127.0.0.1:{self.port}{path}", "http": way, **more}
        return {
            "command": sys.executable,
            "args": self._words,
            "env": {"TEST_RUN_OF_UPSTREAMS": RUN},
            "sandbox": "none",
            **more,
        }

    @property
    def journal(self) -> list[list[Any]]:
        """What it did so far."""
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def noted(self, *facts: Any) -> int:
        """How often the journal says so."""
        return sum(line[: len(facts)] == list(facts) for line in self.journal)

    async def until(self, *facts: Any, count: int = 1) -> None:
        """Wait until the journal says so."""
        async with asyncio.timeout(WAIT_S):
            while self.noted(*facts) < count:  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.02)

    async def until_dead(self) -> None:
        """Wait until each process that said it dies is dead: what is called until then dies with it."""
        said = {line[1] for line in self.journal if line[0] == "dies"}
        async with asyncio.timeout(WAIT_S):
            while any(_is_alive(pid) for pid in said):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)

    async def start(self) -> None:
        """Start its process, where the gateway does not, and keep it running whatever it does."""
        if self.back.transport == "stdio":
            return
        await self._launch()
        assert self._process is not None
        assert self._process.returncode is None, f"{self.name} did not start"
        self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="test:keep")

    async def _launch(self) -> None:
        self._process = process = await asyncio.create_subprocess_exec(sys.executable, *self._words)
        if "start" in self._options:
            return
        # It may have been called and killed before anybody here has seen it answer.
        async with asyncio.timeout(WAIT_S):
            while process.returncode is None and not await _answers(self.port):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            self.restarts += 1
            await asyncio.sleep(self.pause_s)
            await self._launch()

    async def stop(self) -> None:
        """Kill it and let it be dead."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
            self._keeping = None
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()


@dataclass(frozen=True)
class Census:
    """What there is at a moment."""

    parked: int
    calls: int
    processes: int
    descriptors: int
    tasks: Counter[str]

    def excess(self, start: Census) -> list[str]:
        """Say what is more than it was at the start. Idle connections may be a few more."""
        said = [f"task {name} × {n}" for name, n in (self.tasks - start.tasks).items()]
        if self.processes > start.processes:
            said.append(f"{self.processes} processes, were {start.processes}")
        if self.descriptors > start.descriptors + _IDLE:
            said.append(f"{self.descriptors} descriptors, were {start.descriptors}")
        return [*said, *(["parked"] * self.parked), *(["call"] * self.calls)]


_IDLE = 6


class _Doorman:
    """`Authorization: Bearer alice` is Alice, and may everything."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        name = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        if not name:
            raise UnauthenticatedError
        return _principal(name)


def _principal(name: str) -> Principal:
    return Principal(f"key:{name}", name, frozenset({"*"}))


class Rig:
    """An open gateway. `client` gives clients, closed with the rig."""

    def __init__(self, house: House[Guard], port: int) -> None:
        self.house = house
        self.port = port
        self.clients: list[Client] = []

    async def client(self, who: str, era: Era, **more: Any) -> Client:
        """Give a client that is open."""
        client = Client(self.port, who, era, **more)
        await client.open()
        self.clients.append(client)
        return client

    async def both(self, who: str = "alice") -> list[Client]:
        """Give a client of each era."""
        return [await self.client(who, era) for era in ERAS]

    def upstream(self, name: str) -> SteadyUpstream:
        """Give an upstream in force."""
        return self.house.current().upstreams[name]

    def census(self) -> Census:
        """Count."""
        names = Counter(
            _kind(task.get_name())
            for task in asyncio.all_tasks()
            if not _is_ours(task.get_name()) and not _is_wait(task)
        )
        return Census(
            len(self.house.live.parking),
            self.house.current().calls.count,
            len(children()),
            _descriptors(),
            names,
        )

    async def at_rest(self) -> Census:
        """Count, once everybody has each session it may come to need at the upstreams.

        A list that is out of date is read by whoever asks next, in a session of its own at an upstream of
        the legacy era: who that is, and when, depends on how fast the machine is.
        """
        capabilities = ClientCapabilities.parse(CAPABILITIES, MODERN)
        for who in {client.who for client in self.clients}:
            viewer = Viewer(_principal(who), capabilities)
            for upstream in self.house.current().upstreams.values():
                await upstream.refresh(Kind.TOOL, viewer)
        return self.census()

    async def settled(self, start: Census, within_s: float = 40.0) -> None:
        """Wait until nothing is more than it was. What many calls at once opened stays open, idle, for 30 s."""
        excess = self.census().excess(start)
        try:
            async with asyncio.timeout(within_s):
                while excess:
                    await asyncio.sleep(0.05)
                    excess = self.census().excess(start)
        except TimeoutError:
            raise AssertionError(f"left over: {excess}\n{_where_requests_are()}") from None


def _where_requests_are() -> str:
    """What each request waits for, outermost first."""
    said = []
    for task in asyncio.all_tasks():
        if _kind(task.get_name()) == "request":
            inner: Any = task.get_coro()
            while (code := getattr(inner, "cr_code", None)) is not None:
                frame = inner.cr_frame
                said.append(f"{code.co_filename}:{frame.f_lineno if frame else '?'} {code.co_name}")
                inner = inner.cr_await
            said.append(f"  awaits {inner!r}")
    return "\n".join(said)


def _kind(name: str) -> str:
    """The tasks of requests are numbered."""
    return "request" if name.startswith("Task-") else name


def _is_wait(task: asyncio.Task[Any]) -> bool:
    """What `wait_for` makes of the pauses of tasks that are counted themselves."""
    return getattr(task.get_coro(), "__qualname__", "") == "Event.wait"


def _is_ours(name: str) -> bool:
    return name.startswith("test:")


@asynccontextmanager
async def gateway(
    folder: Path,
    upstreams: Mapping[str, Message],
    *,
    limits: Mapping[str, Any] | None = None,
    endpoints: Mapping[str, Any] | None = None,
) -> AsyncIterator[Rig]:
    """Serve a document with these upstreams on a loopback port, by the server the command uses."""
    before = {task for task in asyncio.all_tasks() if not _is_ours(task.get_name())}
    document = {
        "version": 1,
        "auth": {"mode": "keys"},
        "limits": {"drain_s": 1, **(limits or {})},
        "upstreams": dict(upstreams),
        "endpoints": {"default": {}, **(endpoints or {})},
    }
    settings = settings_in(folder, document)
    with open_logs(settings, descriptor=None, file=False) as logs:
        house: House[Guard] = House(settings, logs, _make_guard)
        listener = socket.create_server(("127.0.0.1", 0))
        server = make_server(build_app(house), house)
        serving = asyncio.get_running_loop().create_task(
            server.serve(sockets=[listener]), name="test:serve"
        )
        try:
            async with asyncio.timeout(WAIT_S):
                while not server.started and not serving.done():  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
            rig = Rig(house, listener.getsockname()[1])
            yield rig
            for client in rig.clients:
                await client.close()
        finally:
            server.should_exit = True
            async with asyncio.timeout(WAIT_S):
                await serving
            listener.close()
    left = {task for task in asyncio.all_tasks() if not _is_ours(task.get_name())} - before
    assert not left, f"tasks outlive the house: {left}"


def _make_guard(document: Document, _authenticator: Any, on_failure: Any) -> Guard:
    return Guard(document.server, _Doorman(), on_failure)


@asynccontextmanager
async def two_upstreams(
    folder: Path, back: Back, *, limits: Mapping[str, Any] | None = None, **section: Any
) -> AsyncIterator[tuple[Rig, Peer, Peer]]:
    """A gateway with a `bad` upstream of this kind and a `good` one beside it."""
    bad, good = Peer(folder, "bad", back), Peer(folder, "good", Back("stdio", "modern"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bad.stop)
        await bad.start()
        sections = {"bad": bad.section(**section), "good": good.section()}
        rig = await stack.enter_async_context(gateway(folder, sections, limits=limits))
        yield rig, bad, good


class Healthy:
    """What calls of the healthy upstream met while another failed."""

    def __init__(self) -> None:
        self.count = 0
        self.slowest_s = 0.0


@asynccontextmanager
async def healthy(rig: Rig, *, within_s: float = 2.0) -> AsyncIterator[Healthy]:
    """Call the good upstream all the time; each call is right and within bounds."""
    client = await rig.client("carol", "modern")
    seen = Healthy()
    failure: list[str] = []

    async def call() -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            text = f"good-{seen.count}"
            final = await client.call("good__echo", text=text)
            seen.slowest_s = max(seen.slowest_s, loop.time() - began_s)
            seen.count += 1
            if "result" not in final or words(final) != text:
                failure.append(f"the healthy upstream: {final}")
            await asyncio.sleep(0.05)

    await client.call("good__echo", text="warm")
    calling = asyncio.get_running_loop().create_task(call(), name="test:healthy")
    try:
        yield seen
        while not seen.count and not calling.done():  # noqa: ASYNC110 - bounded by its client
            await asyncio.sleep(0.01)
    finally:
        calling.cancel()
        await asyncio.wait({calling})
    if not calling.cancelled() and calling.exception() is not None:
        raise AssertionError("a call of the healthy upstream failed") from calling.exception()
    assert not failure, failure
    assert seen.slowest_s < within_s, f"a healthy call took {seen.slowest_s:.1f} s"


async def until_well(client: Client, tool: str = "bad__echo") -> None:
    """Call until the upstream answers again; what is said meanwhile is documented."""
    async with asyncio.timeout(WAIT_S):
        while True:
            final = await client.call(tool, text="well?")
            if "result" in final:
                assert words(final) == "well?"
                return
            code, data = final["error"]["code"], final["error"].get("data", {})
            assert (code, data.get("upstream")) == (-32603, "bad") or code == 4408, final
            await asyncio.sleep(0.1)


def _descriptors() -> int:
    """Count what is open, without the database: its pool grows to its bound as the machine is slow."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += "/waygate.db" not in str(entry.readlink())
    return count


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.transport.abort()
    return True
