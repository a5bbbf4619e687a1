"""A child process of an upstream: started, read, ended, and nothing left of it.

Knows pipes, signals and process groups. Refuses to know JSON: it carries lines. The child's standard
error goes to the log, line by line, within limits; what it says is outside text.
Spec: 2026-07-28 basic/transports/stdio, "Shutdown"; threat model rules 27, 29 and 34.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import msgspec

from waygate_mcp.errors import ConfigError, TooLargeError, UpstreamUnavailableError
from waygate_mcp.net.outbox import Outbox
from waygate_mcp.protocol.framing import FrameTooLarge, LineDecoder, encode_line
from waygate_mcp.upstreams import launch, sandbox
from waygate_mcp.upstreams.environment import MARKER, child_environment, resolve_program
from waygate_mcp.upstreams.orphans import RunFiles, kill_marked, new_marker
from waygate_mcp.upstreams.outside_text import clipped
from waygate_mcp.upstreams.sandbox import SandboxChoice

__all__ = ["ChildProcess", "Command", "ProcessLimits", "Processes"]

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 256 * 1024
_MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024
_STDERR_LINE_BYTES = 4_096
_STDERR_LINES_PER_S = 20.0
_STDERR_BURST = 200.0
_POLL_S = 0.02
_KILLED_S = 5.0
_REAP_S = 0.2


class ProcessLimits(msgspec.Struct, frozen=True):
    """What a child may use; None leaves what the gateway itself has.

    `memory_bytes` bounds address space, of which runtimes with garbage collection reserve far more
    than they use. `processes` counts all processes of the user.
    """

    open_files: int | None = 4_096
    memory_bytes: int | None = None
    processes: int | None = None

    def to_text(self) -> str:
        """Write the limits as `launch.py` reads them."""
        named = {"NOFILE": self.open_files, "AS": self.memory_bytes, "NPROC": self.processes}
        given = {
            "CORE": 0,
            **{name: number for name, number in named.items() if number is not None},
        }
        return ",".join(f"{name}={number}" for name, number in given.items())


class Command(msgspec.Struct, frozen=True):
    """What is started, as the configuration says it.

    `program` is absolute, or a name found on the gateway's PATH. `env` comes to a minimal
    environment; names in it that change what code runs must stand in `dangerous_env` as well.
    """

    program: str
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    dangerous_env: tuple[str, ...] = ()
    cwd: str | None = None
    sandbox: SandboxChoice = "auto"
    limits: ProcessLimits = ProcessLimits()


class Processes:
    """Starts children. `run_folder` holds the run-files, `hidden` are folders no child may see.

    Call `reap` once before the first start: it ends what a killed gateway left behind.
    """

    def __init__(
        self,
        run_folder: Path | None = None,
        *,
        hidden: Sequence[Path] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._run_files = RunFiles(run_folder)
        self._hidden = tuple(hidden)
        self._environ = environ
        self._programs: dict[str, str] = {}

    def reap(self) -> int:
        """End processes of gateways that are gone; give their number."""
        return self._run_files.reap()

    def check(self, command: Command) -> None:
        """Find out whether a command can be started at all, without starting it.

        Raises:
            ConfigError: no such program or folder, or an environment that is refused.
        """
        self._prepare(command, "")

    def describe(self, command: Command) -> str:
        """Say for people what walls a command gets."""
        return sandbox.describe(command.sandbox, sandbox.probe())

    async def start(
        self, name: str, command: Command, *, limit_bytes: int, stop_s: float = 2.0
    ) -> ChildProcess:
        """Start a child for the upstream `name`. Lines over `limit_bytes` end it.

        `stop_s` is how long it gets to end after its input was closed, and again after SIGTERM.

        Raises:
            ConfigError: see `check`.
            UpstreamUnavailableError: it cannot be started.
        """
        marker = new_marker()
        words, environment = self._prepare(command, marker)
        self._run_files.write(marker, name)
        try:
            # In this thread on purpose: a child dies with the thread that started it.
            popen = subprocess.Popen(  # noqa: ASYNC220, S603 - a list, never a shell
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=command.cwd,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as exc:
            self._run_files.remove(marker)
            raise UpstreamUnavailableError(name, f"cannot be started: {exc.strerror}") from exc
        child = ChildProcess(name, popen, marker, self._run_files, stop_s=stop_s)
        try:
            await child.connect(limit_bytes)
        except BaseException:
            child.kill()
            raise
        return child

    def _prepare(self, command: Command, marker: str) -> tuple[list[str], dict[str, str]]:
        """Give the whole command line and the whole environment."""
        program = self._programs.get(command.program)
        if program is None:
            program = resolve_program(command.program, self._environ)
            self._programs[command.program] = program
        if command.cwd is not None and not Path(command.cwd).is_dir():
            raise ConfigError("there is no such folder", path="cwd")
        environment = child_environment(
            command.env, dangerous=command.dangerous_env, ours=self._environ
        )
        environment[MARKER] = marker
        found = None if command.sandbox == "none" else sandbox.probe()
        inner = [program, *command.arguments]
        walled = sandbox.wrap(command.sandbox, found, inner, self._hidden)
        launcher = [sys.executable, "-I", "-S", launch.__file__]
        return [*launcher, str(os.getpid()), command.limits.to_text(), *walled], environment


class ChildProcess:
    """A running child. Lines go in by `send` and come out of `lines`; `close` ends it for good."""

    def __init__(
        self,
        name: str,
        popen: subprocess.Popen[bytes],
        marker: str,
        run_files: RunFiles,
        *,
        stop_s: float,
    ) -> None:
        self.name = name
        self._popen = popen
        self._marker = marker
        self._run_files = run_files
        self._stop_s = stop_s
        self._decoder = LineDecoder(1)
        self._stdin: asyncio.StreamWriter | None = None
        self._pipe: asyncio.WriteTransport | None = None
        self._outbox = Outbox.here()
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._stdout = asyncio.StreamReader()
        self._stderr = asyncio.StreamReader()
        self._transports: list[asyncio.BaseTransport] = []
        self._closing: asyncio.Lock = asyncio.Lock()
        self._is_closed = False
        self._unhurried_bytes = 0

    @property
    def pid(self) -> int:
        """The process id, which is that of its group as well."""
        return self._popen.pid

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be sent any more."""
        return self._is_closed or self._pipe is None or self._pipe.is_closing()

    async def connect(self, limit_bytes: int) -> None:
        """Take hold of the three pipes."""
        loop = asyncio.get_running_loop()
        self._decoder = LineDecoder(limit_bytes)
        self._stdout = await self._reader_of(self._popen.stdout, _CHUNK_BYTES)
        self._stderr = await self._reader_of(self._popen.stderr, _STDERR_LINE_BYTES)
        writing, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop), _lent(self._popen.stdin)
        )
        self._transports.append(writing)
        self._stdin = asyncio.StreamWriter(writing, protocol, None, loop)
        self._pipe = writing
        self._unhurried_bytes = writing.get_write_buffer_limits()[1]

    async def _reader_of(self, pipe: IO[bytes] | None, limit_bytes: int) -> asyncio.StreamReader:
        """Read a pipe on the loop."""
        reader = asyncio.StreamReader(limit=limit_bytes)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), _lent(pipe)
        )
        self._transports.append(transport)
        return reader

    def send(self, message: bytes) -> Awaitable[None] | None:
        """Write one message as a line; a child that does not read holds up whoever writes.

        What it gives is awaited; None where nobody is held up. The lines of one turn of the loop are
        written together.

        Raises:
            UpstreamUnavailableError: it was not written.
        """
        pipe = self._pipe
        if pipe is None or self._is_closed or pipe.is_closing():
            raise UpstreamUnavailableError(self.name, "its process has ended")
        waiting = pipe.get_write_buffer_size() + self._unwritten_bytes
        if waiting > _MAX_UNWRITTEN_BYTES:
            raise UpstreamUnavailableError(self.name, "its process does not read")
        line = encode_line(message)
        self._unwritten.append(line)
        self._unwritten_bytes += len(line)
        if not self._outbox.is_open:
            self._write()
        elif len(self._unwritten) == 1:
            self._outbox.add(self._write)
        return None if waiting + len(line) <= self._unhurried_bytes else self._drain()

    def _write(self) -> None:
        """Write the lines that are there."""
        lines, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        if lines and not self.is_closed and self._pipe is not None:
            self._pipe.write(lines[0] if len(lines) == 1 else b"".join(lines))

    async def _drain(self) -> None:
        """Wait until the child has read most of what is written."""
        self._write()
        if self._stdin is not None:
            with suppress(ConnectionError):  # it may have been read: the end of its output decides
                await self._stdin.drain()

    async def lines(self) -> AsyncGenerator[list[bytes], None]:
        """Give its output, several lines at a time, until it closes it.

        Raises:
            TooLargeError: a line is over the limit; nothing after it is read.
        """
        while chunk := await self._stdout.read(_CHUNK_BYTES):
            try:
                lines = self._decoder.feed(chunk)
            except FrameTooLarge as exc:
                raise TooLargeError(exc.limit) from None
            if lines:
                yield lines

    async def drain_errors(self) -> None:
        """Bring its standard error into the log until it closes it.

        Lines are clipped; more than 20 a second, after a burst, are counted and not written.
        """
        allowed, at_s, dropped = _STDERR_BURST, asyncio.get_running_loop().time(), 0
        begun = b""
        while chunk := await self._stderr.read(_CHUNK_BYTES):
            *lines, begun = (begun + chunk).split(b"\n")
            if len(begun) > _STDERR_LINE_BYTES:
                lines, begun = [*lines, begun], b""
            now_s = asyncio.get_running_loop().time()
            allowed = min(allowed + (now_s - at_s) * _STDERR_LINES_PER_S, _STDERR_BURST)
            at_s = now_s
            for line in lines:
                if allowed < 1:
                    dropped += 1
                    continue
                allowed -= 1
                if dropped:
                    _log.info("%s: %d more lines of its log were dropped", self.name, dropped)
                    dropped = 0
                if line.strip():
                    _log.info("%s: %s", self.name, clipped(line.rstrip()))
        if begun.strip() or dropped:
            _log.info("%s: %s (%d lines dropped)", self.name, clipped(begun.rstrip()), dropped)

    @property
    def exit_status(self) -> int | None:
        """How it ended: its status, or minus a signal's number; None while it runs."""
        return self._popen.poll()

    async def close(self) -> None:
        """End it: close its input, wait, SIGTERM, wait, SIGKILL, for its whole group.

        Cancelled meanwhile, it is killed at once.
        """
        async with self._closing:
            if self._is_closed:
                return
            self._write()
            self._is_closed = True
            try:
                if self._stdin is not None:
                    self._stdin.close()
                if not await self._has_ended(self._stop_s):
                    self._signal(signal.SIGTERM)
                    await self._has_ended(self._stop_s)
            finally:
                self.kill()
            await self._has_ended(_KILLED_S)
            strays = await asyncio.to_thread(kill_marked, self._marker)
            if strays:
                _log.warning("%s: %d processes had left its group", self.name, strays)
            self._run_files.remove(self._marker)

    def kill(self) -> None:
        """Kill the whole group at once and let go of its pipes, and reap it."""
        self._is_closed = True
        self._signal(signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # killed, it ends in no time
            self._popen.wait(_REAP_S)
        for transport in self._transports:
            if transport.is_closing():
                continue  # what is unwritten ends with the pipe's other side, which is killed
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                transport.close()
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _signal(self, number: int) -> None:
        """Signal the group; its id stays taken as long as any member of it lives."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)

    async def _has_ended(self, within_s: float) -> bool:
        """Wait for the child itself to end."""
        until_s = asyncio.get_running_loop().time() + within_s
        while self._popen.poll() is None:
            if asyncio.get_running_loop().time() > until_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True


class _Pipe:
    """An end of a pipe that is lent to the loop for good.

    asyncio's own loop closes the object it was given. libuv closes the descriptor by its number first, and
    uvloop then closes the object: a second close, of a number that by then may be somebody else's, a file
    of another thread or the socket of a client.
    """

    def __init__(self, descriptor: int, *, is_closed_by_number: bool) -> None:
        self._descriptor = descriptor
        self._is_closed = False
        self._is_closed_by_number = is_closed_by_number

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if not (self._is_closed or self._is_closed_by_number):
            os.close(self._descriptor)
        self._is_closed = True


def _lent(pipe: IO[bytes] | None) -> IO[bytes]:
    """Take the descriptor out of a pipe's object, whose own end would close it as well."""
    assert pipe is not None, "all three are pipes"
    is_own = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    lent = _Pipe(os.dup(pipe.fileno()), is_closed_by_number=not is_own)
    pipe.close()
    return cast("IO[bytes]", lent)
