"""The same gateway behind standard input and output, for clients that start a process.

Knows lines: one message each, nothing else ever on standard output. Whatever prints there by mistake
(a library, a plugin) is led to standard error. The client is whoever started the process.
Spec: 2026-07-28 basic/transports/stdio; 2025-11-25 basic/transports, "stdio".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator

from waygate_mcp.gateway.conversation import Conversation
from waygate_mcp.gateway.gateway import Gateway
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.framing import FrameTooLarge, LineDecoder

__all__ = ["claim_standard_output", "serve_stdio"]

_CHUNK = 256 * 1024
_GRACE_S = 0.5


@contextlib.contextmanager
def claim_standard_output() -> Iterator[int]:
    """Keep standard output for the protocol: give its descriptor, lead everything else to stderr."""
    sys.stdout.flush()
    protocol_fd = os.dup(1)
    try:
        os.dup2(2, 1)
        yield protocol_fd
    finally:
        os.dup2(protocol_fd, 1)
        os.close(protocol_fd)


async def serve_stdio(
    current: Callable[[], Gateway],
    endpoint: str,
    supervisor: Supervisor,
    output_fd: int,
    limit_bytes: int,
) -> None:
    """Serve the client on standard input until it closes it, or this is cancelled.

    `limit_bytes` bounds one line. A larger one ends the conversation with an error, since where the
    next message begins can no longer be trusted to be a message of the client's.
    """
    writer = _LineOutput(output_fd)
    conversation = Conversation(current, endpoint, LOCAL, writer.write, supervisor)
    decoder = LineDecoder(limit_bytes)
    try:
        read = await _open_input()
        while chunk := await read():
            for line in decoder.feed(chunk):
                await conversation.take(line)
    except FrameTooLarge as exc:
        text = f"Parse error: a line is larger than {exc.limit} bytes"
        await writer.write(jsonrpc.encode_error(None, jsonrpc.PARSE_ERROR, text))
    except ConnectionError:
        pass  # the client is gone; there is nobody to tell
    else:
        # What was asked just before the end still gets its answer, if it is quick.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await conversation.settle()
    finally:
        await conversation.close()


class _LineOutput:
    """Writes whole lines, one after the other, without holding up the loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = asyncio.Lock()
        self._pipe: asyncio.StreamWriter | None = None
        self._is_open = False

    async def write(self, message: bytes) -> None:
        """Write one message and its line end; a slow reader holds up whoever writes.

        Raises:
            ConnectionError: the client closed its end.
        """
        async with self._lock:
            if not self._is_open:
                self._is_open = True
                self._pipe = await _open_pipe(self._fd)
            if self._pipe is None:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, _write_all, self._fd, message + b"\n")
                return
            self._pipe.write(message + b"\n")
            await self._pipe.drain()


async def _open_pipe(fd: int) -> asyncio.StreamWriter | None:
    """Give a writer on a pipe or socket; None for a file or terminal, which a thread must write."""
    if not _is_pipe(fd):
        return None
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(os.dup(fd), "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _write_all(fd: int, data: bytes) -> None:
    """Write to the end, however the system slices it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _open_input() -> Callable[[], Awaitable[bytes]]:
    """Give a function that reads the next chunk: from a pipe on the loop, from a file in a thread."""
    if not _is_pipe(0):
        return lambda: asyncio.to_thread(os.read, 0, _CHUNK)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb", buffering=0)
    )
    return lambda: reader.read(_CHUNK)


def _is_pipe(fd: int) -> bool:
    """Tell whether the loop can wait for it. uvloop ends the process over anything else."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
