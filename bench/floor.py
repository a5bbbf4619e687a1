"""The raw ASGI floor: the least a Python server can do for an MCP request.

Bare uvicorn (uvloop, httptools, no access log) and one ASGI callable that reads the body, parses
the JSON-RPC envelope with msgspec and answers fixed bytes round the caller's id. It knows no
revision, checks no header, no key and no argument, and keeps no record: what any server adds to
this is its own cost.

The answer is a file the bench writes, `<before id>NUL<after id>`, so that the floor sends exactly
the bytes the server under comparison sends (`--answer`); without one it sends a small `tools/call`
result.
"""

import argparse
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DEFAULT_ANSWER = (
    b'{"jsonrpc":"2.0","id":',
    b',"result":{"content":[{"type":"text","text":"hello from the bench"}]}}',
)
COPY_BELOW_BYTES = 65_536
"""Below it one message with a copy is cheaper than two messages without."""


class Envelope(msgspec.Struct):
    """What has to be known of a request before it can be answered."""

    jsonrpc: str
    id: msgspec.Raw
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Floor:
    """The ASGI application: one fixed answer."""

    def __init__(self, before_id: bytes, after_id: bytes) -> None:
        self._before = before_id
        self._after = after_id
        self._decode = msgspec.json.Decoder(Envelope).decode

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; anything but HTTP is not served."""
        if scope["type"] != "http":
            return
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        request = self._decode(body)
        before = self._before + bytes(request.id)
        length = len(before) + len(self._after)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % length),
                ],
            }
        )
        if length < COPY_BELOW_BYTES:
            await send({"type": "http.response.body", "body": before + self._after})
            return
        await send({"type": "http.response.body", "body": before, "more_body": True})
        await send({"type": "http.response.body", "body": self._after})


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answer", type=Path, help="file: before the id, NUL, after the id")
    options = parser.parse_args()
    before, after = DEFAULT_ANSWER
    if options.answer:
        before, after = options.answer.read_bytes().split(b"\0")
    uvicorn.run(
        Floor(before, after),
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
