"""Bad input against the real server: the documented status and error, nothing in clear in the log, still serving.

Bytes are written by hand. The rows are those of `docs/protocol-errors.md`; the ladder's examples are sent here too.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway, serving
from tests.support.raw_http import Answer, Wire, ask, request
from tests.support.refusal_examples import HEADERS, LADDER, META, PARAMS, SERVER, SESSIONS, call
from tests.support.refusal_rows import Row, refusals

ROWS = refusals()
HIDDEN = "/hidden"
"""A path that only a request inside of a body asks for; the log may never hold it."""
LIMIT_BYTES = 3_000_000
CANARY = "canary-51d3e0"
"""Stands in wrong keys, arguments and answers; never in the log."""

DOCUMENT = {
    "version": 1,
    "plugins": {"everything": {"use": "waygate_mcp.testing.everything"}},
    "limits": {"stream_events": 1},
}
PING = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("bad-input")
    environment = {"WAYGATE_MAX_REQUEST_SIZE": str(LIMIT_BYTES)}
    with serving(folder, DOCUMENT, environment=environment) as running:
        yield running
        running.stop()  # and with it all lines are written
        log = running.log()
        assert CANARY not in log
        assert HIDDEN not in log


@pytest.fixture(autouse=True)
def _still_serving(gateway: Gateway) -> Iterator[None]:
    """After each test a good request of each era is served."""
    yield
    served = post(gateway, json.dumps(call(name="test_simple_text")).encode(), **modern_headers())
    assert served.status == 200, served
    assert "simple text response" in served.message["result"]["content"][0]["text"]
    assert open_session(gateway)


# ------------------------------------------------------------------ speaking
def key(gateway: Gateway) -> dict[str, str | None]:
    return {"Authorization": f"Bearer {gateway.key}"}


def post(gateway: Gateway, body: bytes, **headers: str | None) -> Answer:
    """POST a body with the key and these headers."""
    return ask(gateway.base_url, request({**key(gateway), **headers}, body))


def modern_headers(name: str = "test_simple_text") -> dict[str, str | None]:
    return {
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }


def open_session(gateway: Gateway, revision: str = "2025-11-25") -> str:
    """Open a session and give its id."""
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": revision,
            "capabilities": {},
            "clientInfo": {"name": "bad-input", "version": "1"},
        },
    }
    answer = post(gateway, json.dumps(hello).encode())
    assert answer.status == 200, answer
    return answer.headers["mcp-session-id"]


def in_session(gateway: Gateway, message: Any, session: str | None = None) -> Answer:
    """POST a message in a session of 2025-11-25."""
    token = session or open_session(gateway)
    return post(gateway, json.dumps(message).encode(), **{"Mcp-Session-Id": token})


def assert_row(answer: Answer, row: str, identifier: Any = ...) -> None:
    """Assert that an answer is the one of that row; Ellipsis for an error without id."""
    documented: Row = ROWS[row]
    assert answer.status == documented.status, answer
    if not documented.code:
        assert answer.body == b""
        return
    assert answer.headers["content-type"] == "application/json"
    message = answer.message
    assert str(message["error"]["code"]) == documented.code
    assert documented.fits(message["error"]["message"]), message
    assert message.get("id", ...) == identifier
    assert answer.headers["x-request-id"]


# ------------------------------------------------------------------ the ladder, behind the door
@pytest.mark.parametrize("row", LADDER)
def test_each_rung_answers_over_http_as_documented(gateway: Gateway, row: str) -> None:
    value, changes = LADDER[row]
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    merged: dict[bytes, bytes | None] = {**HEADERS, **changes}
    headers = {
        name.decode(): None if text is None else text.decode("latin-1")
        for name, text in merged.items()
    }
    answer = post(gateway, body, **headers)
    is_request = isinstance(value, dict) and value.get("id") is not None and "method" in value
    looks_like_a_response = isinstance(value, dict) and ("result" in value or "error" in value)
    has_id = (is_request or row == "shape-no-method") and not looks_like_a_response
    assert_row(answer, row, 1 if has_id else ...)


@pytest.mark.parametrize("row", SESSIONS)
def test_a_session_answers_over_http_as_documented(gateway: Gateway, row: str) -> None:
    assert_row(in_session(gateway, SESSIONS[row]), row, 1)


@pytest.mark.parametrize("row", PARAMS)
def test_mirrored_arguments_are_compared_over_http(gateway: Gateway, row: str) -> None:
    arguments, extra = PARAMS[row]
    message = call(name="test_custom_header", arguments={**arguments, "note": CANARY})
    headers = modern_headers("test_custom_header")
    headers |= {name.decode(): text.decode("latin-1") for name, text in extra.items()}
    assert_row(post(gateway, json.dumps(message).encode(), **headers), row, 1)


# ------------------------------------------------------------------ the door
def test_door_headers(gateway: Gateway) -> None:
    many = "".join(f"X-{number}: a\r\n" for number in range(100))
    assert_row(ask(gateway.base_url, request(key(gateway), PING, more=many)), "door-headers")
    large = request({**key(gateway), "X-Large": "a" * 70_000}, PING)
    assert ask(gateway.base_url, large).status == 431


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Authorization",
        "Content-Type",
        "Mcp-Name",
        "MCP-Protocol-Version",
        "Mcp-Param-Region",
    ],
)
def test_door_duplicate(gateway: Gateway, name: str) -> None:
    twice = f"{name}: application/json\r\n{name.upper()}: application/json\r\n"
    data = request({**key(gateway), name: None}, PING, more=twice)
    assert_row(ask(gateway.base_url, data), "door-duplicate")


def test_door_no_host(gateway: Gateway) -> None:
    answer = ask(gateway.base_url, request({**key(gateway), "Host": None}, PING))
    assert_row(answer, "door-no-host")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "",
        "[::",
        "localhost:x",
    ],
)
def test_door_host(gateway: Gateway, host: str) -> None:
    answer = ask(gateway.base_url, request({**key(gateway), "Host": host}, PING))
    assert_row(answer, "door-host")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:1",
        "http://localhost.evil.example",
        "null",
        "",
        "file://",
        "http://user@localhost",
    ],
)
def test_door_origin(gateway: Gateway, origin: str) -> None:
    answer = ask(gateway.base_url, request({**key(gateway), "Origin": origin}, PING))
    assert_row(answer, "door-origin")
    assert "access-control-allow-origin" not in answer.headers


def test_door_no_key(gateway: Gateway) -> None:
    answer = ask(gateway.base_url, request({}, PING))
    assert_row(answer, "door-no-key")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": f"Bearer wg_{CANARY}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {CANARY}"},
        {"Authorization": f"Bearer {CANARY * 100}"},
        {"Authorization": f"Bearer \xff{CANARY}"},
        {"X-API-Key": CANARY},
        {"X-API-Key": ""},
        {"Cookie": f"key={CANARY}"},
    ],
)
def test_door_wrong_key(gateway: Gateway, header: dict[str, str | None]) -> None:
    assert_row(ask(gateway.base_url, request(header, PING)), "door-wrong-key")


def test_a_key_in_the_query_or_the_body_is_no_key(gateway: Gateway) -> None:
    line = f"POST /mcp?key={gateway.key}&authorization=Bearer%20{gateway.key} HTTP/1.1"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"key": gateway.key}})
    answer = ask(gateway.base_url, request({}, body.encode(), line=line))
    assert_row(answer, "door-no-key")


def test_door_two_keys(gateway: Gateway) -> None:
    for other in (CANARY, "", f"{gateway.key}x"):
        answer = ask(gateway.base_url, request({**key(gateway), "X-API-Key": other}, PING))
        assert_row(answer, "door-two-keys")
    same = ask(gateway.base_url, request({**key(gateway), "X-API-Key": gateway.key}, PING))
    assert_row(same, "session-none", 1)


def test_door_endpoint(gateway: Gateway) -> None:
    line = "POST /servers/no-such/mcp HTTP/1.1"
    assert_row(ask(gateway.base_url, request(key(gateway), PING, line=line)), "door-endpoint")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "TRACE", "GET", "DELETE"])
def test_door_method(gateway: Gateway, method: str) -> None:
    line = f"{method} /mcp HTTP/1.1"
    assert_row(ask(gateway.base_url, request(key(gateway), line=line)), "door-method")


@pytest.mark.parametrize(
    "path", ["/mcp/", "//mcp", "/MCP", "/mcp/../mcp", "/mcp%00", "/%6dcp", "/servers//mcp", "/.env"]
)
def test_a_path_that_only_resembles_one_of_ours_is_not_found(gateway: Gateway, path: str) -> None:
    answer = ask(gateway.base_url, request(key(gateway), PING, line=f"POST {path} HTTP/1.1"))
    assert answer.status == 404, answer


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/jsonp",
        "application/json-seq",
        "multipart/form-data; boundary=application/json",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "text/json, application/json",
    ],
)
def test_door_content_type(gateway: Gateway, content_type: str | None) -> None:
    answer = post(gateway, PING, **{"Content-Type": content_type})
    assert_row(answer, "door-content-type")


@pytest.mark.parametrize("accept", ["text/html", "image/*", "text/plain, application/xml"])
def test_door_accept(gateway: Gateway, accept: str) -> None:
    assert_row(post(gateway, PING, Accept=accept), "door-accept")


# ------------------------------------------------------------------ bodies
def test_door_declared_size(gateway: Gateway) -> None:
    for size in (LIMIT_BYTES + 1, 10**15):
        answer = post(gateway, b"", **{"Content-Length": str(size)})
        assert_row(answer, "door-declared-size")
        assert str(LIMIT_BYTES) in answer.message["error"]["message"]


def test_a_body_of_exactly_the_limit_is_read(gateway: Gateway) -> None:
    body = PING + b" " * (LIMIT_BYTES - len(PING))
    assert_row(post(gateway, body), "session-none", 1)


def test_a_body_that_is_too_large_is_refused_while_it_is_sent(gateway: Gateway) -> None:
    answer = post(gateway, PING + b" " * LIMIT_BYTES)
    assert_row(answer, "door-declared-size")


def chunked(gateway: Gateway) -> bytes:
    return request(
        {**key(gateway), "Content-Length": None, "Transfer-Encoding": "chunked"},
    )


def test_door_chunked_size(gateway: Gateway) -> None:
    with Wire(gateway.base_url) as wire:
        wire.send(chunked(gateway))
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(LIMIT_BYTES // 0x10000 + 2):
            wire.send(piece)
        assert_row(wire.read(), "door-chunked-size")
        # What the client goes on to send is dropped, and then the connection.
        wire.send(piece)
        assert wire.is_closed()


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"5\r\nabcdefgh\r\n",
        b"ffffffffffffffffff\r\n",
        b"1;" + b"x" * 70_000,
    ],
)
def test_a_broken_chunk_is_a_bad_request(gateway: Gateway, chunks: bytes) -> None:
    with Wire(gateway.base_url) as wire:
        wire.send(chunked(gateway) + chunks)
        wire.end()
        assert wire.read_head()[0] in {0, 400, 413, 431}
        assert wire.is_closed()


def test_a_chunked_body_within_the_limit_is_read(gateway: Gateway) -> None:
    parts = b"".join(b"%x\r\n%b\r\n" % (1, bytes((byte,))) for byte in PING)
    assert_row(ask(gateway.base_url, chunked(gateway) + parts + b"0\r\n\r\n"), "session-none", 1)


@pytest.mark.parametrize("sent", [0, 1, 20])
def test_a_body_that_ends_before_its_end_is_dropped(gateway: Gateway, sent: int) -> None:
    with Wire(gateway.base_url) as wire:
        wire.send(
            request({**key(gateway), "Content-Length": "500"}, PING)[: -len(PING)] + PING[:sent]
        )
        wire.end()
        assert wire.read_head()[0] in {0, 400}
        assert wire.is_closed()


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_door_slow_body(gateway: Gateway) -> None:
    """A client that drips its body loses its place after half a minute; one that drips headers earlier."""
    answers: dict[str, tuple[float, int]] = {}

    def drip(name: str, head: bytes, piece: bytes) -> None:
        began = time.monotonic()
        with Wire(gateway.base_url, 60) as wire:
            wire.send(head)
            stop = threading.Event()

            def feed() -> None:
                while not stop.wait(0.5):
                    wire.send(piece)

            feeder = threading.Thread(target=feed, daemon=True)
            feeder.start()
            try:
                if name == "body":
                    assert_row(wire.read(), "door-slow-body")
                    answers[name] = (time.monotonic() - began, 408)
                else:
                    answers[name] = (time.monotonic() - began, wire.read_head()[0])
                    answers[name] = (time.monotonic() - began, answers[name][1])
            finally:
                stop.set()
                feeder.join(5)

    body_head = request({**key(gateway), "Content-Length": "1000"})
    cases = {"body": (body_head, b" "), "head": (b"POST /mcp HTTP/1.1\r\n", b"X-A: b\r\n")}
    threads = [
        threading.Thread(target=drip, args=(name, *case), daemon=True)
        for name, case in cases.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers["body"][1] == 408
    assert 25 < answers["body"][0] < 45
    assert answers["head"][1] == 408
    assert 15 < answers["head"][0] < 35


# ------------------------------------------------------------------ what is hardly HTTP
@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
        b"POST /mcp\r\n\r\n",
        b"POST /mcp HTTP/9.9\r\n\r\n",
        b"P\xf6ST /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1_0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n folded: yes\r\n\r\n",
        b"POST " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_refused_and_the_connection_closed(
    gateway: Gateway, data: bytes
) -> None:
    with Wire(gateway.base_url) as wire:
        wire.send(data)
        wire.end()
        status, _ = wire.read_head()
        assert status in {0, 400, 401, 404, 405, 421, 431}, status


def test_a_second_request_hidden_in_a_body_is_never_served(gateway: Gateway) -> None:
    hidden = request(key(gateway), PING, line=f"POST {HIDDEN} HTTP/1.1")
    data = request(
        {**key(gateway), "Content-Length": "4", "Transfer-Encoding": "chunked"},
        b"0\r\n\r\n" + hidden,
    )
    with Wire(gateway.base_url) as wire:
        wire.send(data)
        wire.end()
        assert wire.read().status in {0, 400}
        assert wire.is_closed()


# ------------------------------------------------------------------ sessions
def test_session_none(gateway: Gateway) -> None:
    assert_row(post(gateway, PING), "session-none", 1)


@pytest.mark.parametrize("token", ["x", "", "A" * 60, "a" * 9000, "\xff", f"{CANARY}"])
def test_session_unknown(gateway: Gateway, token: str) -> None:
    assert_row(post(gateway, PING, **{"Mcp-Session-Id": token}), "session-unknown", 1)
    for method in ("GET", "DELETE"):
        headers = {**key(gateway), "Mcp-Session-Id": token}
        answer = ask(gateway.base_url, request(headers, line=f"{method} /mcp HTTP/1.1"))
        assert_row(answer, "session-unknown")


def test_every_changed_session_id_is_unknown(gateway: Gateway) -> None:
    token = open_session(gateway)
    rng = random.Random(1)
    with Wire(gateway.base_url) as wire:
        for _ in range(200):
            at = rng.randrange(len(token))
            changed = token[:at] + rng.choice("abcXYZ019-_") + token[at + 1 :]
            if changed != token:
                wire.send(request({**key(gateway), "Mcp-Session-Id": changed}, PING))
                assert_row(wire.read(), "session-unknown", 1)


def test_an_ended_session_is_unknown(gateway: Gateway) -> None:
    headers = {**key(gateway), "Mcp-Session-Id": open_session(gateway)}
    end = request(headers, line="DELETE /mcp HTTP/1.1")
    assert ask(gateway.base_url, end).status == 204
    assert_row(ask(gateway.base_url, request(headers, PING)), "session-unknown", 1)
    assert_row(ask(gateway.base_url, end), "session-unknown")


def test_session_revision(gateway: Gateway) -> None:
    headers = {"Mcp-Session-Id": open_session(gateway), "MCP-Protocol-Version": "2025-06-18"}
    assert_row(post(gateway, PING, **headers), "session-revision", 1)
    unknown = post(gateway, PING, **{**headers, "MCP-Protocol-Version": "1999-01-01"})
    assert_row(unknown, "revision-unknown-header", 1)


@pytest.mark.parametrize("version", [None, 5, [], {}])
def test_session_greeting(gateway: Gateway, version: Any) -> None:
    params = {"capabilities": {}} | ({} if version is None else {"protocolVersion": version})
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    assert_row(post(gateway, json.dumps(message).encode()), "session-greeting", 1)


def test_session_capabilities(gateway: Gateway) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": []}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    assert_row(post(gateway, json.dumps(message).encode()), "session-capabilities", 1)


def tool_call(name: str, identifier: Any, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}


def test_session_id_in_use(gateway: Gateway) -> None:
    token = open_session(gateway)
    slow = json.dumps(tool_call("slow_cancellable", "same", seconds=2)).encode()
    headers = {**key(gateway), "Mcp-Session-Id": token}
    with Wire(gateway.base_url) as first:
        first.send(request(headers, slow))
        deadline = time.monotonic() + 1.5
        answer = in_session(gateway, tool_call("test_simple_text", "same"), token)
        while answer.status == 200 and time.monotonic() < deadline:
            answer = in_session(gateway, tool_call("test_simple_text", "same"), token)
        assert_row(answer, "session-id-in-use", "same")
        assert first.read().message["result"]["content"][0]["text"] == "Waited 2 s"


def test_session_events_gone(gateway: Gateway) -> None:
    token = open_session(gateway)
    headers = {**key(gateway), "Mcp-Session-Id": token}
    body = json.dumps(tool_call("test_reconnection", 1)).encode()
    with Wire(gateway.base_url) as wire:
        wire.send(request(headers, body))
        status, _ = wire.read_head()
        assert status == 200
        identifiers = []
        while not wire.is_at_end():
            text = wire.read_line().decode()
            identifiers += [text.removeprefix("id: ")] if text.startswith("id: ") else []
    assert identifiers
    deadline = time.monotonic() + 5
    again = {**headers, "Accept": "text/event-stream", "Last-Event-ID": identifiers[0]}
    while True:
        with Wire(gateway.base_url) as wire:
            wire.send(request(again, line="GET /mcp HTTP/1.1"))
            status, found = wire.read_head()
            if status == 400:
                length = int(found["content-length"])
                assert_row(Answer(status, found, wire.read_bytes(length)), "session-events-gone")
                return
        assert time.monotonic() < deadline, "the events are never gone"


def test_a_batch_where_the_session_has_none_is_refused(gateway: Gateway) -> None:
    answer = in_session(gateway, [json.loads(PING)])
    assert_row(answer, "shape-batch")


def test_a_batch_answers_what_is_wrong_in_it_one_by_one(gateway: Gateway) -> None:
    token = open_session(gateway, "2025-03-26")
    batch = [5, {"jsonrpc": "2.0", "id": 7}, json.loads(PING), {"jsonrpc": "2.0", "method": "x"}]
    answer = in_session(gateway, batch, token)
    assert answer.status == 200
    found = sorted((m.get("id", 0), m.get("error", {}).get("code")) for m in answer.message)
    assert found == [(0, -32600), (1, None), (7, -32600)]


# ------------------------------------------------------------------ hostile values that are good JSON-RPC
HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    2**53,
    1e308,
    "",
    "x",
    "\0",
    "é世",
    [],
    {},
    [[]],
    {"a": {}},
]


@pytest.mark.parametrize(
    "method", ["tools/call", "prompts/get", "resources/read", "completion/complete"]
)
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_any_value_for_any_parameter_gets_an_answer(
    gateway: Gateway, method: str, era: str
) -> None:
    names = ["name", "uri", "arguments", "ref", "argument", "context", "cursor", "inputResponses"]
    token = open_session(gateway)
    with Wire(gateway.base_url) as wire:
        for name in [*names, "requestState", "_meta", "task"]:
            for value in [*HOSTILE, {name: name}, {"type": [], "name": {}, "value": [], "uri": {}}]:
                params = {
                    "name": "test_simple_text",
                    "uri": "test://static-text",
                    "ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
                    "argument": {"name": "arg1", "value": CANARY},
                    "_meta": META if era == "modern" else {},
                    name: value,
                }
                message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                headers = {**key(gateway), "Mcp-Session-Id": token}
                if era == "modern":
                    headers = {**key(gateway), **modern_headers(), "Mcp-Method": method}
                    if method == "resources/read":
                        headers["Mcp-Name"] = "test://static-text"
                wire.send(request(headers, json.dumps(message).encode()))
                answer = wire.read()
                assert answer.status in {200, 400, 404}, (name, value, answer)
                found = answer.message
                assert ("result" in found) != ("error" in found)
                if "error" in found:
                    code = found["error"]["code"]
                    assert code in {-32600, -32601, -32602, -32002, -32020, -32022}, (
                        name,
                        value,
                        found,
                    )


def test_the_list_of_rows_that_need_a_server_is_the_list_of_tests() -> None:
    tested = {name.removeprefix("test_").replace("_", "-") for name in globals()}
    assert tested >= SERVER
