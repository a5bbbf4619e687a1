"""`quickstart.sh --docker`: the hardened stack of docker-compose.yml. Standard library only, nothing of ours installed.

Knows Docker's command line and where the stack expects its secrets; they are made once and never overwritten.

    folder (./.waygate/container)    config/: waygate.yaml and plugins, yours to write · secrets/: secret_key, api_key

A check runs as a project of its own in a temporary folder, with a network and volumes of its own, and removes them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from quickstart_parts import (
    HOST,
    ROOT,
    StartError,
    check_greeting,
    check_stranger,
    free_port,
    output_of,
    refuse_taken,
    say,
    shown,
    tell,
)

IMAGE = os.environ.get("CONTAINER_IMAGE") or "waygate-mcp:local"
PROJECT = "waygate"
CHECK_SUBNET = "172.29.0.0/24"
IMAGE_PYTHON = "/opt/waygate/bin/python"
# Secret of the Dockerfile → variables that may name its file, the first one set wins.
BUILD_SECRETS = {
    "ca": ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    "pip": ("PIP_CONFIG_FILE",),
}
AFTERWARDS = """
It runs in the background and comes back after a restart of this machine.
docker compose down stops it; docker compose logs -f shows what happens."""
BUILD_WITHIN_S = 1800.0
READY_WITHIN_S = 90


@dataclass(frozen=True)
class Stack:
    """One Compose project: its name, its port on this machine, and the folder that it mounts."""

    project: str
    port: int
    folder: Path

    @property
    def url(self) -> str:
        """The MCP address on this machine."""
        return f"http://{HOST}:{self.port}/mcp"

    @property
    def environment(self) -> Mapping[str, str]:
        """What docker-compose.yml takes from outside."""
        own = {
            "COMPOSE_PROJECT_NAME": self.project,
            "CONTAINER_DIR": str(self.folder),
            "CONTAINER_IMAGE": IMAGE,
            "WAYGATE_PORT": str(self.port),
        }
        return {
            **os.environ,
            **own,
            **({"CONTAINER_SUBNET": CHECK_SUBNET} if self.is_check else {}),
        }

    @property
    def is_check(self) -> bool:
        """Whether it is taken down again."""
        return self.project != PROJECT

    def compose(self, *arguments: str, within_s: float = 60.0) -> str:
        """Run `docker compose` and give what it printed."""
        return output_of(
            ["docker", "compose", *arguments], self.environment, ROOT, within_s=within_s
        )

    def waygate(self, *arguments: str) -> str:
        """Run the command inside the container, where the key lies."""
        return self.compose("exec", "-T", "waygate", "waygate", *arguments)


def run_in_containers(
    port: int | None, default_port: int, folder: Path | None, *, is_check: bool
) -> int:
    """Build, start, test and introduce the stack; a check takes it down again."""
    started = time.monotonic()
    require_docker()
    with stack_for(
        port or (free_port() if is_check else default_port), folder, is_check=is_check
    ) as stack:
        if is_check or not stack.compose("ps", "--quiet", "waygate").strip():
            refuse_taken(stack.port)
        say("building the image")
        build_image()
        is_new = make_secrets(stack.folder)
        say(f"starting the stack on http://{HOST}:{stack.port}")
        bring_up(stack, is_new)
        say("self-test")
        check_stranger(stack.url)
        check_greeting(stack.waygate("tools", "call", "greet", '{"name": "quickstart"}'))
        introduce(stack, is_new, time.monotonic() - started)
        tell("\nThe check is well; stopping." if is_check else AFTERWARDS)
    return 0


@contextlib.contextmanager
def stack_for(port: int, folder: Path | None, *, is_check: bool) -> Iterator[Stack]:
    """The stack that stays, or one whose containers, network, volumes and folder are gone at the end."""
    if not is_check:
        yield Stack(PROJECT, port, folder or ROOT / ".waygate" / "container")
        return
    with tempfile.TemporaryDirectory(prefix="waygate-check-") as temporary:
        stack = Stack(f"{PROJECT}-check-{os.getpid()}", port, folder or Path(temporary))
        try:
            yield stack
        finally:
            stack.compose("down", "--volumes", "--timeout", "10")


def require_docker() -> None:
    """Say which part of Docker is missing."""
    if not (ROOT / "docker-compose.yml").is_file():
        raise StartError(
            "docker-compose.yml is missing from this clone; run ./quickstart.sh without --docker"
        )
    if not shutil.which("docker"):
        raise StartError(
            "Docker is not installed; install Docker Engine with the Compose plugin, or run without --docker"
        )
    if not succeeds("docker", "compose", "version"):
        raise StartError(
            "Docker has no Compose plugin; install Compose 2 (Debian 13: docker-compose; "
            "in Docker's own packages docker-compose-plugin), or run without --docker"
        )
    if not succeeds("docker", "info"):
        raise StartError(
            "the Docker engine does not answer; start it, or let your user reach it, or run without --docker"
        )


def succeeds(*command: str) -> bool:
    """Whether a quick command ends well."""
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0


def build_image() -> None:
    """Build it as docker-compose.yml would, and with what this machine's pip needs to reach its package index."""
    command = ["docker", "build", "--progress", "plain", "--tag", IMAGE]
    if base := os.environ.get("CONTAINER_BASE"):
        command += ["--build-arg", f"BASE={base}"]
    for secret, names in BUILD_SECRETS.items():
        files = [os.environ[name] for name in names if os.environ.get(name)]
        command += [f"--secret=id={secret},src={file}" for file in files[:1]]
    output_of(
        [*command, "."], {**os.environ, "DOCKER_BUILDKIT": "1"}, ROOT, within_s=BUILD_WITHIN_S
    )


def make_secrets(container: Path) -> bool:
    """Make what is missing; whether the API key is new.

    The folder is closed to other users of this machine. The files in it are readable, because the engine shows each of
    them to the container's user 1000, whoever owns it here.
    """
    folder = container / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (container / "config").mkdir(mode=0o755, exist_ok=True)
    make_once(folder / "secret_key", lambda: secrets.token_urlsafe(48))
    return make_once(folder / "api_key", make_api_key)


def make_once(path: Path, make: Callable[[], str]) -> bool:
    """Write a secret where there is none."""
    if path.exists():
        return False
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(f"{make()}\n", encoding="ascii")
    draft.chmod(0o644)
    draft.rename(path)
    return True


def make_api_key() -> str:
    """A key of our form, made by the image itself."""
    script = "from waygate_mcp.auth.key_text import make_key; print(make_key())"
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        IMAGE_PYTHON,
        IMAGE,
        "-c",
        script,
    ]
    return output_of(command, os.environ, ROOT).strip()


def bring_up(stack: Stack, is_new: bool) -> None:
    """Start the stack and wait until Docker calls it healthy; its words where it is not."""
    # A container that runs keeps the secret it was started with.
    anew = ["--force-recreate"] if is_new else []
    wait = ["--wait", "--wait-timeout", str(READY_WITHIN_S)]
    try:
        stack.compose("up", "--no-build", "--detach", *anew, *wait, within_s=READY_WITHIN_S + 60)
    except StartError:
        tell(stack.compose("logs", "--no-color", "--tail", "12", "waygate").rstrip())
        raise


def introduce(stack: Stack, is_new: bool, took_s: float) -> None:
    """Where it is, how to get in, what to paste into which client."""
    key_file = stack.folder / "secrets" / "api_key"
    shows_key = ["--with-key"] if is_new else []
    for name, words in (
        ("mcp-json", "the shape most clients read"),
        ("vscode", "VS Code: .vscode/mcp.json"),
    ):
        tell(f"\n# {words}")
        tell(stack.waygate("connect", name, "--url", stack.url, *shows_key).rstrip())
    tell(f"\nWaygate is serving, {took_s:.0f} s after you asked.\n")
    tell(f"    URL      {stack.url}")
    tell(
        f"    Key      {key_file.read_text(encoding='ascii').strip() if is_new else '(not shown again)'}"
    )
    origin = "made now and shown this once" if is_new else "made by an earlier start"
    tell(
        f"             {origin}; kept in {shown(key_file)}; delete that file and start again for a new one"
    )
    tell(
        f"    Files    {shown(stack.folder)}/config is mounted for waygate.yaml and plugins; data and logs are volumes"
    )
    tell("    Tools    docker compose exec waygate waygate tools list")
