"""One round of load: wrk, pinned, its answers checked and counted, and its own cost known."""

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calls import FIRST_ID, Answer, Request, Target, WrongAnswerError

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 64
SAMPLE_S = 0.4
IDS_PER_ROUND = 10_000_000
LIST_LOOK_BYTES = 20_000
"""Answers above this size are not handed to Lua: their bytes are counted, and samples compared whole."""


class MissingWrkError(Exception):
    """The load generator is not installed."""


@dataclass(frozen=True)
class Round:
    """What wrk saw in one round; latencies in microseconds."""

    requests: int
    duration_s: float
    p50_us: int
    p99_us: int
    max_us: int
    wrk_cpu_s: float

    @property
    def per_second(self) -> float:
        """Throughput."""
        return self.requests / self.duration_s


def find_wrk() -> str:
    """The path of wrk.

    Raises:
        MissingWrkError: it is not there.
    """
    found = shutil.which("wrk")
    if not found:
        raise MissingWrkError(
            "wrk is missing: `apt-get install wrk`, or run this again with --install as root"
        )
    return found


def _lua(data: bytes) -> str:
    """A Lua string literal for any bytes."""
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def _head(target: Target, request: Request) -> bytes:
    """The HTTP/1.1 request up to the id, Content-Length for an id of ten digits."""
    length = len(request.body(FIRST_ID))
    headers = {"Host": f"127.0.0.1:{target.port}", **request.headers, "Content-Length": str(length)}
    lines = [f"POST {target.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.before_id


def write_plan(
    path: Path, target: Target, requests: Sequence[Request], answer: Answer, first_id: int
) -> None:
    """Write the Lua table `wrk.lua` reads: one request per session, and the answer to expect."""
    look = "all" if answer.size_bytes <= LIST_LOOK_BYTES else "count"
    heads = ",".join(_lua(_head(target, request)) for request in requests)
    path.write_text(
        f"return {{prefixes={{{heads}}},suffix={_lua(requests[0].after_id)},first_id={first_id},"
        f'look="{look}",answer_before={_lua(answer.before_id)},'
        f"answer_after={_lua(answer.after_id)}}}\n"
    )


def fire(
    target: Target,
    requests: Sequence[Request],
    answer: Answer,
    *,
    number: int,
    seconds: float,
    core: int,
    connections: int = CONNECTIONS,
) -> Round:
    """Load the target for some seconds and answer what came of it.

    `number` must differ between calls that share sessions: it chooses the range of ids.

    Raises:
        WrongAnswerError: any answer was not the expected one, or any connection failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        plan = Path(folder) / "plan.lua"
        write_plan(plan, target, requests, answer, FIRST_ID + number * IDS_PER_ROUND)
        command = ["taskset", "-c", str(core), find_wrk(), "-t1", f"-c{connections}"]
        command += [f"-d{seconds:g}s", "--timeout", "20s", "-s", str(SCRIPT)]
        command.append(f"http://127.0.0.1:{target.port}{target.path}")
        with subprocess.Popen(
            command,
            env={"BENCH_PLAN": str(plan), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                usage = _watch(process, target, requests[0], answer, number)
            except BaseException:
                process.terminate()
                raise
            output = process.stdout.read()
    if process.returncode:
        raise WrongAnswerError(f"wrk ended with {process.returncode}: {output[-500:]}")
    return _read(output, answer, usage.ru_utime + usage.ru_stime)


def _watch(
    process: subprocess.Popen[str], target: Target, request: Request, answer: Answer, number: int
) -> resource.struct_rusage:
    """Wait for wrk, and meanwhile compare a whole answer with the expected one now and then.

    Raises:
        WrongAnswerError: an answer differed.
    """
    request_id = FIRST_ID + (number + 1) * IDS_PER_ROUND
    while True:
        time.sleep(SAMPLE_S)
        pid, ended, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(ended)
            return usage
        request_id -= 1
        status, _, body = target.post(request.headers, request.body(request_id))
        if status != 200 or body != b"%s%d%s" % (answer.before_id, request_id, answer.after_id):
            raise WrongAnswerError(f"under load: status {status}: {body[:300]!r}")


def _read(output: str, answer: Answer, wrk_cpu_s: float) -> Round:
    """Judge what wrk printed."""
    seen = json.loads(output.rpartition("BENCH ")[2])
    faults = {k: seen[k] for k in ("wrong", "connect", "read", "write", "status", "timeout")}
    if any(faults.values()) or not seen["requests"]:
        raise WrongAnswerError(f"{seen['requests']} requests, {faults}, first: {seen['sample']}")
    # Bodies too large for Lua: the bytes on the wire have to add up. What is still on its way at
    # the end of the round is counted by wrk too, so each connection may hold one more answer.
    one = answer.size_bytes + answer.head_bytes
    over = seen["bytes"] - seen["requests"] * one
    slack = one * CONNECTIONS + seen["requests"] * 64
    if not -seen["requests"] * 64 <= over <= slack:
        raise WrongAnswerError(f"{seen['bytes']} bytes for {seen['requests']} answers of {one}")
    return Round(
        requests=seen["requests"],
        duration_s=seen["duration_us"] / 1e6,
        p50_us=seen["p50_us"],
        p99_us=seen["p99_us"],
        max_us=seen["max_us"],
        wrk_cpu_s=wrk_cpu_s,
    )
