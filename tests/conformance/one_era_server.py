"""The era-adaptive fixture as a server of one era only, in a process of its own.

    python one_era_server.py ERA http PORT DOCUMENT RECORD
    python one_era_server.py ERA sse PORT DOCUMENT RECORD      the old transport, at /sse; legacy only
    python one_era_server.py ERA stdio DOCUMENT RECORD

Our own program answers; what stands before it lets the messages of one era through and answers the rest as a
server does that never heard of the other era. Every message that arrives is a line of RECORD, refused ones
included, so that a test sees which era was spoken from the upstream's side.

Knows the envelope of each era, written here anew: nothing of the package decides what passes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Record:
    """What arrived, a JSON object a line. Several processes may write the same file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, era: str, method: str, *, refused: bool) -> None:
        """Note one message; `method` is `response` for what is no request and no notification."""
        line = json.dumps({"era": era, "method": method, "refused": refused})
        os.write(self._file, line.encode() + b"\n")


def meta_of(message: Any) -> dict[str, Any]:
    """The `_meta` of a message's parameters."""
    params = message.get("params") if isinstance(message, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def era_of(message: Any) -> str:
    """The era a message is written in; `both` for the one notification that exists in either."""
    if _VERSION_KEY in meta_of(message):
        return "modern"
    return "both" if message.get("method") == "notifications/cancelled" else "legacy"


def name_of(message: Any) -> str:
    """How a message is recorded."""
    return str(message.get("method", "response")) if isinstance(message, dict) else "no object"


def error(message: Any, code: int, text: str, data: Any = None) -> dict[str, Any]:
    """An error response to a message."""
    body: dict[str, Any] = {"code": code, "message": text}
    if data is not None:
        body["data"] = data
    identifier = message.get("id") if isinstance(message, dict) else None
    return {"jsonrpc": "2.0", "id": identifier, "error": body}


def unsupported(message: Any) -> dict[str, Any]:
    """What a modern server answers to a handshake (2026-07-28 basic/versioning)."""
    requested = message["params"].get("protocolVersion", "")
    data = {"supported": [MODERN], "requested": requested}
    return error(message, -32022, "Unsupported protocol version", data)


def only_modern(answer: bytes) -> bytes:
    """The answer to `server/discover` without the revisions that are not served here."""
    response = json.loads(answer)
    if "supportedVersions" in response.get("result", {}):
        response["result"]["supportedVersions"] = [MODERN]
    return json.dumps(response).encode()


# ---------------------------------------------------------------------- HTTP


class OneEraApp:
    """ASGI: an application behind a door that knows one era."""

    def __init__(self, app: Callable[..., Awaitable[None]], era: str, paths: str, rec: Record):
        self._app = app
        self._era = era
        self._paths = paths
        self._record = rec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ("/ready", "/health"):
            await self._app(scope, receive, send)
        elif not scope["path"].startswith(
            ("/sse", "/messages/") if self._paths == "sse" else "/mcp"
        ):
            await _answer(send, 404, None)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:  # streams and the end of sessions, which only legacy servers have
            is_refused = self._era == "modern"
            self._record.note("legacy", scope["method"], refused=is_refused)
            if is_refused:
                await _answer(send, 405, None)
            else:
                await self._app(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body", False):
                break
        message = json.loads(body)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        refuse = self._refuse_modern if self._era == "legacy" else self._refuse_legacy
        refusal = refuse(message, headers, scope["path"])
        is_modern = headers.get("mcp-protocol-version") == MODERN
        era = "modern" if is_modern else era_of(message)
        self._record.note(era, name_of(message), refused=refusal is not None)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return parts.pop() if parts else await receive()

        if message.get("method") == "server/discover":
            send = _rewriting(send)
        # Our own shortcut past ASGI would find a body that is read already.
        await self._app({**scope, "extensions": {}}, again, send)

    @staticmethod
    def _refuse_modern(
        message: Any, headers: dict[str, str], path: str
    ) -> tuple[int, dict[str, Any] | None] | None:
        """What a server answers that only knows sessions, None where it takes the message."""
        version = headers.get("mcp-protocol-version")
        if version is not None and version not in LEGACY:
            text = f"Bad Request: Unsupported protocol version (supported: {', '.join(LEGACY)})"
            return 400, {**error(None, -32000, text)}
        if path.startswith("/messages/") or message.get("method") == "initialize":
            return None
        if path == "/mcp" and "mcp-session-id" not in headers:
            return 400, error(None, -32000, "Bad Request: Mcp-Session-Id header is required")
        return None

    @staticmethod
    def _refuse_legacy(
        message: Any, headers: dict[str, str], path: str
    ) -> tuple[int, dict[str, Any] | None] | None:
        """What a server answers that never had sessions, None where it takes the message."""
        if headers.get("mcp-protocol-version") == MODERN:
            return None
        if "id" not in message:
            return 202, None
        if message.get("method") == "initialize":
            return 400, unsupported(message)
        return 400, error(message, -32602, f"_meta lacks {_VERSION_KEY}")


async def _answer(send: Send, status: int, body: dict[str, Any] | None) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    if content:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _rewriting(send: Send) -> Send:
    """Send the answer to `server/discover` as a server of one era gives it."""
    held: list[Message] = []

    async def rewrite(message: Message) -> None:
        held.append(message)
        if message["type"] != "http.response.body" or message.get("more_body", False):
            return
        start, *parts = held
        body = only_modern(b"".join(part.get("body", b"") for part in parts))
        others = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await send({**start, "headers": [*others, length]})
        await send({"type": "http.response.body", "body": body})

    return rewrite


def serve_http(era: str, paths: str, port: int, document: Path, record: Record) -> None:
    """Serve on the loopback address until a signal ends it."""
    from pydantic import SecretStr

    from waygate_mcp.config.settings import Settings
    from waygate_mcp.runtime.house import House
    from waygate_mcp.telemetry.logs import open_logs
    from waygate_mcp.web.app import build_app
    from waygate_mcp.web.guard import guard_of
    from waygate_mcp.web.server import bind, make_server

    settings = Settings(
        _env_file=None,
        config=document,
        port=port,
        data_dir=document.parent / "data",
        log_dir=None,
        secret_key=SecretStr(os.environ.get("ONE_ERA_SECRET", "s" * 40)),
    )
    with open_logs(settings) as logs:
        house = House(settings, logs, guard_of)
        app = OneEraApp(build_app(house), era, paths, record)
        make_server(app, house).run(sockets=[bind(settings)])  # type: ignore[arg-type]


# ---------------------------------------------------------------------- stdio


class OneEraLines:
    """A process behind two pipes, with a door in front that knows one era."""

    def __init__(self, era: str, document: Path, record: Record) -> None:
        self._era = era
        self._record = record
        self._lock = threading.Lock()
        self._discoveries: set[str | int] = set()
        self._is_initialized = False
        command = Path(sys.executable).parent / "waygate"
        self._child = subprocess.Popen(
            [str(command), "stdio", "-c", str(document)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self) -> int:
        """Pass lines on until the client closes its end; give the exit code."""
        assert self._child.stdin is not None
        reader = threading.Thread(target=self._read_child)
        reader.start()
        with contextlib.suppress(BrokenPipeError):
            for line in sys.stdin.buffer:
                self._take(line)
            self._child.stdin.close()
        reader.join()
        return self._child.wait()

    def _take(self, line: bytes) -> None:
        message = json.loads(line)
        era = era_of(message)
        refusal = self._refusal(message, era)
        self._record.note(era, name_of(message), refused=refusal is not None)
        if refusal is not None:
            if "id" in message and "method" in message:
                self._write(json.dumps(refusal).encode() + b"\n")
            return
        if message.get("method") == "initialize":
            self._is_initialized = True
        if message.get("method") == "server/discover":
            self._discoveries.add(message["id"])
        assert self._child.stdin is not None
        self._child.stdin.write(line)
        self._child.stdin.flush()

    def _refusal(self, message: Any, era: str) -> dict[str, Any] | None:
        """What a server of one era answers to the other's messages, None where it takes them."""
        if era in (self._era, "both"):
            return None
        if self._era == "modern":
            if message.get("method") == "initialize":
                return unsupported(message)
            return error(message, -32602, f"_meta lacks {_VERSION_KEY}")
        if message.get("method") in ("server/discover", "subscriptions/listen"):
            return error(message, -32601, "Method not found")
        return error(message, -32602, "Invalid request parameters")

    def _read_child(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._write(self._as_one_era(line))

    def _as_one_era(self, line: bytes) -> bytes:
        if not self._discoveries or b"supportedVersions" not in line:
            return line
        identifier = json.loads(line).get("id")
        if identifier not in self._discoveries:
            return line
        self._discoveries.discard(identifier)
        return only_modern(line) + b"\n"

    def _write(self, line: bytes) -> None:
        with self._lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def main() -> int:
    """Run as the command line says."""
    era, transport, *rest = sys.argv[1:]
    if transport == "stdio":
        document, record = rest
        return OneEraLines(era, Path(document), Record(Path(record))).run()
    port, document, record = rest
    serve_http(era, transport, int(port), Path(document), Record(Path(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
