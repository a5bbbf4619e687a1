"""The least a Python process between client and upstream can do: bytes through, nothing looked at.

Over HTTP it is a bare asyncio protocol on httptools that sends each request on to one origin, over a
pool of kept connections, and gives the answer back; one request in flight on each. With `--stdio` it
reads the JSON-RPC id, and nothing else, writes the message as a line to one child, and finds the caller
by the id of the line that comes back. No key, no check, no log: what a gateway adds to this is its own.
"""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

Answer = Callable[[bytes], None]


class Envelope(msgspec.Struct):
    """All that is read of a message."""

    id: msgspec.Raw


read_id = msgspec.json.Decoder(Envelope).decode


class Back(asyncio.Protocol):
    """A connection to the upstream."""

    def __init__(self, free: deque["Back"]) -> None:
        self._free = free
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._then: Answer | None = None
        self.transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type

    def send(self, head: bytes, body: bytes, then: Answer) -> None:
        """Send a request; `then` gets the body of its answer."""
        assert self.transport is not None
        self._then = then
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Be of no more use."""
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Gather the answer."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer over, and be free."""
        body, self._body = b"".join(self._body), []
        then, self._then = self._then, None
        self._free.append(self)
        if then is not None:
            then(body)


class Pool:
    """Connections to one origin, as many as are needed at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: deque[Back] = deque()

    async def forward(self, head: bytes, body: bytes, then: Answer) -> None:
        """Send a request on a new connection."""
        loop = asyncio.get_running_loop()
        _, back = await loop.create_connection(lambda: Back(self._free), "127.0.0.1", self._port)
        back.send(head, body, then)

    def send(self, head: bytes, body: bytes, then: Answer) -> bool:
        """Send a request on a free connection; False where there is none."""
        while self._free:
            back = self._free.pop()
            if not back.is_lost:
                back.send(head, body, then)
                return True
        return False


class Child:
    """A process that answers lines."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Answer] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, command: list[str]) -> None:
        """Start the process and read it in the background."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._writer = process.stdin
        self._reading = asyncio.get_running_loop().create_task(self._read(process.stdout))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(262_144):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._waiting.pop(bytes(read_id(line).id))(line)

    def send(self, body: bytes, then: Answer) -> None:
        """Write a message; `then` gets the answer of its id."""
        assert self._writer is not None
        self._waiting[bytes(read_id(body).id)] = then
        self._writer.write(body + b"\n")


class Front(asyncio.Protocol):
    """A connection of a client."""

    transport: asyncio.Transport

    def __init__(self, pool: Pool | None, child: Child | None) -> None:
        self._pool = pool
        self._child = child
        self._parser = httptools.HttpRequestParser(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._head: list[bytes] = []
        self._body = b""
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type

    def connection_lost(self, exc: Exception | None) -> None:
        """Have no more use for an answer: uvloop raises when a closed transport is written to."""
        self._is_lost = True

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin the head for the upstream."""
        self._head = [b"POST /mcp HTTP/1.1\r\nhost: upstream\r\n"]
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Send a header on, apart from those of the connection."""
        if name.lower() not in (b"host", b"content-length", b"connection"):
            self._head += (name, b": ", value, b"\r\n")

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Send the request on."""
        if self._child is not None:
            self._child.send(self._body, self._answer)
            return
        assert self._pool is not None
        head = b"".join(self._head)
        if not self._pool.send(head, self._body, self._answer):
            work = self._pool.forward(head, self._body, self._answer)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _answer(self, body: bytes) -> None:
        if self._is_lost:
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


async def serve(port: int, to: int | None, command: list[str]) -> None:
    """Serve until told to stop."""
    pool = Pool(to) if to is not None else None
    child = None
    if command:
        child = Child()
        await child.start(command)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Front(pool, child), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, help="port of the upstream")
    parser.add_argument("--stdio", nargs=argparse.REMAINDER, default=[], help="command of a child")
    options = parser.parse_args()
    if (options.to is None) == (not options.stdio):
        sys.exit("give either --to or --stdio")
    uvloop.run(serve(options.port, options.to, options.stdio))


if __name__ == "__main__":
    main()
