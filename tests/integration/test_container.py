"""The container: what its files say, and, where an engine runs or can be started, what it does.

scripts/test-container.sh has the checks of the running container; here it is run, and so are the container commands of
docs/installation.md. Where no engine can run, the reason is printed and stands in pytest's summary.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.markdown import CONTAINER_SECURITY, INSTALLATION, README, fresh_clone
from tests.support.ports import free_port
from tests.support.source_tree import ROOT
from waygate_mcp import __version__
from waygate_mcp.config.yaml_text import parse_yaml

SCRIPT = ROOT / "scripts" / "test-container.sh"
OPEN_ENGINE = """
set -eu
. scripts/lib/container-engine.sh
trap 'engine_close' EXIT
trap 'exit 1' INT TERM HUP
if engine_open && engine_base; then
  echo "engine ${DOCKER_HOST:-} $engine_base_image"
  cat >/dev/null # until whoever asked closes its end
else
  echo "none $engine_reason"
fi
"""
ENGINE_WITHIN_S = 400
SCRIPT_WITHIN_S = 600
COMMAND_WITHIN_S = 300
SKIPPED = 77


def compose_file() -> dict[str, object]:
    """docker-compose.yml with the defaults of its variables, as parsed YAML."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    value = parse_yaml(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).encode()).value
    assert isinstance(value, dict)
    return value


def service() -> dict[str, object]:
    """The only service of docker-compose.yml."""
    services = compose_file()["services"]
    assert isinstance(services, dict)
    (found,) = services.values()
    assert isinstance(found, dict)
    return found


def instructions(name: str) -> list[str]:
    """The arguments of one kind of instruction in the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} +(.+)$", text, re.MULTILINE)


def test_the_label_has_the_version_of_the_package() -> None:
    (labels,) = instructions("LABEL")
    assert f'org.opencontainers.image.version="{__version__}"' in labels


def test_the_image_runs_as_a_user_without_rights_and_is_stopped_gently() -> None:
    assert instructions("USER") == ["1000:1000"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    # The form that needs no shell: process 1 is the gateway, so the signal reaches it.
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["waygate"]


def test_every_line_of_the_security_page_stands_in_the_file() -> None:
    rows = CONTAINER_SECURITY.rows("line of docker-compose.yml")
    assert len(rows) >= 10
    found = service()
    for cell, *_ in rows:
        said = parse_yaml(cell.strip("`").encode()).value
        assert isinstance(said, dict)
        assert {name: found.get(name) for name in said} == said


def test_nothing_is_published_beyond_loopback() -> None:
    assert service()["ports"] == ["127.0.0.1:8000:8000"]
    assert "network_mode" not in service()


def test_the_file_opens_nothing_that_the_page_does_not_name() -> None:
    opening = {
        "privileged",
        "cap_add",
        "devices",
        "pid",
        "userns_mode",
        "group_add",
        "volumes_from",
    }
    assert opening & set(service()) == set()
    assert "docker.sock" not in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_only_what_the_dockerfile_copies_reaches_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for words in instructions("COPY")
        if not words.startswith("--from")
        for source in words.split()[:-1]
    }
    assert admitted == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    refused = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    assert any(fnmatch.fnmatch(".env.production", rule) for rule in refused)


def test_packages_come_with_hashes_and_without_a_compiler() -> None:
    installs = re.findall(r"pip \S*(?: \S+)*? ?install [^&]*", "\n".join(instructions("RUN")))
    assert len(installs) == 3
    for install in installs:
        if "--no-index" not in install:
            assert "--require-hashes --only-binary :all:" in install


# ---- with an engine


def tell(request: pytest.FixtureRequest, line: str) -> None:
    """Say something that is seen without asking for it."""
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"\n{line}", yellow=True)


@dataclass(frozen=True)
class Engine:
    """An engine that answers, and the base image it has."""

    host: str
    base_image: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What `docker` needs to reach it, and nothing of a gateway of this machine."""
        ours = ("WAYGATE_", "CONTAINER_", "COMPOSE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, **({"DOCKER_HOST": self.host} if self.host else {})}


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine that answers, else one that is started here and ends with these tests."""
    holder = subprocess.Popen(
        ["bash", "-c", OPEN_ENGINE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        answer, _, rest = holder.stdout.readline().rstrip("\n").partition(" ")
        if answer != "engine":
            reason = f"THE CONTAINER WAS NOT TESTED: {rest or 'the engine could not be opened'}"
            tell(request, reason)
            pytest.skip(reason)
        host, _, base_image = rest.partition(" ")
        yield Engine(host, base_image)
    finally:
        holder.stdin.close()  # `cat` ends, and what was started is ended by its pid
        holder.stdout.close()
        try:
            holder.wait(60)
        except subprocess.TimeoutExpired:
            holder.terminate()
            holder.wait(60)


def run(
    command: list[str] | str, within_s: float, environment: Mapping[str, str], folder: Path = ROOT
) -> tuple[int, str]:
    """Run a command to its end; one that is late is asked to end, so that it can clean up."""
    process = subprocess.Popen(
        command, shell=isinstance(command, str), cwd=folder, env=dict(environment),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=90)
        pytest.fail(f"not done within {within_s:.0f} s: {command}\n{output}")
    return process.returncode, output


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.timeout(ENGINE_WITHIN_S + SCRIPT_WITHIN_S + 100)
def test_the_container_does_what_its_script_checks(
    engine: Engine, request: pytest.FixtureRequest
) -> None:
    code, output = run([str(SCRIPT)], SCRIPT_WITHIN_S, engine.environment)
    assert code != SKIPPED, f"an engine answers, and the script says that none does\n{output}"
    assert code == 0, output
    tell(request, f"container: {output.rstrip().splitlines()[-1]}")


@pytest.fixture
def stack(engine: Engine, tmp_path: Path) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A fresh clone and the environment in which its Compose project disturbs no other; gone at the end."""
    clone = fresh_clone(tmp_path / "clone")
    environment = {
        **engine.environment,
        "COMPOSE_PROJECT_NAME": f"waygate-docs-{os.getpid()}",
        "CONTAINER_IMAGE": f"waygate-mcp:docs-{os.getpid()}",
        "CONTAINER_BASE": engine.base_image,
        "WAYGATE_PORT": str(free_port()),
    }
    subnet = ["bash", "-euc", ". scripts/lib/container-engine.sh; engine_subnet"]
    code, output = run(subnet, 60, environment)
    assert code == 0, output
    environment["CONTAINER_SUBNET"] = output.strip()
    if run(["docker", "info", "--format", "{{.NCPU}}"], 30, environment)[1].strip() == "1":
        environment["CONTAINER_CPUS"] = "1"
    try:
        yield clone, environment
    finally:
        run(
            "docker compose down --volumes --timeout 10 --rmi all",
            COMMAND_WITHIN_S,
            environment,
            clone,
        )


def build_with_this_machines_certificates(environment: Mapping[str, str]) -> None:
    """Fill the build's cache, so that the page's command finds what it cannot fetch on some networks."""
    script = '. scripts/lib/container-engine.sh; engine_base_image=$CONTAINER_BASE; engine_build "$CONTAINER_IMAGE"'
    code, output = run(["bash", "-euc", script], COMMAND_WITHIN_S, environment)
    assert code == 0, output


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.timeout(ENGINE_WITHIN_S + 4 * COMMAND_WITHIN_S)
def test_the_container_commands_of_the_page_work(
    stack: tuple[Path, Mapping[str, str]],
) -> None:
    clone, environment = stack
    build_with_this_machines_certificates(environment)

    def shell(command: str) -> str:
        code, output = run(command, COMMAND_WITHIN_S, environment, clone)
        assert code == 0, f"{command}\n{output}"
        return output

    if not shutil.which("openssl"):
        pytest.fail("openssl is needed for the commands of the page")
    for command in INSTALLATION.commands("By hand, in a container"):
        shell(command)
    said = {
        command: shell(command) for command in INSTALLATION.commands("Every day, in a container")
    }
    (listing,) = [command for command in said if command.endswith("tools list")]
    assert "greet" in said[listing]
    (snippet,) = [output for command, output in said.items() if "mcp-json" in command]
    assert '"mcpServers"' in snippet

    folder = clone / ".waygate" / "container" / "config"
    (folder / "weather.py").write_text(README.block("python"), encoding="utf-8")
    (folder / "waygate.yaml").write_text(README.block("yaml"), encoding="utf-8")
    shell("docker compose restart waygate")
    shell("docker compose up --detach --wait")
    assert "weather__forecast" in shell(listing)

    (folder / "waygate.yaml").write_text(README.block("yaml").replace("Hi", "Ahoy"))
    (reload,) = re.findall(r"`(docker compose exec [^`]+ -HUP 1\")`", INSTALLATION.text)
    shell(reload)
    call = listing.replace(
        "tools list", "tools call greet"
    )  # served alone first: it keeps its name
    deadline = time.monotonic() + 15
    while "Ahoy, world!" not in (seen := shell(call)):
        assert time.monotonic() < deadline, seen + shell("docker compose logs --tail 20")
        time.sleep(0.5)

    (removal,) = [line for line in INSTALLATION.commands("Removal") if line.startswith("docker ")]
    shell(removal)
    assert shell("docker compose ps --all --quiet") == ""
    volumes = f"docker volume ls --quiet --filter name={environment['COMPOSE_PROJECT_NAME']}_"
    assert shell(volumes) == ""
    assert shell(f"docker images --quiet {environment['CONTAINER_IMAGE']}") == ""
