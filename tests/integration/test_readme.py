"""README.md and docs/installation.md are done as they stand there: in a fresh clone, with a home of its own.

The commands are taken from the pages, so that neither can change without the other. What is about containers is done in
test_container.py.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from tests.integration.gateway_process import serving, waygate
from tests.support.markdown import CONTAINER_SECURITY, INSTALLATION, README, Page, fresh_clone
from tests.support.ports import free_port
from tests.support.source_tree import ROOT
from waygate_mcp.config.yaml_text import parse_yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WITHIN_S = 200
ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("README.md", "Test"): "this suite is what it runs",
    ("docs/installation.md", "In a container"): "scripts/test-container.sh runs its check",
    ("docs/installation.md", "By hand, in a container"): "test_container.py",
    ("docs/installation.md", "Every day, in a container"): "test_container.py",
}
"""(page, heading) of commands that are not run here → where they are."""
HERE = {
    ("README.md", "Start"),
    ("README.md", "Call a tool"),
    ("docs/installation.md", "One command"),
    ("docs/installation.md", "By hand"),
    ("docs/installation.md", "Removal"),
}
SAID_BY_OTHERS = {
    "CERTIFICATE_VERIFY_FAILED",
    "bind source path does not exist",
    "Pool overlaps with other one on this address space",
    "Range of CPUs is from 0.01 to 1.00",
}
"""Messages of the page that are Docker's and pip's, not ours."""


@dataclass(frozen=True)
class Clone:
    """A fresh clone, and the environment of somebody who has nothing but Python."""

    folder: Path
    home: Path
    programs: Path

    def environment(self, **more: str) -> dict[str, str]:
        """No setting of this machine but where it keeps downloads and how it reaches its package index."""
        ours = ("WAYGATE_", "COVERAGE", "COV_", "PYTEST", "PYTHON", "VIRTUAL_ENV", "CONTAINER_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        home = Path.home()
        return {
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            **kept,
            "HOME": str(self.home),
            "PIP_NO_COMPILE": "1",  # most of what is installed here is never loaded
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            **more,
        }

    def run(
        self, command: str, *, folder: Path | None = None, code: int = 0, **environment: str
    ) -> str:
        """Run one line of a page by a shell and give all it wrote."""
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=folder or self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert result.returncode == code, f"{command}\n{result.stdout}"
        return result.stdout

    @contextlib.contextmanager
    def running(self, command: str, until: str, **environment: str) -> Iterator[list[str]]:
        """Run a command that stays until the block ends; give what it wrote up to `until`. It must end well."""
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        watchdog = threading.Timer(WITHIN_S, process.kill)
        watchdog.start()
        output = process.stdout
        assert output is not None
        lines: list[str] = []
        try:
            for line in output:
                lines.append(line)
                if until in line:
                    break
            else:
                pytest.fail(f"{command} never said {until!r}:\n{''.join(lines)}")
            # What it writes from now on must be read, or it would wait for a reader.
            reader = threading.Thread(target=lambda: lines.extend(output))
            reader.start()
            yield lines
            process.send_signal(signal.SIGINT)
            assert process.wait(WITHIN_S) == 0, "".join(lines)
            reader.join(WITHIN_S)
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.kill()
            process.wait()
            output.close()


def clone_in(folder: Path) -> Clone:
    """A clone with its own home, where `python3` is the Python of these tests."""
    clone = Clone(folder / "clone", folder / "home", folder / "bin")
    fresh_clone(clone.folder)
    for made in (clone.home, clone.programs):
        made.mkdir()
    python3 = clone.programs / "python3"
    base = getattr(sys, "_base_executable", sys.executable)
    python3.write_text(f'#!/bin/sh\nexec {shlex.quote(base)} "$@"\n')
    python3.chmod(0o755)
    return clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return clone_in(tmp_path_factory.mktemp("one-command"))


@pytest.fixture(scope="module")
def started(clone: Clone) -> Iterator[tuple[int, str]]:
    """`./quickstart.sh`, as README.md says it; the port and what it printed."""
    (command,) = README.commands("Start")
    port = free_port()
    with clone.running(command, "Ctrl-C stops it", WAYGATE_PORT=str(port)) as lines:
        yield port, "".join(lines)


def get(port: int, **headers: str) -> tuple[int, str]:
    """Status and text of a GET of `/mcp`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/mcp", headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_every_command_of_the_pages_is_run_by_a_test() -> None:
    found = {
        (page.name, block.heading)
        for page in (README, INSTALLATION, CONTAINER_SECURITY)
        for block in page.blocks()
        if block.language == "sh"
    }
    assert found == HERE | set(ELSEWHERE)


@functools.cache
def help_of(*command: str) -> str:
    """What a command says about itself; it is there only if it says something."""
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, f"{command}: {shown.stderr}"
    return shown.stdout


@pytest.mark.parametrize("page", [README, INSTALLATION, CONTAINER_SECURITY], ids=lambda p: p.name)
def test_every_command_that_a_sentence_names_exists(page: Page) -> None:
    for words in page.words_in_code_type():
        command = shlex.split(words) if "'" not in words or words.count("'") == 2 else []
        if not command:
            continue
        program, named = command[0], [word for word in command[1:] if word.startswith("--")]
        if program.removeprefix("./.venv/bin/") == "waygate":
            chosen = [word for word in command[1:] if word.islower() and not word.startswith("-")]
            line = [waygate(), *chosen, "--help"]
        elif program in {"./quickstart.sh", "./scripts/test.sh", "./scripts/test-container.sh"}:
            line = [str(ROOT / program), "--help"]
        else:
            continue
        shown = help_of(*line)
        assert [one for one in named if one not in shown] == [], words


def test_the_check_says_that_this_machine_can_serve(clone: Clone) -> None:
    (command,) = INSTALLATION.commands("One command")
    said = clone.run(command)
    assert "ok  the tool greet answers" in said
    assert not (clone.folder / ".waygate").exists()
    assert f"`{command}`" in README.text


def test_quickstart_leaves_what_the_page_lists(clone: Clone, started: tuple[int, str]) -> None:
    port, said = started
    assert f"http://127.0.0.1:{port}/mcp" in said
    for cell, _, made in INSTALLATION.rows("place"):
        place = clone.folder / cell.strip("`")
        assert place.exists(), cell
        assert made
    key = clone.folder / ".waygate" / "api.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().strip() in said


def test_the_tools_of_the_running_gateway_are_listed_and_called(
    clone: Clone, started: tuple[int, str]
) -> None:
    listing, call = README.commands("Call a tool")
    assert "greet" in clone.run(listing)
    assert clone.run(call) == "Hello, Ada!\n"
    log = clone.folder / ".waygate" / "logs" / "waygate.log"

    def doors() -> list[str]:
        lines = log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["door"] for line in lines if '"tools/call"' in line]

    deadline = time.monotonic() + 5  # lines are written by a thread that lets them gather
    while len(doors()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    # quickstart.sh's own test was one; the command reached the same gateway, not one in its own process.
    assert doors() == ["http", "http"]


def test_the_clients_of_the_readme_are_among_those_that_are_listed(
    clone: Clone, started: tuple[int, str]
) -> None:
    listed = clone.run("./.venv/bin/waygate connect")
    named = {
        words.split()[2] for words in README.words_in_code_type() if "waygate connect " in words
    }
    assert named
    assert [client for client in named if client not in listed] == []


def test_refusals_are_as_the_page_says(clone: Clone, started: tuple[int, str]) -> None:
    port, _ = started
    assert get(port)[0] == 401
    status, text = get(port, Host="elsewhere.example")
    assert (status, "does not answer to that Host" in text) == (421, True)
    status, text = get(port, Origin="https://elsewhere.example")
    assert (status, "Pages of that Origin may not call" in text) == (403, True)


def test_a_changed_lock_file_completes_the_environment(clone: Clone) -> None:
    lock = clone.folder / "requirements" / "runtime.lock"
    lock.write_text(lock.read_text() + "# a newer commit\n")
    said = clone.run("./quickstart.sh --check")
    assert "completing .venv" in said
    assert "ok  the tool greet answers" in said


def weather(folder: Path) -> dict[str, object]:
    """Put the plugin of README.md into a folder; the document that names it."""
    text = README.block("python")
    name = re.match(r"# (\w+\.py)\n", text)
    assert name
    (folder / name[1]).write_text(text, encoding="utf-8")
    (folder / "waygate.yaml").write_text(README.block("yaml"), encoding="utf-8")
    document = parse_yaml(README.block("yaml").encode()).value
    assert isinstance(document, dict)
    return document


def run_waygate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(
        [waygate(), *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_weather_plugin_is_checked_listed_and_called(tmp_path: Path) -> None:
    weather(tmp_path)
    checked = run_waygate(tmp_path, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = run_waygate(tmp_path, "tools", "list", "--in-process", "--json")
    assert "weather__forecast" in listed.stdout, listed.stdout + listed.stderr
    arguments = '{"city": "Oslo", "days": 2}'
    called = run_waygate(tmp_path, "tools", "call", "weather__forecast", arguments, "--in-process")
    assert called.stdout == "Oslo: sunny for 2 day(s)\n", called.stdout + called.stderr


def test_a_fault_of_the_document_is_named_by_path_line_and_nearest_key(tmp_path: Path) -> None:
    weather(tmp_path)
    document = tmp_path / "waygate.yaml"
    document.write_text(document.read_text().replace("plugins:", "plugin:"))
    checked = run_waygate(tmp_path, "check")
    assert checked.returncode == 2
    said = checked.stdout + checked.stderr
    assert re.search(r"line 2\b.*plugin\b.*did you mean `plugins`", said), said


async def springfield(url: str, headers: Mapping[str, str], mode: str, tool: str) -> str:
    """Call the tool by the official SDK's client and answer its question."""

    async def answer(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult:
        assert params.message == "Which Springfield?"
        return types.ElicitResult(action="accept", content={"country": "Illinois"})

    async with (
        create_mcp_http_client(headers=dict(headers)) as carrier,
        Client(
            streamable_http_client(url, http_client=carrier), mode=mode, elicitation_callback=answer
        ) as client,
    ):
        result = await client.call_tool(tool, {"city": "Springfield"})
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_weather_plugin_asks_in_mid_call_on_both_endpoints(
    mode: str, tmp_path: Path
) -> None:
    with serving(tmp_path, weather(tmp_path)) as gateway:
        for url, tool in (
            (gateway.url, "weather__forecast"),
            (f"{gateway.base_url}/servers/outside/mcp", "forecast"),
        ):
            said = await springfield(url, gateway.headers, mode, tool)
            assert said == "Springfield, Illinois: sunny for 1 day(s)"


def test_by_hand_and_away_again(tmp_path: Path) -> None:
    clone = clone_in(tmp_path)
    *install, serve = INSTALLATION.commands("By hand")
    port = free_port()
    said = [clone.run(command) for command in install]
    assert "waygate.yaml" in said[-1]
    with clone.running(serve, "API key, shown once:", WAYGATE_PORT=str(port)) as lines:
        key = re.search(r"API key, shown once: (\S+)", "".join(lines))
        assert key
        call = README.commands("Call a tool")[1]
        url = f"--url http://127.0.0.1:{port}/mcp"
        assert clone.run(f"{call} {url}", WAYGATE_API_KEY=key[1]) == "Hello, Ada!\n"
        assert get(port)[0] == 401
    assert (clone.home / ".waygate" / "data").is_dir()

    here, containers, home = INSTALLATION.commands("Removal")
    assert containers.startswith("docker compose down")
    clone.run(here)
    clone.run(home)
    assert [name for name in (".venv", ".waygate", ".env") if (clone.folder / name).exists()] == []
    assert not (clone.home / ".waygate").exists()


def test_the_messages_of_the_troubleshooting_table_are_those_of_the_code() -> None:
    folders = [ROOT / "src", ROOT / "scripts"]
    sources = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".sh"}
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    text = text.replace("{PREFIX}", "WAYGATE_")
    seen = [
        message
        for cell, _ in INSTALLATION.rows("what you see")
        for message in re.findall(r"`([^`]+)`", cell)
    ]
    assert len(seen) > 10
    assert [one for one in seen if one not in text and one not in SAID_BY_OTHERS] == []
    assert set(seen) >= SAID_BY_OTHERS
