"""OAuth against a real authorization server: the official clients' whole flow, outages, rotation, expiry."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import KEY, Gateway, free_port, serving
from tests.peers.paths import OLD_PYTHON, ROOT, require_peers
from tests.support.authorization_server import AuthorizationServer, authorization_server

WAIT_S = 20.0
READS = ["session:open", "tools:list", "prompts:list", "resources:list", "listen:open"]
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


def document(issuer: str, port: int, **oauth: Any) -> Mapping[str, object]:
    issuers = [{"issuer": issuer, "grants": GRANTS}]
    return {
        "version": 1,
        "server": {"public_url": f"http://127.0.0.1:{port}"},
        "auth": {"mode": "keys+oauth", "oauth": {"issuers": issuers, "leeway_s": 0, **oauth}},
        "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
        "endpoints": {"other": {"bind": ["hello"]}},
    }


@contextmanager
def both(folder: Path, **oauth: Any) -> Iterator[Both]:
    issuer_port, port = free_port(), free_port()
    with authorization_server(issuer_port) as issuer:
        told = document(issuer.issuer, port, **oauth)
        with serving(folder, told, port=port) as gateway:
            yield Both(issuer, gateway)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("python", "era"),
    [(str(OLD_PYTHON), "legacy"), (sys.executable, "legacy"), (sys.executable, "modern")],
    ids=["sdk1-legacy", "sdk2-legacy", "sdk2-modern"],
)
def test_an_official_client_comes_in_from_nothing_but_the_url(
    tmp_path: Path, python: str, era: str
) -> None:
    require_peers()
    with both(tmp_path, scopes_required=["mcp:read"]) as parts:
        command = [python, "-W", "ignore", "-m", "tests.peers.oauth_client", parts.audience, era]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr.decode()[-4000:]
        seen = json.loads(done.stdout)
        assert seen["tools"] == ["echo", "greet"]
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
        log = parts.gateway.log()
        assert not any(token in log for token in parts.issuer.state.issued), "a token is in the log"


def test_tokens_keys_scopes_rotation_outage_and_restart(tmp_path: Path) -> None:
    with both(tmp_path) as parts:
        issuer, audience = parts.issuer, parts.audience
        status, headers, _ = parts.ask(None, list_tools())
        assert status == 401
        base = parts.gateway.base_url
        where = f'resource_metadata="{base}/.well-known/oauth-protected-resource/mcp"'
        challenge = headers["www-authenticate"]
        assert where in challenge
        assert 'scope="mcp:read mcp:call"' in challenge
        assert "error=" not in challenge, "nobody presented a token"

        reader = issuer.token(audience, "mcp:read")
        assert parts.ask(reader, list_tools())[0] == 200
        status, headers, body = parts.ask(reader, greet())
        assert (status, body["error"]["code"]) == (403, 4403)
        assert 'error="insufficient_scope"' in headers["www-authenticate"]
        assert 'scope="mcp:call"' in headers["www-authenticate"]
        status, _, body = parts.ask(issuer.token(audience, "mcp:read mcp:call"), greet())
        assert (status, body["result"]["content"][0]["text"]) == (200, "Hello, Ada!")

        # Keys go on working; two credentials do not.
        assert parts.ask(KEY, list_tools())[0] == 200
        assert parts.ask(reader, list_tools(), **{"x-api-key": KEY})[0] == 400

        # For one endpoint and not the other; for the server and so for both; for somebody else.
        assert parts.ask(reader, list_tools(), "/servers/other/mcp")[0] == 401
        assert (
            parts.ask(issuer.token(base, "mcp:read"), list_tools(), "/servers/other/mcp")[0] == 200
        )
        status, headers, _ = parts.ask(
            issuer.token("https://elsewhere.example", "mcp:read"), list_tools()
        )
        assert status == 401
        assert 'error="invalid_token"' in headers["www-authenticate"]

        # Where REST asks for more, it says so as well.
        assert parts.get("/mcp/tools", reader)[0] == 403

        # A new key is fetched when its first token comes; then the issuer is gone, and what is known serves.
        fetched = issuer.count("/keys")
        _wait_for_turn(parts, issuer)
        assert issuer.count("/keys") > fetched
        token = issuer.token(audience, "mcp:read")
        issuer.stop()
        assert parts.ask(token, list_tools())[0] == 200
        issuer.rotate()
        assert parts.ask(issuer.token(audience, "mcp:read"), list_tools())[0] == 401


def _wait_for_turn(parts: Both, issuer: AuthorizationServer) -> None:
    """Rotate, and ask until the new key is known: unknown key ids may cause a fetch now and then only."""
    issuer.rotate()
    deadline = time.monotonic() + 60
    while parts.ask(issuer.token(parts.audience, "mcp:read"), list_tools())[0] != 200:
        assert time.monotonic() < deadline, "the rotated key never came"
        time.sleep(0.5)
