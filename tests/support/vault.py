"""A stand-in for Vault that keeps to its HTTP API, for as much as reading a secret needs.

Answers in the shapes HashiCorp documents: `data` in the engine of version 1, `data.data` in that of version 2,
`auth` for logins, `errors` for refusals. `VaultServer` puts it behind a real socket.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from waygate_mcp.errors import UpstreamUnavailableError
from waygate_mcp.net.http import Header

ROOT = "hvs.root-token-of-the-stand-in"


class FakeVault:
    """What it holds, whom it lets in, and what it was asked."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        """By the path after `/v1/`, as the engine of version 1 has it, or with `data/` in it."""
        self.tokens = {ROOT}
        self.login_lease_s = 0
        self.lease_s = 0
        self.status: int | None = None
        self.is_down = False
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self._logins = 0

    def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Answer one request."""
        self.requests.append((method, path, headers))
        self.bodies.append(body)
        if self.status is not None:
            return self.status, json.dumps({"errors": ["Vault is sealed"]}).encode()
        status, answer = self._answer(method, path, headers, body)
        return status, json.dumps(answer).encode()

    def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        place = path.removeprefix("/v1/")
        if method == "POST" and place.startswith("auth/"):
            given = json.loads(body)
            if given not in (
                {"role": "gateway", "jwt": "the-pod-token"},
                {"role_id": "the-role", "secret_id": "the-secret-id"},
            ):
                return 400, {"errors": ["permission denied"]}
            self._logins += 1
            token = f"hvs.login-{self._logins}"
            self.tokens.add(token)
            return 200, {"auth": {"client_token": token, "lease_duration": self.login_lease_s}}
        if headers.get("x-vault-token") not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        if place not in self.secrets:
            return 404, {"errors": []}
        data: Any = self.secrets[place]
        if "/data/" in place:
            data = {"data": data, "metadata": {"version": 1}}
        return 200, {"data": data, "lease_duration": self.lease_s}

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Sequence[Header], body: bytes = b""
    ) -> AsyncIterator[Any]:
        """Be the exchange of a test without sockets."""
        if self.is_down:
            raise UpstreamUnavailableError("Vault", "is not reached")
        status, data = self.handle(method, path, dict(headers), body)
        yield _Response(status, data)


class _Response:
    def __init__(self, status: int, data: bytes) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._data = data

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the body."""
        if self._data:
            yield self._data


@contextmanager
def vault_server(vault: FakeVault) -> Iterator[str]:
    """Serve it on the loopback address; gives where."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, data = vault.handle(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve  # noqa: N815 - the library's own words

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
