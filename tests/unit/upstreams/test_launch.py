from __future__ import annotations

import os
import subprocess
import sys

from waygate_mcp.upstreams import launch

SHOW = """
import resource, sys
status = open("/proc/self/status").read() if sys.platform == "linux" else "NoNewPrivs:\\t1"
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], "NoNewPrivs:\\t1" in status, sys.argv[1])
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", launch.__file__, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_program_takes_its_place_with_limits_and_no_new_privileges() -> None:
    ran = run(
        str(os.getpid()), "CORE=0,NOFILE=64,NOSUCH=1", sys.executable, "-c", SHOW, "a; echo $HOME"
    )
    assert ran.stdout.split(maxsplit=2) == ["64", "True", "a; echo $HOME\n"]


def test_a_program_that_cannot_run_says_so_without_a_trace() -> None:
    ran = run(str(os.getpid()), "", "/no/such/program")
    assert ran.returncode == 127
    assert ran.stderr == "cannot start: No such file or directory\n"


def test_nothing_is_started_for_a_gateway_that_is_gone() -> None:
    ran = run("1", "", sys.executable, "-c", "print('ran')")
    if sys.platform == "linux":
        assert (ran.returncode, ran.stdout) == (69, "")
