"""What every way of starting needs: words, ports, programs, HTTP. Standard library only.

Knows how a failure is said in one line (`StartError`). Refuses to know what is started.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAYGATE = ROOT / ".venv" / "bin" / "waygate"
HOST = "127.0.0.1"
COMMAND_WITHIN_S = 60.0
LAST_LINES = 25  # of a program that failed


class StartError(Exception):
    """A step failed; the text is the one line a person reads, the mend included."""


@dataclass(frozen=True)
class Plan:
    """What to start, and where. `folder` holds what the gateway keeps; commands run in `place`, where `.env` lies."""

    folder: Path
    place: Path
    port: int
    is_check: bool

    @property
    def document(self) -> Path:
        """The document that is served."""
        return self.folder / "waygate.yaml"

    @property
    def key_file(self) -> Path:
        """Where a key made here lies, mode 600."""
        return self.folder / "api.key"

    @property
    def log_file(self) -> Path:
        """What the server says on standard output and error."""
        return self.folder / "logs" / "console.log"

    @property
    def url(self) -> str:
        """The address of the server, without a path."""
        return f"http://{HOST}:{self.port}"


def say(text: str) -> None:
    """A step begins."""
    bold, plain = (
        ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    )
    print(f"{bold}==>{plain} {text}", flush=True)


def tell(text: str = "") -> None:
    """A line below a step."""
    print(text, flush=True)


def port_number(text: str) -> int:
    """A TCP port from its text."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; take a number from 1 to 65535")


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def refuse_taken(port: int) -> None:
    """Say so before anything is started where another program has the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except PermissionError:
            raise StartError(
                f"port {port} needs privileges; take one from 1024 up: ./quickstart.sh --port 8000"
            ) from None
        except OSError:
            raise StartError(
                f"port {port} is in use; stop what uses it, or: ./quickstart.sh --port {free_port()}"
            ) from None


def status_of(url: str, body: bytes | None = None) -> int:
    """The HTTP status of an answer; 0 if there was none. Proxies of the environment are not asked."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - always our own http URL
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


def check_stranger(url: str) -> None:
    """Somebody without a key is refused."""
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    status = status_of(url, json.dumps(listing).encode())
    if status != 401:
        raise StartError(
            f"a call without a key was answered {status or 'not at all'} instead of 401; "
            "auth.mode in waygate.yaml must be keys"
        )
    tell("    ok  a call without a key is refused (401)")


def check_greeting(answer: str) -> None:
    """The tool greet has answered with the name it was given."""
    if "quickstart" not in answer:
        raise StartError(
            f"the tool greet answered {answer.strip()!r}, not a greeting; is the plugin hello still in waygate.yaml?"
        )
    tell(f"    ok  the tool greet answers: {' '.join(answer.split())}")


def output_of(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    within_s: float = COMMAND_WITHIN_S,
) -> str:
    """Run a program to its end and give its standard output; its words are shown where it fails."""
    words = " ".join(["waygate" if part == str(WAYGATE) else part for part in command[:3]])
    try:
        result = subprocess.run(
            list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=within_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StartError(f"`{words}` did not end within {within_s:.0f} s") from None
    if result.returncode:
        tell("\n".join((result.stderr or result.stdout).rstrip().splitlines()[-LAST_LINES:]))
        raise StartError(f"`{words}` failed with code {result.returncode}; its words are above")
    return result.stdout


def shown(path: Path) -> str:
    """A path as short as it can be said from the clone."""
    return f"./{path.relative_to(ROOT)}" if path.is_relative_to(ROOT) else str(path)
