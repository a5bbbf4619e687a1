"""The servers under comparison: how each is started, pinned, measured and stopped.

Every server is one process tree on one core, its standard output and error in a file of its own
temporary folder. Knows /proc; refuses to know what is sent.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from calls import FIRST_ID, WAIT_S, Method, Target, WrongAnswerError, build, check

HERE = Path(__file__).resolve().parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
POLL_S = 0.005


@dataclass(frozen=True)
class Spec:
    """One way to start one server; `{port}` in the command stands for its port."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/mcp"
    tool: str = "echo"
    key: str = ""
    tools: int = 1


class Running:
    """A started server. A context manager: leaving it ends the process and its folder."""

    def __init__(self, spec: Spec, core: int | None) -> None:
        self.spec = spec
        self._core = core

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix=f"bench-{self.spec.name}-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        spec = self.spec
        self.target = Target(port, spec.path, spec.tool, spec.key, spec.tools)
        command = [part.format(port=port) for part in self.spec.command]
        if self._core is not None:
            command = ["taskset", "-c", str(self._core), *command]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "WAYGATE_DATA_DIR": str(self._folder / "data"),
            "WAYGATE_LOG_DIR": str(self._folder / "logs"),
            **self.spec.environment,
        }
        with self.log_path.open("wb") as log:
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def log_path(self) -> Path:
        """Where the server's standard output and error go."""
        return self._folder / "output.txt"

    def wait_until_right(self, method: Method = "tools/call", deadline_s: float = WAIT_S) -> float:
        """Call (modern era) until the first right answer; the seconds since the process began.

        Raises:
            WrongAnswerError: it ended, or gave no right answer in time.
        """
        last = "no connection"
        request = build(self.target, "modern", method)
        while time.perf_counter() - self.started_at < deadline_s:
            if self.has_ended():
                break
            try:
                check(self.target, request, method, FIRST_ID)
                return time.perf_counter() - self.started_at
            except OSError:
                time.sleep(POLL_S)
            except WrongAnswerError as wrong:
                last = str(wrong)
                time.sleep(0.1)
        output = self.log_path.read_text(errors="replace")[-2000:]
        raise WrongAnswerError(f"{self.spec.name} did not come up ({last}); it said:\n{output}")

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def hang_up(self) -> None:
        """Send SIGHUP, by which our gateway reads its document again."""
        self._process.send_signal(signal.SIGHUP)

    def pids(self) -> list[int]:
        """The server's process and all below it."""
        found, rest = [], [self._process.pid]
        while rest:
            pid = rest.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                rest += [int(child) for child in task.read_text().split()]
        return found

    def cpu_s(self) -> float:
        """User and system time of the whole tree so far, in seconds (all threads)."""
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS_PER_S

    def rss_mb(self) -> float:
        """Resident memory of the whole tree, in MiB (VmRSS, shared pages counted per process)."""
        total_kb = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total_kb += int(line.split()[1])
        return total_kb / 1024


def started(stack: ExitStack, spec: Spec, core: int, deadline_s: float = WAIT_S) -> Running:
    """Start a server and wait until it listens.

    Raises:
        WrongAnswerError: it does not.
    """
    server = stack.enter_context(Running(spec, core))
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline and not server.has_ended():
        try:
            http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=1).connect()
        except OSError:
            time.sleep(0.05)
        else:
            return server
    said = server.log_path.read_text(errors="replace")[-1500:]
    raise WrongAnswerError(f"{spec.name} does not listen; it said:\n{said}")


def core_busy_s(core: int) -> float:
    """Busy seconds of one core since boot, whoever used it: shows what neighbours took."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{core}":
            idle = int(numbers[3]) + int(numbers[4])
            return (sum(int(n) for n in numbers[:8]) - idle) / TICKS_PER_S
    raise ValueError(f"no core {core}")
