"""Where scripts/setup-peers.sh put the foreign programs, and one clear word when it was not run."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
PROGRAMS = ROOT / "tests" / "peers"

NODE = PEERS / "bin" / "node"
NPM = PEERS / "npm"
OLD_PYTHON = PEERS / "sdk1" / "bin" / "python"
CONFORMANCE = NPM / "node_modules" / "@modelcontextprotocol" / "conformance"


def require_peers() -> None:
    """Fail, never skip: a suite that was not run is not green.

    Raises:
        AssertionError: the foreign programs are not there.
    """
    assert (PEERS / "stamp").is_file(), "the test peers are missing: run scripts/setup-peers.sh"
