"""What a run is made of: interpreters, key, the specs of the servers, the machine's description.

Refuses to put into a result anything that names a host, a user or a folder.
"""

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from servers import HERE, Spec

PROJECT = HERE.parent
OURS = ("waygate-mcp", "uvicorn", "uvloop", "httptools", "msgspec", "jsonschema-rs", "fastapi")
PEERS = ("mcp", "fastmcp", "uvicorn", "uvloop", "httptools", "starlette", "pydantic")
SHOW_VERSIONS = """
import json, sys, importlib.metadata as m
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: found[name] = "not installed"
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""


@dataclass(frozen=True)
class Interpreters:
    """Who runs what: `ours` the floor and Waygate, `peers` the SDK's and FastMCP's servers."""

    ours: Path
    peers: Path


def add_interpreter_options(parser: argparse.ArgumentParser) -> None:
    """The options every script of the bench shares."""
    parser.add_argument(
        "--python",
        type=Path,
        default=_first(PROJECT / ".venv/bin/python", Path(sys.executable)),
        help="interpreter with waygate-mcp installed (default: .venv of the project)",
    )
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=_first(
            HERE / ".venv/bin/python", PROJECT / ".venv/bin/python", Path(sys.executable)
        ),
        help="interpreter with mcp and fastmcp (default: bench/.venv, or the project's .venv)",
    )


def interpreters(options: argparse.Namespace) -> Interpreters:
    """The interpreters the options name. Their paths are kept unresolved: a venv's python is a link."""
    return Interpreters(options.python.absolute(), options.peers_python.absolute())


def _first(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[-1])


def floor(who: Interpreters, answer: Path | None = None) -> Spec:
    """The raw ASGI floor, sending the bytes of this file if one is given."""
    command = [str(who.ours), str(HERE / "floor.py"), "--port", "{port}"]
    if answer:
        command += ["--answer", str(answer)]
    return Spec("floor", tuple(command))


def peers(who: Interpreters) -> list[Spec]:
    """The SDK's server and FastMCP's."""
    start = (str(who.peers), "{script}", "--port", "{port}")
    scripts = {"sdk": "sdk_server.py", "fastmcp": "fastmcp_server.py"}
    return [
        Spec(name, tuple(part.replace("{script}", str(HERE / script)) for part in start))
        for name, script in scripts.items()
    ]


def waygate(
    who: Interpreters, document: str = "waygate.yaml", *, tool: str = "echo", tools: int = 1
) -> Spec:
    """Our gateway as `waygate serve` starts it: defaults, keys on, request log and metrics on.

    `tool` is the name `echo` has there, `tools` how many it lists once all are there.
    """
    key = bootstrap_key()
    command = (str(who.ours.parent / "waygate"), "serve", "-c", str(HERE / document))
    return Spec(
        "waygate",
        (*command, "--port", "{port}"),
        {"PYTHONPATH": str(HERE), "WAYGATE_API_KEY": key, "WAYGATE_RATE_LIMIT": "1000000000"},
        key=key,
        tool=tool,
        tools=tools,
    )


def open_waygate(who: Interpreters) -> Spec:
    """Our gateway for anybody: no key, no limits for want of one, no audit journal.

    It goes by the floor's name where it is what the usual one is compared with.
    """
    usual = waygate(who, "waygate-open.yaml")
    return replace(usual, name="floor", environment={"PYTHONPATH": str(HERE)}, key="")


def bootstrap_key() -> str:
    """A key for one run, never written anywhere."""
    return secrets.token_urlsafe(40)


def describe(who: Interpreters) -> dict[str, object]:
    """The machine and the versions, without a host name or a path."""
    return {
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "commit": _commit(),
        "ours": versions(who.ours, OURS),
        "peers": versions(who.peers, PEERS),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(python: Path, names: tuple[str, ...]) -> dict[str, object]:
    """The versions of an interpreter and of packages it has."""
    done = subprocess.run(
        [str(python), "-c", SHOW_VERSIONS, *names], capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
    return (git("rev-parse", "--short=12", "HEAD") or "none") + (" + changes" if changed else "")
