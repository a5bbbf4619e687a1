"""Tables on a terminal.

Knows rich, and is loaded only when a table is printed to a terminal: rich takes a tenth of a second
to import, which `waygate serve` has no use for.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_rich_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], *, width: int | None = None
) -> None:
    """Print a table as wide as the terminal (or `width` characters), long text folded, no markup."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in texts:
        table.add_row(*map(Text, row))
    Console(width=width).print(table)
