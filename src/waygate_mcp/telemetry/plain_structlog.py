"""structlog without rich.

structlog loads rich for its development renderer wherever rich is installed, which takes a tenth of a
second of each start and six megabytes. Our lines are rendered by `sinks.py`, so for the time of this
import rich counts as not installed; afterwards it can be imported as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let imports of `module` fail meanwhile, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    # None in this table is the language's own way to say that there is no such module.
    sys.modules[module] = None  # type: ignore[assignment] # typed as modules only
    try:
        yield
    finally:
        del sys.modules[module]


with hidden("rich"):
    import structlog
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["FilteringBoundLogger", "Processor", "structlog"]
