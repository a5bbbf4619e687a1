"""Run the whole matrix and write `docs/compatibility.md`: `python -m tests.matrix`.

With words (`python -m tests.matrix "2025-06-18 stdio"`) only matching groups run and nothing is written.
"""

from __future__ import annotations

import asyncio
import sys
import time

from tests.matrix.page import GROUPS, PAGE, page
from tests.matrix.running import run_group


async def main(wanted: str) -> int:
    """Run the groups whose name holds `wanted`; give how much does not work."""
    groups = []
    for upstream, back in GROUPS:
        if wanted in f"{upstream} {back}":
            began = time.monotonic()
            group = await run_group(upstream, back)
            groups.append(group)
            took = f"{time.monotonic() - began:.1f} s"
            sys.stdout.write(f"{upstream} {back}: {len(group.broken)} broken, {took}\n")
            sys.stdout.write("".join(text[:2000] + "\n" for text in group.broken))
            sys.stdout.flush()
    broken = sum(len(group.broken) for group in groups)
    if not wanted and not broken:
        PAGE.write_text(page(group.found for group in groups), encoding="utf-8")
    return broken


if __name__ == "__main__":
    sys.exit(min(asyncio.run(main(" ".join(sys.argv[1:]))), 1))
