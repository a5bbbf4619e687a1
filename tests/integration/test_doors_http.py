"""The MCP door over real sockets: what only a connection that breaks, waits or stops can show."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import EVERYTHING, Gateway, serving

WAIT_S = 20.0
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
QUICK: Mapping[str, object] = {**EVERYTHING, "limits": {"keep_alive_s": 0.3, "drain_s": 10}}
_ids = itertools.count(1)


class Client:
    """A client of one gateway, a connection for each request."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.session: dict[str, str] = {}
        self.port = int(gateway.base_url.rpartition(":")[2])

    @contextmanager
    def request(
        self, method: str, headers: Mapping[str, str], message: Any = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        usual = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **self.gateway.headers,
        }
        with closing(connection):
            body = None if message is None else json.dumps(message)
            connection.request(method, "/mcp", body, {**usual, **headers})
            with closing(connection.getresponse()) as response:
                yield response

    def modern(self, name: str, arguments: Any = None, **params: Any) -> Any:
        """A modern `tools/call` as a context."""
        meta = {**META, **params.pop("_meta", {})}
        given = {"name": name, "arguments": arguments or {}, **params, "_meta": meta}
        headers = {
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": name,
        }
        message = {"jsonrpc": "2.0", "id": next(_ids), "method": "tools/call", "params": given}
        return self.request("POST", headers, message)

    def call(self, name: str, arguments: Any = None, **params: Any) -> Any:
        """Make a modern call and give its final message."""
        with self.modern(name, arguments, **params) as response:
            return final_of(response)

    def open(self, revision: str = "2025-11-25") -> None:
        params = {
            "protocolVersion": revision,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        with self.request("POST", {}, message) as response:
            response.read()
            token = response.getheader("mcp-session-id")
            assert token is not None
        self.session = {"mcp-session-id": token, "mcp-protocol-version": revision}

    def legacy(self, name: str, arguments: Any = None, **meta: Any) -> Any:
        """A legacy `tools/call` as a context."""
        params = {"name": name, "arguments": arguments or {}, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": next(_ids), "method": "tools/call", "params": params}
        return self.request("POST", self.session, message)

    def stream(self, last: str | None = None) -> Any:
        """The session's own stream, or one that is come back to, as a context."""
        more = {} if last is None else {"last-event-id": last}
        return self.request("GET", {**self.session, **more})


def events_of(response: http.client.HTTPResponse) -> Iterator[tuple[str | None, Any]]:
    """Read (id, message) of each event; None as message where there is none."""
    event_id: str | None = None
    data: str | None = None
    while line := response.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            data = value
        elif not line.strip() and data is not None:
            yield event_id, json.loads(data) if data else None
            data = None


def final_of(response: http.client.HTTPResponse) -> Any:
    """The last message of a response of either form."""
    if response.getheader("content-type", "").startswith("text/event-stream"):
        return [message for _, message in events_of(response) if message][-1]
    return json.loads(response.read())


def words(message: Any) -> str:
    return str(message["result"]["content"][0]["text"])


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {WAIT_S} s")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("door"), QUICK) as running:
        yield running


def cancellations(client: Client) -> int:
    return int(words(client.call("cancellations_seen")))


def test_a_modern_client_that_hangs_up_has_cancelled(gateway: Gateway) -> None:
    client = Client(gateway)
    before = cancellations(client)
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=WAIT_S)
    given = {"name": "slow_cancellable", "arguments": {"seconds": 60}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": given}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "slow_cancellable",
        **gateway.headers,
    }
    connection.request("POST", "/mcp", json.dumps(message), headers)
    time.sleep(0.2)
    connection.close()
    until(lambda: cancellations(client) == before + 1, "the cancellation")


def test_a_legacy_client_that_hangs_up_comes_back_for_the_answer(gateway: Gateway) -> None:
    client = Client(gateway)
    client.open()
    before = cancellations(client)
    with client.legacy("slow_cancellable", {"seconds": 1.5}) as response:
        place, nothing = next(events_of(response))  # a silence turned it into a stream
        assert nothing is None
    with client.stream(place) as response:
        assert words(final_of(response)) == "Waited 1.5 s"
    assert cancellations(client) == before


def test_a_stream_ended_by_the_tool_is_resumed_by_its_client(gateway: Gateway) -> None:
    client = Client(gateway)
    client.open()
    with client.legacy("test_reconnection") as response:
        seen = list(events_of(response))
        assert response.isclosed()
    with client.stream(seen[-1][0]) as response:
        rest = [message for _, message in events_of(response)]
    assert [one.get("method") for one in rest] == ["notifications/message", None]
    assert words(rest[-1]) == "Reconnection test completed successfully"


def test_a_silent_modern_call_is_kept_alive_by_comments(gateway: Gateway) -> None:
    with Client(gateway).modern("slow_cancellable", {"seconds": 1.2}) as response:
        assert response.getheader("content-type", "").startswith("text/event-stream")
        body = response.read()
    assert body.count(b":\n\n") + body.count(b": ") >= 2
    assert body.startswith(b":")
    assert b"Waited 1.2 s" in body


def test_a_newer_stream_ends_the_older_one(gateway: Gateway) -> None:
    client = Client(gateway)
    client.open()
    with client.stream() as older:
        assert older.readline().startswith(b"id: ")
        with client.stream() as newer:
            assert newer.readline().startswith(b"id: ")
            rest = older.read()  # to its end: it is over
            assert b"notifications" not in rest
            client.call("test_trigger_tool_change")
            _, told = next(pair for pair in events_of(newer) if pair[1])
            assert told["method"] == "notifications/tools/list_changed"


def test_a_server_that_is_stopped_finishes_calls_and_ends_streams(tmp_path: Path) -> None:
    with serving(tmp_path, QUICK) as gateway:
        client = Client(gateway)
        client.open()
        answers: list[Any] = []

        def wait() -> None:
            answers.append(client.call("slow_cancellable", {"seconds": 2}))

        caller = threading.Thread(target=wait)
        wanted = {"toolsListChanged": True}
        message = {
            "jsonrpc": "2.0",
            "id": "L",
            "method": "subscriptions/listen",
            "params": {"notifications": wanted, "_meta": META},
        }
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
        with (
            client.stream() as own,
            client.request("POST", headers, message) as listening,
        ):
            caller.start()
            time.sleep(0.5)
            gateway.process.send_signal(signal.SIGTERM)
            *_, (_, ended) = events_of(listening)
            assert ended["result"]["resultType"] == "complete"
            own.read()
        caller.join(WAIT_S)
        assert words(answers[0]) == "Waited 2 s"
        gateway.stop()


def test_a_session_and_its_ticket_are_only_their_owners(tmp_path: Path) -> None:
    with serving(tmp_path) as gateway:
        client = Client(gateway)
        client.open()
        session, client.session = client.session, {**client.session}
        client.session["mcp-session-id"] = session["mcp-session-id"][:-4] + "AAAA"
        with client.legacy("test_simple_text") as response:
            assert response.status == 404
        with client.request("DELETE", session) as response:
            assert response.status == 204
        client.session = session
        with client.legacy("test_simple_text") as response:
            assert response.status == 404
