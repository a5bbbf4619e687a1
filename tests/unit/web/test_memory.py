from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys

import pytest

from waygate_mcp.web import memory

IS_GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"

PROGRAM = """
import sys
from waygate_mcp.web.memory import give_large_blocks_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "told":
    assert give_large_blocks_back()
first = bytearray(16 << 20)
del first  # by itself the allocator takes this for the usual size from now on
before = resident()
large = bytearray(b"x") * (12 << 20)
small = bytearray(b"y") * 50_000  # lies behind it, and stays
del large
print(resident() - before)
"""


def grown(how: str) -> int:
    """How much a process keeps of a large block it freed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=30
    )
    return int(done.stdout)


@pytest.mark.skipif(not IS_GLIBC, reason="only glibc has the bound that is set")
def test_large_blocks_go_back_to_the_system_and_would_not_by_themselves() -> None:
    assert grown("told") < 2 << 20
    assert grown("untold") > 10 << 20


@pytest.mark.parametrize("has_mallopt", [True, False])
def test_where_there_is_no_such_bound_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, has_mallopt: bool
) -> None:
    monkeypatch.setattr(sys, "platform", "linux" if not has_mallopt else "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not memory.give_large_blocks_back()


def test_what_is_loaded_is_left_alone_and_the_rest_is_collected_seldom() -> None:
    before = gc.get_threshold()
    loaded: list[list[int]] = [[] for _ in range(1_000)]
    frozen = gc.get_freeze_count()
    try:
        memory.settle()
        assert gc.get_threshold() == (20_000, 20, 50)
        assert gc.get_freeze_count() >= frozen + len(loaded)
    finally:
        gc.set_threshold(*before)
