"""The requests the bench sends, as bytes, and the check that an answer is the right one.

Knows both eras' envelopes and nothing of who is measured. Standard library only.
"""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Era = Literal["modern", "legacy"]
Method = Literal["tools/call", "tools/list"]

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
TEXT = "hello from the bench"
FIRST_ID = 1_000_000_000
"""Ids have ten digits from the first to the last, so that every request has the same length."""
CLIENT = {"name": "waygate-bench", "version": "1"}
WAIT_S = 30.0


class WrongAnswerError(Exception):
    """A server answered something else than it was asked for; no figure of it may be used."""


@dataclass(frozen=True)
class Target:
    """Where to send calls: address, path, the tool's name there, and the key if it asks for one.

    `tools` is how many it has to list.
    """

    port: int
    path: str = "/mcp"
    tool: str = "echo"
    key: str = ""
    tools: int = 1

    def post(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send one POST on a connection of its own: status, headers in lower case, body.

        Raises:
            WrongAnswerError: what came back is not HTTP, or ended before its end, or nothing came in time.
            OSError: no connection.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        except http.client.HTTPException as error:
            raise WrongAnswerError(f"broken HTTP: {error!r}") from error
        except TimeoutError as error:
            raise WrongAnswerError(f"no answer in {WAIT_S:g} s") from error
        finally:
            connection.close()


@dataclass(frozen=True)
class Request:
    """One request of a scenario, repeatable under any id."""

    headers: dict[str, str]
    before_id: bytes
    after_id: bytes

    def body(self, request_id: int) -> bytes:
        """The JSON-RPC message under this id."""
        return b"%s%d%s" % (self.before_id, request_id, self.after_id)


@dataclass(frozen=True)
class Answer:
    """A checked answer: the bytes round the id, from which every later one may not differ."""

    before_id: bytes
    after_id: bytes
    head_bytes: int = field(default=0)

    @property
    def size_bytes(self) -> int:
        """The length of the body for an id of ten digits."""
        return len(self.before_id) + 10 + len(self.after_id)


def build(target: Target, era: Era, method: Method, session: str = "") -> Request:
    """Write one request down, headers and body, as the era's specification asks for.

    Spec: 2026-07-28 basic/transports/streamable-http "Request Metadata"; 2025-11-25 basic/transports
    "Session Management".
    """
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN if era == "modern" else LEGACY,
    }
    if target.key:
        headers["Authorization"] = f"Bearer {target.key}"
    params: dict[str, Any] = {}
    if method == "tools/call":
        params = {"name": target.tool, "arguments": {"text": TEXT}}
    if era == "modern":
        headers["Mcp-Method"] = method
        if method == "tools/call":
            headers["Mcp-Name"] = target.tool
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": CLIENT,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    elif session:
        headers["Mcp-Session-Id"] = session
    tail = json.dumps({"method": method, "params": params}, separators=(",", ":"))
    return Request(headers, b'{"jsonrpc":"2.0","id":', b"," + tail[1:].encode())


def open_session(target: Target) -> str:
    """Initialize one legacy session and answer its id.

    Raises:
        WrongAnswerError: the server refused, or gave no session id.
    """
    hello = build(target, "legacy", "tools/list")
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    first = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    status, headers, body = target.post(hello.headers, json.dumps(first).encode())
    session = headers.get("mcp-session-id", "")
    if status != 200 or not session:
        raise WrongAnswerError(f"initialize: status {status}, session {session!r}: {body[:300]!r}")
    ready = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
    status, _, body = target.post({**hello.headers, "Mcp-Session-Id": session}, ready)
    if status != 202:
        raise WrongAnswerError(f"notifications/initialized: status {status}: {body[:300]!r}")
    return session


def check(target: Target, request: Request, method: Method, request_id: int) -> Answer:
    """Send one request and look at the answer as a client would.

    Raises:
        WrongAnswerError: wrong status, type, id or content.
    """
    status, headers, body = target.post(request.headers, request.body(request_id))
    kind = headers.get("content-type", "")
    if status != 200 or not kind.startswith("application/json"):
        raise WrongAnswerError(f"{method}: status {status}, {kind}: {body[:300]!r}")
    message = json.loads(body)
    result = message.get("result", {})
    if message.get("id") != request_id:
        raise WrongAnswerError(f"{method}: the id came back as {message.get('id')!r}")
    if method == "tools/call":
        content = [(block["type"], block.get("text")) for block in result.get("content", [])]
        if content != [("text", TEXT)] or result.get("isError"):
            raise WrongAnswerError(f"{method}: {body[:300]!r}")
    elif len(result.get("tools", ())) < target.tools or result.get("nextCursor"):
        raise WrongAnswerError(f"{method}: not one full page of tools: {body[:300]!r}")
    before, mark, after = body.partition(b"%d" % request_id)
    if not mark or b"%d" % request_id in after:
        raise WrongAnswerError(f"{method}: the id does not stand once in {body[:300]!r}")
    head = sum(len(name) + len(value) + 4 for name, value in headers.items()) + 19
    return Answer(before, after, head)


def tool_count(target: Target, request: Request) -> int:
    """How many tools one `tools/list` answers."""
    _, _, body = target.post(request.headers, request.body(FIRST_ID))
    return len(json.loads(body)["result"]["tools"])
