"""The walls round a child process: bubblewrap where it works, else limits and a session of its own.

Knows how to find out whether bubblewrap works here, by running it. Refuses to start the upstream.
Spec: decisions.md 18; threat model rule 29.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from waygate_mcp.errors import ConfigError

__all__ = ["SandboxChoice", "describe", "probe", "wrap"]

SandboxChoice = Literal["auto", "bubblewrap", "none"]
_PROBE_S = 5.0
_WALLS = (
    "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--cap-drop", "ALL",
    "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
)  # fmt: skip


@cache
def probe(program: str = "bwrap") -> str | None:
    """Give the path of a bubblewrap that works on this machine, None where there is none.

    Installed is not enough: kernels and containers forbid what it needs. Takes milliseconds, once.
    """
    found = shutil.which(program)
    true = shutil.which("true")
    if found is None or true is None:
        return None
    try:
        ran = subprocess.run(  # noqa: S603 - fixed words
            [found, *_WALLS, "--", true], timeout=_PROBE_S, capture_output=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if ran.returncode == 0 else None


def describe(choice: SandboxChoice, found: str | None) -> str:
    """Say for people what a child gets."""
    least = "own session, resource limits, no new privileges, minimal environment"
    if choice == "none" or found is None:
        return least
    return f"bubblewrap ({found}): own processes and devices, hidden folders; {least}"


def wrap(
    choice: SandboxChoice, found: str | None, command: Sequence[str], hidden: Sequence[Path]
) -> list[str]:
    """Give the command inside its walls. `hidden` folders are empty there.

    The child sees no process but its own, no device of the machine and none of the folders where
    the gateway keeps its secrets. Files are otherwise those of the user who runs the gateway, since
    an upstream's purpose may be any of them.

    Raises:
        ConfigError: bubblewrap is demanded and does not work here.
    """
    if choice == "none" or (choice == "auto" and found is None):
        return list(command)
    if found is None:
        raise ConfigError("bubblewrap does not work on this machine", path="sandbox")
    walls = list(_WALLS)
    for folder in hidden:
        if folder.is_dir():
            walls += ["--tmpfs", str(folder)]
    return [found, *walls, "--", *command]
