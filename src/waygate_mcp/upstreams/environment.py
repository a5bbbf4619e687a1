"""What a child process is given: its program, and an environment of a few names.

Knows which variables let a stranger's code into a program. Refuses to start anything.
Spec: threat model rules 28, 29 and 33.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from waygate_mcp.errors import ConfigError

__all__ = ["MARKER", "child_environment", "resolve_program"]

MARKER = "WAYGATE_CHILD"
"""The variable by which a process is known to be a child of ours, whoever its parent is now."""

_GIVEN = ("PATH", "HOME", "LANG", "TMPDIR")
_DANGEROUS = frozenset({
    "BASH_ENV", "ENV", "GCONV_PATH", "GIO_EXTRA_MODULES", "IFS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS", "NODE_PATH", "PERL5LIB", "PERL5OPT", "PERLLIB", "PYTHONHOME", "PYTHONPATH",
    "PYTHONSTARTUP", "RUBYLIB", "RUBYOPT", "SHELLOPTS", "_JAVA_OPTIONS",
})  # fmt: skip
_DANGEROUS_BEGINNINGS = ("LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG")


def child_environment(
    wanted: Mapping[str, str],
    *,
    dangerous: Sequence[str] = (),
    ours: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give the whole environment of a child: a few names of ours, and what the configuration names.

    `dangerous` are names that may be among `wanted` although they change what code runs.

    Raises:
        ConfigError: a name that is none, or a dangerous one not named in `dangerous`.
    """
    own = os.environ if ours is None else ours
    given = {name: own[name] for name in _GIVEN if name in own}
    for name, value in wanted.items():
        path = f"env.{name}"
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError("is no name and value of an environment", path=path)
        if name == MARKER or (_is_dangerous(name) and name not in dangerous):
            raise ConfigError(
                "changes what code a program runs; name it in `allow_env` if it is meant",
                path=path,
            )
        given[name] = value
    return given


def _is_dangerous(name: str) -> bool:
    return name in _DANGEROUS or name.startswith(_DANGEROUS_BEGINNINGS)


def resolve_program(command: str, ours: Mapping[str, str] | None = None) -> str:
    """Give the absolute path of a program, found once on the gateway's own PATH.

    Raises:
        ConfigError: it is a relative path, is not found, or cannot be run.
    """
    own = os.environ if ours is None else ours
    if "/" in command and not Path(command).is_absolute():
        raise ConfigError("must be an absolute path or the name of a program", path="command")
    found = shutil.which(command, path=own.get("PATH"))
    if found is None:
        raise ConfigError("there is no such program", path="command")
    return str(Path(found).absolute())
