"""OAuth against a real authorization server: the official clients' whole flow, outages, rotation, expiry."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server import MCPServer

from tests.integration.gateway_process import KEY, Gateway, serving, wait_for_port
from tests.peers.paths import OLD_PYTHON, ROOT, require_peers
from tests.support.authorization_server import AuthorizationServer, authorization_server
from tests.support.ports import free_port
from waygate_mcp.runtime.clock import Clock

WAIT_S = 20.0
READS = ["session:open", "tools:list", "prompts:list", "resources:list"]
GRANTS = {"mcp:read": READS, "mcp:call": ["tools:call"], "mcp:admin": ["*"]}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass
class Both:
    """An authorization server, and a gateway that takes its tokens."""

    issuer: AuthorizationServer
    gateway: Gateway
    heard: list[bytes]

    @property
    def audience(self) -> str:
        return self.gateway.url

    def ask(
        self, token: str | None, message: Any, path: str = "/mcp", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """POST one modern message; status, headers and body."""
        port = int(self.gateway.base_url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": message["method"],
            **({"mcp-name": message["params"]["name"]} if "name" in message["params"] else {}),
            **({} if token is None else {"authorization": f"Bearer {token}"}),
            **headers,
        }
        with closing(connection):
            connection.request("POST", path, json.dumps(message), sent)
            response = connection.getresponse()
            body = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, json.loads(body) if body else None

    def get(self, path: str, token: str | None = None) -> tuple[int, dict[str, str], Any]:
        """GET; status, headers and body."""
        port = int(self.gateway.base_url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        with closing(connection):
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, json.loads(body) if body else None


def greet(name: str = "Ada") -> dict[str, Any]:
    params = {"name": "greet", "arguments": {"name": name}, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def list_tools() -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def document(
    issuers: list[str], port: int, upstreams: Any = None, **oauth: Any
) -> Mapping[str, object]:
    taken = [{"issuer": issuer, "grants": GRANTS} for issuer in issuers]
    return {
        "version": 1,
        "server": {"public_url": f"http://127.0.0.1:{port}"},
        "auth": {"mode": "keys+oauth", "oauth": {"issuers": taken, "leeway_s": 0, **oauth}},
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "upstreams": upstreams or {},
        "endpoints": {
            "default": {"bind": ["*"], "prefixes": {"hello": ""}},
            "other": {"bind": ["hello"]},
        },
    }


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One issuer, one gateway and one recorded upstream for all tests that leave them as they were."""
    issuer_port, port = free_port(), free_port()
    with authorization_server(issuer_port) as issuer, recording_upstream() as (url, heard):
        upstream = {"url": url, "headers": {"Authorization": "Bearer of-the-gateway"}}
        told = document(
            [issuer.issuer],
            port,
            {"new": {**upstream, "era": "modern"}, "old": {**upstream, "era": "legacy"}},
            scopes_required=["mcp:read"],
        )
        with serving(tmp_path_factory.mktemp("oauth"), told, port=port) as gateway:
            yield Both(issuer, gateway, heard)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("python", "era"),
    [(str(OLD_PYTHON), "legacy"), (sys.executable, "legacy"), (sys.executable, "modern")],
    ids=["sdk1-legacy", "sdk2-legacy", "sdk2-modern"],
)
def test_an_official_client_comes_in_from_nothing_but_the_url(
    parts: Both, python: str, era: str
) -> None:
    require_peers()
    command = [python, "-W", "ignore", "-m", "tests.peers.oauth_client", parts.audience, era]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    seen = json.loads(done.stdout)
    assert {"echo", "greet"} <= set(seen["tools"])
    assert seen["scopes_at_first"] == "mcp:read"
    assert seen["called"] == "Hello, Ada!"
    assert set(seen["scopes_after"].split()) == {"mcp:read", "mcp:call"}
    assert seen["authorizations"] == 2, "once at first, once for the scope a call takes"
    assert seen["called_again"] == "Hello, Bo!"
    assert seen["refreshed"]
    assert seen["authorizations_at_end"] == 2, "a refresh asks nobody"
    assert (seen["resource"], seen["pkce"]) == (parts.audience, "S256")
    assert seen["registered"] in parts.issuer.state.clients
    assert seen["revision"] == ("2026-07-28" if era == "modern" else "2025-11-25")


def test_tokens_keys_scopes_and_audiences(parts: Both) -> None:
    issuer, audience = parts.issuer, parts.audience
    status, headers, _ = parts.ask(None, list_tools())
    assert status == 401
    base = parts.gateway.base_url
    where = f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
    challenge = headers["www-authenticate"]
    assert where in challenge
    assert 'scope="mcp:read"' in challenge
    assert "error=" not in challenge, "nobody presented a token"

    reader = issuer.token(audience, "mcp:read")
    assert parts.ask(reader, list_tools())[0] == 200
    status, headers, body = parts.ask(reader, greet())
    assert (status, body["error"]["code"]) == (403, 4403)
    assert 'error="insufficient_scope"' in headers["www-authenticate"]
    assert 'scope="mcp:read mcp:call"' in headers["www-authenticate"]
    status, _, body = parts.ask(issuer.token(audience, "mcp:read mcp:call"), greet())
    assert (status, body["result"]["content"][0]["text"]) == (200, "Hello, Ada!")

    # Keys go on working; two credentials do not.
    assert parts.ask(KEY, list_tools())[0] == 200
    assert parts.ask(reader, list_tools(), **{"x-api-key": KEY})[0] == 400

    # For one endpoint and not the other; for the server and so for both; for somebody else.
    assert parts.ask(reader, list_tools(), "/servers/other/mcp")[0] == 401
    assert parts.ask(issuer.token(base, "mcp:read"), list_tools(), "/servers/other/mcp")[0] == 200
    status, headers, _ = parts.ask(
        issuer.token("https://elsewhere.example", "mcp:read"), list_tools()
    )
    assert status == 401
    assert 'error="invalid_token"' in headers["www-authenticate"]

    # Where REST asks for more, it says so as well.
    status, headers, _ = parts.get("/mcp/servers", reader)
    assert status == 403
    assert 'scope="mcp:read mcp:admin"' in headers["www-authenticate"]
    status, _, told = parts.get("/.well-known/oauth-protected-resource/mcp")
    assert (status, told["resource"]) == (200, audience)
    assert told["authorization_servers"] == [issuer.issuer]


def test_issuers_nobody_reaches_or_that_point_at_this_machine_are_503_and_nobody_else(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (
        authorization_server(free_port()) as issuer,
        authorization_server(free_port()) as inner,
        authorization_server(free_port()) as hostile,
    ):
        issuer.stop()
        hostile.state.keys_url = f"{inner.issuer}/keys"
        told = document([issuer.issuer, hostile.issuer], port)
        with serving(tmp_path, told, port=port) as gateway:
            parts = Both(issuer, gateway, [])
            token = issuer.token(parts.audience, "mcp:read")
            status, headers, _ = parts.ask(token, list_tools())
            assert (status, headers["retry-after"]) == (503, "5")
            assert parts.ask(KEY, list_tools())[0] == 200, "keys do not depend on it"
            gateway.wait_for_log("issuer_keys_not_fetched")
            # Metadata that names another port of this machine: refused by the dial, no packet sent.
            assert parts.ask(hostile.token(parts.audience, "mcp:read"), list_tools())[0] == 503
            gateway.wait_for_log("which is refused")
            assert inner.state.seen == []
            issuer.start()
            deadline = time.monotonic() + WAIT_S
            while (status := parts.ask(token, list_tools())[0]) == 503:
                assert time.monotonic() < deadline, "it did not notice that the issuer is back"
                time.sleep(0.2)
            assert status == 200


def test_open_streams_end_with_the_token_that_opened_them(parts: Both) -> None:
    port = int(parts.gateway.base_url.rpartition(":")[2])
    exp = int(Clock().now()) + 6
    token = parts.issuer.token(parts.audience, "mcp:read", exp=exp)
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "subscriptions/listen",
        "authorization": f"Bearer {token}",
    }
    opened = []
    with contextlib.ExitStack() as stack:
        modern = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        stack.enter_context(closing(modern))
        modern.request("POST", "/mcp", json.dumps(listen), headers)
        opened.append(modern.getresponse())
        session = _legacy_session(port, token)
        legacy = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        stack.enter_context(closing(legacy))
        legacy.request("GET", "/mcp", headers={"accept": "text/event-stream", **session})
        opened.append(legacy.getresponse())
        for response in opened:
            assert response.status == 200
            response.read()  # to its end, which comes properly
        late_s = Clock().now() - exp
        assert -1.0 < late_s < 5.0, f"ended {late_s:.1f} s after the token"
    assert parts.ask(token, list_tools())[0] == 401
    parts.gateway.wait_for_log("token_expired")


def _legacy_session(port: int, token: str) -> dict[str, str]:
    """Initialize; the headers of the session."""
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    headers = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {token}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with closing(connection):
        connection.request("POST", "/mcp", json.dumps(hello), headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        session = response.headers["mcp-session-id"]
    return {
        "authorization": f"Bearer {token}",
        "mcp-session-id": session,
        "mcp-protocol-version": "2025-11-25",
    }


@pytest.mark.parametrize("upstream", ["new", "old"])
def test_a_callers_token_never_reaches_an_upstream(parts: Both, upstream: str) -> None:
    parts.heard.clear()
    token = parts.issuer.token(parts.audience, "mcp:read mcp:call")
    params = {"name": f"{upstream}__add", "arguments": {"a": 1, "b": 2}, "_meta": META}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    status, _, body = parts.ask(token, call)
    assert status == 200
    assert body["result"]["content"][0]["text"] == "3"
    said = b"\n".join(parts.heard)
    assert b"tools/call" in said
    assert b"Bearer of-the-gateway" in said
    for part in token.split("."):
        assert part.encode() not in said


def test_keys_are_fetched_when_they_change_and_serve_while_the_issuer_is_gone(parts: Both) -> None:
    issuer, audience = parts.issuer, parts.audience
    old = issuer.token(audience, "mcp:read")
    assert parts.ask(old, list_tools())[0] == 200
    fetched = issuer.count("/keys")
    issuer.rotate(keep=True)
    assert parts.ask(issuer.token(audience, "mcp:read"), list_tools())[0] == 200
    assert issuer.count("/keys") == fetched + 1
    assert parts.ask(issuer.token(audience, "mcp:read"), list_tools())[0] == 200
    assert parts.ask(old, list_tools())[0] == 200, "its key is still published"
    assert issuer.count("/keys") == fetched + 1
    issuer.stop()
    try:
        # Not one that was seen before: its key is known, and that is enough.
        assert parts.ask(issuer.token(audience, "mcp:read"), list_tools())[0] == 200
        issuer.rotate()
        assert parts.ask(issuer.token(audience, "mcp:read"), list_tools())[0] == 401
    finally:
        issuer.start()


def test_no_token_is_in_any_log(parts: Both) -> None:
    parts.gateway.wait_for_log("oauth:http://127.0.0.1")
    log = parts.gateway.log()
    issued = parts.issuer.state.issued
    assert len(issued) > 5
    assert not any(token in log or token.split(".")[2] in log for token in issued)


@contextmanager
def recording_upstream() -> Iterator[tuple[str, list[bytes]]]:
    """The official SDK's server, and every header and body that reached it."""
    server = MCPServer("up")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    app = server.streamable_http_app()
    heard: list[bytes] = []

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        async def listened() -> Any:
            message = await receive()
            heard.append(message.get("body", b""))
            return message

        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        heard.extend(name + b": " + value for name, value in scope["headers"])
        heard.append(scope["query_string"])
        await app(scope, listened, send)

    port = free_port()
    running = uvicorn.Server(uvicorn.Config(noted, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        wait_for_port(port, WAIT_S)
        yield f"http://127.0.0.1:{port}/mcp", heard
    finally:
        running.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()
