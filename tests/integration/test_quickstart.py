"""`quickstart.sh` as a person runs it: the check, a second start, and each way it can fail in one clear line."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.source_tree import ROOT

WITHIN_S = 60


def environment() -> dict[str, str]:
    """Ours without coverage's hooks: many short processes, and what they run is measured elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def quickstart(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "quickstart.sh", *arguments],
        env={**environment(), **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@contextmanager
def serving(folder: Path, port: int) -> Iterator[list[str]]:
    """A quickstart in the foreground, until it says how to stop it; the lines it has said."""
    process = subprocess.Popen(
        [ROOT / "quickstart.sh", "--data-dir", folder, "--port", str(port)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(WITHIN_S, process.kill)
    watchdog.start()
    lines: list[str] = []
    output = process.stdout
    assert output is not None
    try:
        for line in output:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        yield lines
        process.send_signal(signal.SIGINT)
        lines += output.readlines()
        assert process.wait(WITHIN_S) == 0, "".join(lines)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "it still listens after Ctrl-C"
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
        process.wait()
        output.close()


def test_the_check_starts_tests_and_stops_a_gateway_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    result = quickstart("--check", TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok  a call without a key is refused (401)" in result.stdout
    assert "ok  the tool greet answers:" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_second_start_keeps_the_key_and_shows_it_no_more(tmp_path: Path) -> None:
    folder, port = tmp_path / "gateway", free_port()
    with serving(folder, port) as lines:
        first = "".join(lines)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    key_file = folder / "api.key"
    key = key_file.read_text().strip()
    assert key in first
    assert f"http://127.0.0.1:{port}/mcp" in first
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    document = folder / "waygate.yaml"
    document.write_text(document.read_text() + "\n# a line of mine\n")

    with serving(folder, port) as lines:
        second = "".join(lines)
    assert key not in second
    assert "made by an earlier start" in second
    assert key_file.read_text().strip() == key
    assert document.read_text().endswith("# a line of mine\n")
    assert key not in (folder / "logs" / "console.log").read_text()


def test_a_port_in_use_is_named_with_another_that_is_free(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = quickstart("--data-dir", str(tmp_path / "x"), "--port", str(port))
    assert result.returncode == 1
    assert re.fullmatch(rf"quickstart.sh: port {port} is in use; .*--port \d+\n", result.stderr), (
        result.stderr
    )
    assert not (tmp_path / "x").exists()


def test_a_document_with_a_fault_is_reported_in_the_gateways_own_words(tmp_path: Path) -> None:
    (tmp_path / "waygate.yaml").write_text("version: 1\nserverr: {}\n")
    result = quickstart("--data-dir", str(tmp_path), "--port", str(free_port()))
    assert result.returncode == 1
    assert "serverr" in result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("quickstart.sh: ")
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--prot", "1"], "--prot"),
        (["--port", "zero"], "'zero' is not a port"),
        (["--port", "0"], "'0' is not a port"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_made(arguments: list[str], word: str) -> None:
    result = quickstart(*arguments)
    assert result.returncode == 2
    assert word in result.stderr.splitlines()[-1]


def test_a_python_too_old_is_refused_with_the_version_needed(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = quickstart("--check", PYTHON=str(old))
    assert result.returncode == 1
    assert "Python 3.11 or newer" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_python_without_venv_names_the_package_to_install(tmp_path: Path) -> None:
    """As on Debian without python3-venv: an environment cannot be made, and one line says how to mend it."""
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    clone = tmp_path / "clone"
    for name in (
        "quickstart.sh",
        "pyproject.toml",
        "scripts",
        "requirements",
        "src/waygate_mcp/__init__.py",
    ):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).symlink_to(ROOT / name)
    base = getattr(sys, "_base_executable", sys.executable)
    script = ". scripts/lib/environment.sh; make_environment runtime"
    result = subprocess.run(
        ["sh", "-eu", "-c", script, "quickstart.sh"],
        cwd=clone,
        env={**environment(), "PYTHON": base, "PYTHONPATH": str(tmp_path), "WAYGATE_NO_UV": "1"},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert result.returncode == 1
    assert "apt install python3-venv" in result.stderr
    assert result.stderr.count("\n") == 1


def test_commands_in_the_same_place_reach_the_gateway_without_options(tmp_path: Path) -> None:
    with serving(tmp_path, free_port()):
        result = subprocess.run(
            [ROOT / ".venv" / "bin" / "waygate", "tools", "call", "greet", '{"name": "Ada"}'],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "Ada" in result.stdout
    assert "starting one in this process" not in result.stderr
    settings = (tmp_path / ".env").read_text()
    assert (tmp_path / "api.key").read_text().strip() not in settings


def test_a_key_and_a_settings_file_of_ones_own_are_used_and_left_alone(tmp_path: Path) -> None:
    mine = "WAYGATE_API_KEY=my-own-key-of-enough-characters\n"
    (tmp_path / ".env").write_text(mine)
    with serving(tmp_path, free_port()) as lines:
        said = "".join(lines)
    assert "yours, from WAYGATE_API_KEY" in said
    assert "my-own-key" not in said
    assert (tmp_path / ".env").read_text() == mine
    assert not (tmp_path / "api.key").exists()


@pytest.mark.parametrize(
    ("docker", "word"),
    [
        (None, "Docker is not installed"),
        ('[ "$1" != compose ]', "no Compose plugin"),
        ('[ "$1" != info ]', "engine does not answer"),
    ],
)
def test_what_is_missing_of_docker_is_named(tmp_path: Path, docker: str | None, word: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "python3"):
        (programs / name).symlink_to(shutil.which(name) or name)
    if docker:
        (programs / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (programs / "docker").chmod(0o755)
    result = quickstart("--docker", PATH=str(programs), PYTHON=sys.executable)
    assert result.returncode == 1
    assert word in result.stderr
    assert result.stderr.count("\n") == 1
