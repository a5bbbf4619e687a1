"""`quickstart.sh --docker`: the hardened stack of docker-compose.yml. Standard library only."""

from __future__ import annotations

import shutil

from quickstart_parts import ROOT, StartError


def run_in_containers() -> int:
    """Bring the stack of docker-compose.yml up."""
    if not (ROOT / "docker-compose.yml").is_file():
        raise StartError(
            "docker-compose.yml is missing from this clone; run ./quickstart.sh without --docker"
        )
    if not shutil.which("docker"):
        raise StartError(
            "Docker is not installed; install Docker Engine with the Compose plugin, "
            "or run ./quickstart.sh without --docker"
        )
    raise StartError("the container stack is not ready yet")
