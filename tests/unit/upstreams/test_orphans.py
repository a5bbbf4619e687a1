from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from waygate_mcp.upstreams.environment import MARKER
from waygate_mcp.upstreams.orphans import RunFiles, kill_marked, new_marker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def child(marker: str) -> subprocess.Popen[bytes]:
    started = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env={MARKER: marker},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert started.stdout is not None
    started.stdout.readline()
    return started


def test_only_what_has_the_marker_is_ended() -> None:
    marker = new_marker()
    with child(marker) as ours, child(new_marker()) as another:
        assert kill_marked(marker) >= 1
        assert ours.wait(10) == -9
        assert another.poll() is None
        another.kill()


def test_what_a_gateway_that_is_gone_left_is_reaped_and_a_running_ones_is_not(
    tmp_path: Path,
) -> None:
    files, marker = RunFiles(tmp_path / "run"), new_marker()
    files.write(marker, "up")
    (path,) = (tmp_path / "run").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    with child(marker) as orphan:
        assert files.reap() == 0
        assert orphan.poll() is None
        run = msgspec.json.decode(path.read_bytes())
        assert run["gateway_pid"] == os.getpid()
        path.write_bytes(msgspec.json.encode({**run, "gateway_start": 1}))
        assert files.reap() >= 1
        assert orphan.wait(10) == -9
    assert not path.exists()


def test_after_a_reboot_nothing_is_ended(tmp_path: Path) -> None:
    files, marker = RunFiles(tmp_path), new_marker()
    files.write(marker, "up")
    (path,) = tmp_path.iterdir()
    run = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**run, "gateway_start": 1, "boot": "another"}))
    with child(marker) as bystander:
        assert files.reap() == 0
        assert bystander.poll() is None
        bystander.kill()
    assert not path.exists()


def test_a_file_that_says_nothing_or_lies_about_its_name_ends_nothing(tmp_path: Path) -> None:
    marker = new_marker()
    lie = {"marker": marker, "gateway_pid": 1, "gateway_start": 1, "boot": ""}
    (tmp_path / "child-x.json").write_bytes(msgspec.json.encode(lie))
    (tmp_path / "child-y.json").write_bytes(b"{")
    with child(marker) as bystander:
        assert RunFiles(tmp_path).reap() == 0
        assert bystander.poll() is None
        bystander.kill()
    assert not (tmp_path / "child-y.json").exists()


def test_without_a_folder_nothing_is_written() -> None:
    files = RunFiles(None)
    files.write("m", "up")
    files.remove("m")
    assert files.reap() == 0
