"""Coverage-guided fuzzing of one pure target with atheris, by hand: `scripts/fuzz.sh --atheris`.

atheris is optional and not locked: `uv pip install atheris` where it has a build for the Python at hand.
It watches the branches of the protocol, so the package is imported under its eyes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed; it is optional: uv pip install atheris")

with atheris.instrument_imports(include=["waygate_mcp.protocol", "waygate_mcp.errors"]):
    from tests.fuzz.engine import CRASHES, starts
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run libFuzzer until the time is over or something breaks."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz.sh --atheris", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--target", choices=[*TARGETS], default="post")
    arguments = parser.parse_args()
    CRASHES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(starts(arguments.target)):
            (Path(folder) / f"start-{number}").write_bytes(data)
        options = [f"-max_total_time={arguments.seconds}", "-timeout=5", "-max_len=65536"]
        kept = f"-artifact_prefix={CRASHES}/{arguments.target}-"
        atheris.Setup([sys.argv[0], folder, *options, kept], TARGETS[arguments.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
