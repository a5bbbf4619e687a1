"""The first steps of a child process, taken before the upstream's program takes its place.

Run by path as a program of its own, with the standard library alone: it sets limits, gives up the
chance of new privileges, asks to die with the gateway, and becomes the program. Doing this here and
not between fork and exec of the gateway keeps the gateway's threads out of it.

    python -I -S launch.py PARENT_PID LIMITS PROGRAM ARGUMENT…

LIMITS is `name=number` joined by commas, names as in `resource` without `RLIMIT_`. What the system
does not have is left out; `waygate doctor` says what it has.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_EX_UNAVAILABLE = 69
_EX_NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    """Become the program; gives an exit status only where that fails."""
    parent, limits, *command = arguments
    _bind_to(int(parent))
    for pair in filter(None, limits.split(",")):
        name, _, number = pair.partition("=")
        _limit(name, int(number))
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as exc:
        sys.stderr.write(f"cannot start: {exc.strerror}\n")
    return _EX_NOT_FOUND


def _bind_to(parent: int) -> None:
    """Die with the gateway, and gain no privileges, where the system knows how."""
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(_EX_UNAVAILABLE)


def _limit(name: str, number: int) -> None:
    """Lower one limit, both soft and hard; never raise one."""
    kind = getattr(resource, f"RLIMIT_{name}", None)
    if kind is None:
        return
    hard = resource.getrlimit(kind)[1]
    lowered = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(kind, (lowered, lowered))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
