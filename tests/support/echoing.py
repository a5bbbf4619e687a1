"""An upstream that says in every error what it was sent, credentials first, and keeps it for the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

heard: list[dict[str, str]] = []
"""Headers of the requests so far, of all of them in this process."""


class _Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(405, b"no stream for " + self._heard())

    do_DELETE = do_GET  # noqa: N815 - the library's own word

    def do_POST(self) -> None:
        heard.append(dict(self.headers.items()))
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method = message.get("method", "")
        name = message.get("params", {}).get("name", "")
        if "id" not in message:
            self._send(202, b"")
        elif method == "tools/call" and name == "http_error":
            self._send(500, b"refused: " + self._heard())
        elif method == "tools/call" and name == "not_json":
            self._send(200, b"<html>" + self._heard())
        elif method == "tools/call" and name == "redirect":
            self.send_response(307)
            self.send_header("location", "http://192.0.2.1/?" + self._heard().decode())
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            body = {"jsonrpc": "2.0", "id": message["id"], **self._answer(method, name)}
            self._send(200, json.dumps(body).encode())

    def _answer(self, method: str, name: str) -> dict[str, Any]:
        if method == "initialize":
            agreed = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
            return {"result": {**agreed, "serverInfo": {"name": "echo", "version": "1"}}}
        if method == "tools/list":
            names = ("fine", "http_error", "not_json", "redirect", "rpc_error")
            tools = [{"name": one, "inputSchema": {"type": "object"}} for one in names]
            return {"result": {"tools": tools}}
        if method == "tools/call" and name == "fine":
            return {"result": {"content": [{"type": "text", "text": "fine"}]}}
        return {"error": {"code": -32000, "message": f"refused: {self._heard().decode()}"}}

    def _heard(self) -> bytes:
        return json.dumps([self.path, dict(self.headers.items())]).encode()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status, "refused")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def echoing_upstream() -> Iterator[str]:
    """An upstream that says in every error what it was sent, credentials first."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
