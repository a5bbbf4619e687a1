"""A client of 2026-07-28 that shows every byte: one POST, one answer, nothing remembered or repaired."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

REVISION = "2026-07-28"
_META = "io.modelcontextprotocol/"
WITHIN_S = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back. `raw` are the bytes of the final message."""

    status: int
    raw: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The final message."""
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def result(self) -> dict[str, Any]:
        """The result; an error fails the test."""
        assert "result" in self.message, self.message
        found: dict[str, Any] = self.message["result"]
        return found

    @property
    def code(self) -> int:
        """The code of the error; a result fails the test."""
        assert "error" in self.message, self.message
        return int(self.message["error"]["code"])

    @property
    def text(self) -> str:
        """The first text block of a tool's result."""
        return str(self.result["content"][0]["text"])


@dataclass(frozen=True)
class ModernClient:
    """Where to send, as whom, and what to declare."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=lambda: {"elicitation": {}})

    def declaring(self, *extensions: str) -> ModernClient:
        """The same client with extensions."""
        declared = {**self.capabilities, "extensions": {name: {} for name in extensions}}
        return ModernClient(self.url, self.headers, declared)

    def send(self, method: str, params: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        """Send a request and read its answer; `headers` replace those that mirror the body."""
        with self.sent(method, params, **headers) as connection:
            response = connection.getresponse()
            body = response.read()
            if response.headers.get_content_type() == "text/event-stream":
                body = _data_of_events(body)[-1]
            return Answer(response.status, body)

    @contextlib.contextmanager
    def sent(
        self, method: str, params: Mapping[str, Any] | None = None, **headers: str
    ) -> Iterator[http.client.HTTPConnection]:
        """Send a request and let the caller do what it likes; leaving closes the connection."""
        given = dict(params or {})
        meta = {
            f"{_META}protocolVersion": REVISION,
            f"{_META}clientInfo": {"name": "tests", "version": "1"},
            f"{_META}clientCapabilities": self.capabilities,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**given, "_meta": meta}}
        mirrored = {"mcp-protocol-version": REVISION, "mcp-method": method}
        name = given.get("name") or given.get("taskId")
        if name is not None:
            mirrored["mcp-name"] = name
        mirrored |= {key.replace("_", "-"): value for key, value in headers.items()}
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WITHIN_S)
        with contextlib.closing(connection):
            accepted = {"accept": "application/json, text/event-stream"}
            kind = {"content-type": "application/json"}
            sent = {**kind, **accepted, **mirrored, **self.headers}
            connection.request("POST", parts.path, json.dumps(body), sent)
            yield connection

    @contextlib.contextmanager
    def listening(self, **notifications: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a listen stream; the context's value gives its messages as they come."""
        params = {"notifications": notifications}
        with self.sent("subscriptions/listen", params) as connection:
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield (
                json.loads(line[6:])
                for line in iter(response.readline, b"")
                if line[:6] == b"data: "
            )

    def call(self, name: str, /, **arguments: Any) -> Answer:
        """Call a tool."""
        return self.send("tools/call", {"name": name, "arguments": arguments})


def _data_of_events(body: bytes) -> Sequence[bytes]:
    return [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
