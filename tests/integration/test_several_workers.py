"""`waygate serve --workers 3` as a client sees it that meets another process with each connection.

A `Crowd` keeps one connection to each worker, so that a test says which of them takes a request. The plugin
`who` answers which process runs it; a session's calls run where the session is held, whoever took them.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import KEY, Gateway, serving
from tests.integration.test_web_shell import is_running, until
from tests.integration.upstream_servers import LINES
from waygate_mcp.net.unix import socket_address

pytestmark = pytest.mark.timeout(90)

WORKERS = 3
WAIT_S = 20.0
WATCHED = "test://watched-resource"
WHO = """\
import asyncio
import os
from pathlib import Path

from waygate_mcp import Context, Toolbox

box = Toolbox()
FORM = {{"type": "object", "properties": {{"name": {{"type": "string"}}}}, "required": ["name"]}}


@box.tool(structured=False)
async def pid() -> str:
    return str(os.getpid())


@box.tool(structured=False)
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("Who?", FORM)
    return f"{{os.getpid()}} {{answer.content['name']}}"


@box.tool(structured=False)
async def ask_and_wait(ctx: Context) -> str:
    await ctx.elicit("Who?", FORM)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path({marker!r}).write_text(str(os.getpid()))
        raise
    return "waited"
"""
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
ACCEPT = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class Line:
    """One connection to one worker; requests on it are taken by that one."""

    def __init__(self, gateway: Gateway) -> None:
        port = int(gateway.base_url.rpartition(":")[2])
        self.headers = {**ACCEPT, **gateway.headers}
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        self.answers: list[http.client.HTTPResponse] = []

    def send(
        self, message: Any, headers: Mapping[str, str] | None = None, method: str = "POST"
    ) -> http.client.HTTPResponse:
        """Send one request; the head of the answer is here, its body may follow."""
        body = None if message is None else json.dumps(message)
        self.http.request(method, "/mcp", body, {**self.headers, **(headers or {})})
        self.answers.append(self.http.getresponse())
        return self.answers[-1]

    def close(self) -> None:
        """Hang up, in the middle of an answer too."""
        self.http.close()
        for answer in self.answers:
            answer.close()

    def ask(self, message: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Send one request and give its whole JSON answer."""
        answer = self.send(message, headers)
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return json.loads(body)

    def modern(self, method: str, params: Mapping[str, Any], identifier: Any = 1) -> Any:
        """Make one request of the modern era."""
        return self.ask(*modern(method, params, identifier))

    def pid(self) -> int:
        """Which process is at the other end."""
        result = self.modern("tools/call", {"name": "who__pid", "arguments": {}})["result"]
        return int(result["content"][0]["text"])


def modern(method: str, params: Mapping[str, Any], identifier: Any = 1) -> tuple[Any, Any]:
    """A message of the modern era and its headers."""
    name = params.get("name") or params.get("uri")
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    message = {"jsonrpc": "2.0", "id": identifier, "method": method}
    return (
        {**message, "params": {**params, "_meta": META}},
        {**headers, **({"mcp-name": name} if name else {})},
    )


class Crowd:
    """A connection to each worker, by process."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.lines: dict[int, Line] = {}
        self.all: list[Line] = []
        until(lambda: "waygate: http" in gateway.output.read_text(), "the line of the start")
        self.meet_all()

    def meet_all(self) -> None:
        """Connect until every worker was met."""
        deadline = time.monotonic() + WAIT_S
        while len(self.lines) < WORKERS:
            assert time.monotonic() < deadline, f"only {len(self.lines)} workers were met"
            line = self.connect()
            if self.lines.setdefault(line.pid(), line) is not line:
                line.close()

    def connect(self) -> Line:
        """A connection to whichever worker takes it."""
        self.all.append(Line(self.gateway))
        return self.all[-1]

    def one(self, *others: int) -> tuple[int, Line]:
        """A worker that is none of these processes, on a connection of its own."""
        pid = next(pid for pid in self.lines if pid not in others)
        return pid, self.lines.pop(pid)

    def kill(self, pid: int) -> None:
        """Kill a worker and forget the connection to it."""
        os.kill(pid, signal.SIGKILL)
        self.lines.pop(pid, None)
        # Its first thread is dead before the others are, which hold its socket open as long.
        until(lambda: not is_running(pid) and threads_of(pid) < 2, "the end of the killed worker")

    def close(self) -> None:
        """Hang up everywhere."""
        for line in self.all:
            line.close()
        self.all.clear()
        self.lines.clear()


def threads_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


@contextmanager
def crowd_of(folder: Path, more: Mapping[str, Any] | None = None) -> Iterator[Crowd]:
    """Three workers with the plugin that says who it is, the fixture, and what a test adds."""
    folder.mkdir(mode=0o755, exist_ok=True)
    file = folder / "who.py"
    file.write_text(WHO.format(marker=str(folder / "cancelled")), encoding="utf-8")
    file.chmod(0o644)
    document = {
        "version": 1,
        "plugins": {
            "who": {"use": "./who.py"},
            "everything": {"use": "waygate_mcp.testing.everything"},
        },
        **(more or {}),
    }
    with serving(folder, document, arguments=("--workers", str(WORKERS))) as gateway:
        crowd = Crowd(gateway)
        try:
            yield crowd
        finally:
            crowd.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """One gateway for the tests that kill nobody."""
    with crowd_of(tmp_path_factory.mktemp("crowd")) as crowd:
        yield crowd


@pytest.fixture
def crowd(gateway: Crowd) -> Iterator[Crowd]:
    """All of its workers, met."""
    gateway.meet_all()
    yield gateway
    gateway.close()


# --- small steps


def open_session(line: Line) -> dict[str, str]:
    """Initialize, and give the headers of the session; it belongs to this worker."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {"form": {}}},
        "clientInfo": {"name": "test", "version": "1"},
    }
    answer = line.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
    answer.read()
    session = {"mcp-session-id": answer.getheader("mcp-session-id") or ""}
    done = line.send({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
    done.read()
    assert (answer.status, done.status) == (200, 202)
    return session


def tool(name: str, identifier: Any = 1, **arguments: Any) -> dict[str, Any]:
    """A call of the legacy era."""
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}


def next_event(stream: http.client.HTTPResponse) -> tuple[str, Any]:
    """The id and the message of the next event that has one; None at the end of the stream."""
    identifier = ""
    while line := stream.readline().decode():
        field, _, value = line.rstrip("\r\n").partition(": ")
        if field == "id":
            identifier = value
        elif field == "data" and value:
            return identifier, json.loads(value)
    return identifier, None


def text_of(message: Any) -> str:
    """What a tool said."""
    assert "result" in message, message
    return str(message["result"]["content"][0]["text"])


def park(line: Line) -> str:
    """Have a call parked at this worker, and give its ticket."""
    result = line.modern("tools/call", {"name": "who__ask", "arguments": {}})["result"]
    assert result["resultType"] == "input_required"
    return str(result["requestState"])


def retry(line: Line, ticket: str, name: str = "who__ask") -> Any:
    """Answer a parked call by way of this worker."""
    answers = {"w1": {"action": "accept", "content": {"name": "Ada"}}}
    params = {"name": name, "arguments": {}, "requestState": ticket, "inputResponses": answers}
    return line.modern("tools/call", params, 2)


def wait_for(look: Callable[[], Any], what: str) -> Any:
    """Look until something is there."""
    found: list[Any] = []

    def is_there() -> bool:
        found.append(look())
        return bool(found[-1])

    until(is_there, what)
    return found[-1]


# --- modern


def test_a_parked_call_is_answered_by_way_of_another_worker(crowd: Crowd) -> None:
    owner, line = crowd.one()
    _, other = crowd.one(owner)
    ticket = park(line)
    assert text_of(retry(other, ticket)) == f"{owner} Ada"
    # The reply is repeated for a client that lost it, from a third worker as well.
    _, third = crowd.one()
    assert text_of(retry(third, ticket)) == f"{owner} Ada"


def test_a_ticket_of_another_call_is_refused_wherever_it_is_shown(crowd: Crowd) -> None:
    owner, line = crowd.one()
    _, other = crowd.one(owner)
    ticket = park(line)
    assert retry(other, ticket, "who__ask_and_wait")["error"]["code"] == -32602
    assert retry(other, ticket[:-4] + "AAAA")["error"]["code"] == -32602
    assert text_of(retry(other, ticket)) == f"{owner} Ada"


def test_a_client_that_leaves_another_workers_door_cancels_the_call(crowd: Crowd) -> None:
    owner, line = crowd.one()
    _, other = crowd.one(owner)
    result = line.modern("tools/call", {"name": "who__ask_and_wait", "arguments": {}})["result"]
    answers = {"w1": {"action": "accept", "content": {"name": "Ada"}}}
    message, headers = modern(
        "tools/call",
        {
            "name": "who__ask_and_wait",
            "arguments": {},
            "requestState": result["requestState"],
            "inputResponses": answers,
        },
        2,
    )
    marker = crowd.gateway.folder / "cancelled"
    other.http.request("POST", "/mcp", json.dumps(message), {**other.headers, **headers})
    time.sleep(0.5)
    assert not marker.exists()
    other.close()
    until(marker.exists, "the cancellation")
    assert int(marker.read_text()) == owner


def test_a_change_at_one_worker_is_heard_at_all(crowd: Crowd) -> None:
    streams = []
    for pid, line in tuple(crowd.lines.items()):
        wanted = {"toolsListChanged": True, "resourceSubscriptions": [WATCHED]}
        message, headers = modern("subscriptions/listen", {"notifications": wanted}, f"l-{pid}")
        stream = line.send(message, headers)
        assert next_event(stream)[1]["method"] == "notifications/subscriptions/acknowledged"
        streams.append(stream)
    line = crowd.connect()
    for name in ("everything__test_trigger_tool_change", "everything__update_watched_resource"):
        line.modern("tools/call", {"name": name, "arguments": {}})
    for stream in streams:
        heard = {next_event(stream)[1]["method"] for _ in range(2)}
        assert heard == {"notifications/tools/list_changed", "notifications/resources/updated"}


# --- legacy


def test_a_session_is_served_where_it_is_held_whoever_takes_the_request(crowd: Crowd) -> None:
    owner, line = crowd.one()
    session = open_session(line)
    for _ in range(2):
        _, other = crowd.one()
        assert text_of(other.ask(tool("who__pid"), session)) == str(owner)


def test_a_question_is_answered_by_way_of_a_third_worker(crowd: Crowd) -> None:
    owner, line = crowd.one()
    session = open_session(line)
    _, second = crowd.one(owner)
    _, third = crowd.one(owner)
    stream = second.send(tool("who__ask"), session)
    question = next_event(stream)[1]
    assert question["method"] == "elicitation/create"
    answer = {"action": "accept", "content": {"name": "Ada"}}
    sent = third.send({"jsonrpc": "2.0", "id": question["id"], "result": answer}, session)
    sent.read()
    assert sent.status == 202
    assert text_of(next_event(stream)[1]) == f"{owner} Ada"


def test_the_sessions_stream_at_one_worker_hears_what_another_is_told(crowd: Crowd) -> None:
    owner, line = crowd.one()
    session = open_session(line)
    _, second = crowd.one(owner)
    _, third = crowd.one(owner)
    stream = second.send(None, session, "GET")
    assert stream.status == 200
    subscribed = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe"}
    third.ask({**subscribed, "params": {"uri": WATCHED}}, session)
    third.modern("tools/call", {"name": "everything__update_watched_resource", "arguments": {}})
    told = next_event(stream)[1]
    assert (told["method"], told["params"]["uri"]) == ("notifications/resources/updated", WATCHED)


def test_a_stream_is_resumed_by_way_of_another_worker(crowd: Crowd) -> None:
    owner, line = crowd.one()
    session = open_session(line)
    _, second = crowd.one(owner)
    _, third = crowd.one(owner)
    stream = second.send(tool("everything__test_reconnection"), session)
    last = ""
    while True:
        identifier, message = next_event(stream)
        last = identifier or last
        if message is None:
            break
        assert "result" not in message
    resumed = third.send(None, {**session, "last-event-id": last}, "GET")
    assert resumed.status == 200
    while "result" not in (message := next_event(resumed)[1]):
        assert message["method"] == "notifications/message"
    assert text_of(message) == "Reconnection test completed successfully"


def test_a_session_ended_by_way_of_another_worker_is_over_at_all(crowd: Crowd) -> None:
    owner, line = crowd.one()
    session = open_session(line)
    _, second = crowd.one(owner)
    _, third = crowd.one(owner)
    ended = second.send(None, session, "DELETE")
    ended.read()
    assert ended.status == 204
    for each in (line, second, third):
        answer = each.send(tool("who__pid"), session)
        answer.read()
        assert answer.status == 404


# --- who may come in


def test_a_passport_of_a_clients_making_opens_nothing(crowd: Crowd) -> None:
    _, line = crowd.one()
    del line.headers["Authorization"]
    message, headers = modern("tools/call", {"name": "who__pid", "arguments": {}})
    answer = line.send(message, {**headers, "x-waygate-passport": "AAAA"})
    answer.read()
    assert answer.status == 401


@pytest.mark.parametrize("path", ["/mcp", "/news", "/metrics"])
def test_the_workers_sockets_serve_nobody_without_a_passport(crowd: Crowd, path: str) -> None:
    folder = crowd.gateway.folder / "data" / "run" / "workers"
    assert folder.stat().st_mode & 0o777 == 0o700
    for slot in range(WORKERS):
        file = folder / f"{slot}.sock"
        assert file.stat().st_mode & 0o777 == 0o600
        with closing(socket.socket(socket.AF_UNIX)) as wire, socket_address(file) as address:
            wire.settimeout(WAIT_S)
            wire.connect(address)
            key = f"Authorization: Bearer {KEY}"
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\nContent-Length: 2\r\n\r\n{{}}"
            )
            wire.sendall(head.encode())
            assert wire.recv(4096).startswith(b"HTTP/1.1 403 ")


def test_a_forwarded_request_is_counted_once_and_logged_at_both_workers(tmp_path: Path) -> None:
    with crowd_of(tmp_path) as crowd:
        owner, line = crowd.one()
        _, other = crowd.one(owner)
        ticket = park(line)
        _, third = crowd.one()
        park(third)
        gauge = re.compile(r"^waygate_parked_exchanges ([0-9.]+)$", re.MULTILINE)

        def metrics() -> str:
            line.http.request("GET", "/metrics", headers=line.headers)
            answer = line.http.getresponse()
            return answer.read().decode()

        wait_for(lambda: (m := gauge.search(metrics())) and float(m[1]) == 2, "both parked calls")
        retry(other, ticket)

        def posts() -> float:
            found = re.findall(
                r'^waygate_requests_total\{[^}]*method="POST"[^}]*\} ([0-9.]+)', metrics(), re.M
            )
            return sum(map(float, found))

        def lines() -> list[Any]:
            found = set(
                re.findall(r'^{"event":"request",.*"method":"POST".*}$', crowd.gateway.log(), re.M)
            )
            return [json.loads(one) for one in found]

        until(lambda: len([one for one in lines() if one["door"] == "worker"]) == 1, "its line")
        until(lambda: len([one for one in lines() if one["outcome"] == "forwarded"]) == 1, "a line")
        taken = len([one for one in lines() if one["door"] == "http"])
        (there,) = [one for one in lines() if one["door"] == "worker"]
        (here,) = [one for one in lines() if one["outcome"] == "forwarded"]
        assert there["request_id"] == here["request_id"]
        assert (there["outcome"], there["principal"]) == ("ok", "key:bootstrap")
        wait_for(lambda: posts() == taken, "each POST once")


# --- deaths


def test_a_call_parked_at_a_worker_that_died_is_interrupted(tmp_path: Path) -> None:
    with crowd_of(tmp_path) as crowd:
        owner, line = crowd.one()
        _, other = crowd.one(owner)
        ticket = park(line)
        crowd.kill(owner)
        until(lambda: "worker_died" in crowd.gateway.log(), "a line about it")
        began = time.monotonic()
        error = retry(other, ticket)["error"]
        assert time.monotonic() - began < 2
        assert (error["code"], error["data"]["reason"]) == (-32603, "interrupted")
        # Its successor is there soon, has the same socket, and is not mistaken for it.
        crowd.meet_all()
        error = retry(other, ticket)["error"]
        assert (error["code"], error["data"]["reason"]) == (-32603, "interrupted")


def test_a_worker_that_dies_while_another_waits_for_it_is_told_of(tmp_path: Path) -> None:
    with crowd_of(tmp_path) as crowd:
        owner, line = crowd.one()
        session = open_session(line)
        _, other = crowd.one(owner)
        stream = other.send(tool("who__ask", 7), session)
        assert next_event(stream)[1]["method"] == "elicitation/create"
        crowd.kill(owner)
        message = next_event(stream)[1]
        assert (message["id"], message["error"]["data"]["reason"]) == (7, "interrupted")
        assert next_event(stream)[1] is None


def test_sessions_of_a_worker_that_died_go_on_and_return_to_its_successor(tmp_path: Path) -> None:
    with crowd_of(tmp_path) as crowd:
        owner, line = crowd.one()
        session = open_session(line)
        _, second = crowd.one(owner)
        _, third = crowd.one(owner)
        crowd.kill(owner)
        heirs = {int(text_of(each.ask(tool("who__pid"), session))) for each in (second, third) * 3}
        assert len(heirs) == 1, "all workers know the same heir"
        assert owner not in heirs
        crowd.meet_all()
        successor = next(pid for pid in crowd.lines if pid not in {second.pid(), third.pid()})
        for each in (second, third, *crowd.lines.values()):
            assert int(text_of(each.ask(tool("who__pid"), session))) == successor


def test_a_session_that_was_ended_stays_so_when_its_worker_dies(tmp_path: Path) -> None:
    with crowd_of(tmp_path) as crowd:
        owner, line = crowd.one()
        session = open_session(line)
        _, second = crowd.one(owner)
        second.send(None, session, "DELETE").read()
        time.sleep(0.2)  # the others are told at once, and not before the answer
        crowd.kill(owner)
        until(lambda: "worker_died" in crowd.gateway.log(), "a line about it")
        answer = second.send(tool("who__pid"), session)
        answer.read()
        assert answer.status == 404


# --- stdio upstreams


LISTED = """[{"name": "echo", "inputSchema": {"type": "object"}}]"""
TOOLS = """[{"name": n, "inputSchema": {"type": "object"}} for n in
("echo", "pid", "ask", "sleep", "crash", "environment")]"""


def with_lines(folder: Path, *arguments: str) -> dict[str, Any]:
    """A document with a server behind standard input and output."""
    file = folder / "lines.py"
    assert LISTED in LINES
    file.write_text(LINES.replace(LISTED, TOOLS), encoding="utf-8")
    command = {"command": sys.executable, "args": [str(file), *arguments], "sandbox": "none"}
    return {"upstreams": {"lines": command}}


def lines_pid(line: Line) -> str:
    """The process of the upstream that serves us."""
    return text_of(line.modern("tools/call", {"name": "lines__pid", "arguments": {}}))


def processes_of(folder: Path) -> int:
    """How many processes run the upstream's program."""
    wanted = str(folder / "lines.py").encode()
    count = 0
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        count += wanted in words
    return count


def host_of(gateway: Gateway) -> int:
    """The process that is the parent of the upstream's."""
    folder = gateway.folder
    wanted = str(folder / "lines.py").encode()
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (one / "cmdline").read_bytes().split(b"\0"):
                return int((one / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    raise AssertionError("the upstream has no process")


def test_workers_share_the_processes_of_a_principal(tmp_path: Path) -> None:
    with crowd_of(tmp_path, with_lines(tmp_path)) as crowd:
        pids = {lines_pid(line) for line in crowd.lines.values()}
        assert len(pids) == 1
        # One for our own session, one for the principal; without the host there would be two for each worker.
        assert processes_of(tmp_path) == 2
        assert host_of(crowd.gateway) not in crowd.lines


def test_a_question_of_a_shared_process_reaches_the_caller_by_any_worker(tmp_path: Path) -> None:
    with crowd_of(tmp_path, with_lines(tmp_path)) as crowd:
        owner, line = crowd.one()
        _, other = crowd.one(owner)
        first = line.modern("tools/call", {"name": "lines__ask", "arguments": {}})["result"]
        (key,) = first["inputRequests"]
        answers = {key: {"action": "accept", "content": {"name": "Ada"}}}
        params = {"name": "lines__ask", "arguments": {}, "inputResponses": answers}
        answer = other.modern("tools/call", {**params, "requestState": first["requestState"]}, 2)
        assert json.loads(text_of(answer)) == answers[key]


def test_the_host_dies_and_is_there_again(tmp_path: Path) -> None:
    with crowd_of(tmp_path, with_lines(tmp_path)) as crowd:
        pid, line = crowd.one()
        _, other = crowd.one(pid)
        before = lines_pid(other)
        message, headers = modern("tools/call", {"name": "lines__sleep", "arguments": {}}, 5)
        line.http.request("POST", "/mcp", json.dumps(message), {**line.headers, **headers})
        time.sleep(0.5)
        os.kill(host_of(crowd.gateway), signal.SIGKILL)
        answer = json.loads(line.http.getresponse().read())
        assert answer["error"]["code"] == -32603
        assert answer["error"]["data"]["reason"] == "interrupted"

        def is_back() -> bool:
            said = other.modern("tools/call", {"name": "lines__pid", "arguments": {}})
            return "result" in said and text_of(said) != before

        until(is_back, "a new process of the upstream")
        assert processes_of(tmp_path) == 2, "nothing is left of the old ones"


def test_a_reload_reaches_the_host(tmp_path: Path) -> None:
    with crowd_of(tmp_path, with_lines(tmp_path)) as crowd:
        before = {lines_pid(line) for line in crowd.lines.values()}
        path = tmp_path / "waygate.yaml"
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, **with_lines(tmp_path, "again")}))
        crowd.gateway.process.send_signal(signal.SIGHUP)
        until(lambda: crowd.gateway.log().count('"reloaded"') >= WORKERS, "all reloads")
        after = {lines_pid(line) for line in crowd.lines.values()}
        assert len(after) == 1
        assert after.isdisjoint(before)
        until(lambda: processes_of(tmp_path) == 2, "the end of the old processes")


def test_a_secret_reaches_a_shared_process_and_no_log(tmp_path: Path) -> None:
    secret = "hunter2-hunter2-hunter2"
    told = tmp_path / "told"
    told.write_text(secret)
    told.chmod(0o600)
    document = with_lines(tmp_path)
    document["upstreams"]["lines"]["env"] = {"TOKEN": f"${{file:{told}}}"}
    file = tmp_path / "lines.py"
    says = 'import os, sys\nprint("it is", os.environ["TOKEN"], file=sys.stderr, flush=True)\n'
    file.write_text(says + file.read_text())
    with crowd_of(tmp_path, document) as crowd:
        _, line = crowd.one()
        answer = line.modern("tools/call", {"name": "lines__environment", "arguments": {}})
        assert json.loads(text_of(answer))["TOKEN"] == secret
        until(lambda: "it is ***" in crowd.gateway.log(), "the line of the process")
        assert secret not in crowd.gateway.log()


def test_a_process_of_a_session_lives_as_long_as_the_session(tmp_path: Path) -> None:
    document = with_lines(tmp_path)
    document["upstreams"]["lines"]["sessions"] = "client"
    with crowd_of(tmp_path, document) as crowd:
        owner, line = crowd.one()
        session = open_session(line)
        before = text_of(line.ask(tool("lines__pid"), session))
        _, second = crowd.one(owner)
        assert text_of(second.ask(tool("lines__pid"), session)) == before
        crowd.kill(owner)
        assert text_of(second.ask(tool("lines__pid"), session)) == before, "its heir has it"
        until(lambda: "worker_died" in crowd.gateway.log(), "a line about it")
        crowd.meet_all()
        assert text_of(second.ask(tool("lines__pid"), session)) == before, (
            "it is given back with it"
        )
        assert Path(f"/proc/{before}").exists()
        count = processes_of(tmp_path)
        second.send(None, session, "DELETE").read()
        until(lambda: not Path(f"/proc/{before}").exists(), "the end of its process")
        assert processes_of(tmp_path) == count - 1, "all others are somebody else's"
