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
import threading
from collections.abc import Awaitable, Callable, Iterator

from waygate_mcp.gateway.conversation import Conversation, InForce
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.framing import FrameTooLarge, LineDecoder, encode_line
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["claim_standard_output", "serve_stdio"]

_log = get_logger("stdio")

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
        sys.stdout.flush()  # what was printed meanwhile still waits in Python's own buffer
        os.dup2(protocol_fd, 1)
        os.close(protocol_fd)


async def serve_stdio(
    current: Callable[[], InForce],
    endpoint: str,
    supervisor: Supervisor,
    output_fd: int,
    limit_bytes: int,
    *,
    input_fd: int = 0,
) -> None:
    """Serve the client on standard input until it closes it, or this is cancelled.

    `limit_bytes` bounds one line. A larger one ends the conversation with an error, since where the
    next message begins can no longer be trusted to be a message of the client's.
    """
    writer = _LineOutput(output_fd)
    conversation = Conversation(current, endpoint, LOCAL, writer.write, supervisor)
    decoder = LineDecoder(limit_bytes)
    try:
        read = await _open_input(input_fd)
        while chunk := await read():
            for line in decoder.feed(chunk):
                await _take(conversation, writer, line)
    except FrameTooLarge as exc:
        text = f"Parse error: a line is larger than {exc.limit} bytes"
        with contextlib.suppress(ConnectionError):
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
        writer.close()


async def _take(conversation: Conversation, writer: _LineOutput, line: bytes) -> None:
    """Take one line, whatever happens.

    Raises:
        ConnectionError: the client closed its end.
    """
    try:
        await conversation.take(line)
    except ConnectionError:
        raise
    except Exception:  # noqa: BLE001 - the door: one message must not end the conversation
        error_id = os.urandom(6).hex()
        _log.exception("message failed", error_id=error_id)
        data = jsonrpc.encode_json({"requestId": error_id})
        await writer.write(
            jsonrpc.encode_error(None, jsonrpc.INTERNAL_ERROR, "Internal error", data)
        )


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
                await loop.run_in_executor(None, _write_all, self._fd, encode_line(message))
                return
            self._pipe.write(encode_line(message))
            await self._pipe.drain()

    def close(self) -> None:
        """Write no more. What was written is with the client already; see `_open_pipe`."""
        if self._pipe is not None:
            self._pipe.close()


async def _open_pipe(fd: int) -> asyncio.StreamWriter | None:
    """Give a writer on a pipe or socket; None for a file or terminal, which a thread must write."""
    if not _is_pipe(fd):
        return None
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(os.dup(fd), "wb", buffering=0)
    )
    transport.set_write_buffer_limits(0)  # nothing waits here that the process's end could lose
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _write_all(fd: int, data: bytes) -> None:
    """Write to the end, however the system slices it."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _open_input(fd: int) -> Callable[[], Awaitable[bytes]]:
    """Give a function that reads the next chunk: from a pipe on the loop, from a file in a thread."""
    if not _is_pipe(fd):
        return lambda: _read_in_thread(fd)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(fd), "rb", buffering=0)
    )
    return lambda: reader.read(_CHUNK)


async def _read_in_thread(fd: int) -> bytes:
    """Read the next chunk of a file or terminal.

    The thread is a daemon: a read of a terminal ends with the next line only, and the process does
    not wait for that when it is told to stop.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()

    def give(chunk: bytes) -> None:
        if not future.done():
            future.set_result(chunk)

    def read() -> None:
        try:
            chunk = os.read(fd, _CHUNK)
        except OSError:
            chunk = b""  # the terminal is gone: the end of the input
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(give, chunk)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return await future


def _is_pipe(fd: int) -> bool:
    """Tell whether the loop can wait for it. uvloop ends the process over anything else."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
