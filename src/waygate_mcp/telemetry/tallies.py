"""Counting, cheaply: a dict look-up and two additions for each observation.

Knows cells and buckets; refuses to know any metric's name and any text format. All of it is written
by the event loop's thread and read by others: reading sees each number whole, and a scrape may see
one observation in the count that is not yet in the sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets in seconds; one more without a bound follows."""

MAX_CELLS = 2000
"""How many combinations of labels one metric may have; further ones count as `other`."""

OTHER = "other"

Labels = tuple[str | int, ...]
Cell = list[float]
"""One number for each bucket, the one without bound, and last the sum in seconds."""

_CELL_SIZE = len(BUCKETS_S) + 2


class Histogram:
    """Durations by labels; `cells` is what has been seen."""

    __slots__ = ("_admit", "_labels", "_max_cells", "cells")

    def __init__(
        self,
        labels: int,
        *,
        admit: Callable[[Labels], Labels] | None = None,
        max_cells: int = MAX_CELLS,
    ) -> None:
        self.cells: dict[Labels, Cell] = {}
        self._labels = labels
        self._admit = admit
        self._max_cells = max_cells

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one duration."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cell(labels)
        cell[bisect_left(BUCKETS_S, seconds)] += 1
        cell[-1] += seconds

    def cell(self, labels: Labels) -> Cell:
        """Give the cell of `labels`, made if there is room, else the one of all others.

        `admit` is asked first: it replaces labels that are not from a bounded set.
        """
        if self._admit is not None:
            labels = self._admit(labels)
        if labels not in self.cells and len(self.cells) >= self._max_cells:
            labels = (OTHER,) * self._labels
        return self.cells.setdefault(labels, [0] * _CELL_SIZE)


class Counter:
    """Numbers that only grow, by one label."""

    __slots__ = ("_max_cells", "cells")

    def __init__(self, *, max_cells: int = MAX_CELLS) -> None:
        self.cells: dict[str, float] = {}
        self._max_cells = max_cells

    def add(self, label: str, amount: float = 1) -> None:
        """Count `amount` more under `label`."""
        cells = self.cells
        if label not in cells and len(cells) >= self._max_cells:
            label = OTHER
        cells[label] = cells.get(label, 0) + amount


class Gauge:
    """A number that goes up and down: set by hand, or asked for at each scrape."""

    __slots__ = ("_number", "_source")

    def __init__(self) -> None:
        self._number: float = 0
        self._source: Callable[[], float] | None = None

    def set(self, number: float) -> None:
        """Make it `number`."""
        self._number = number

    def inc(self, amount: float = 1) -> None:
        """Make it greater."""
        self._number += amount

    def dec(self, amount: float = 1) -> None:
        """Make it less."""
        self._number -= amount

    def follow(self, source: Callable[[], float]) -> None:
        """Ask `source` from now on; it must be quick, must not raise and may run in a thread."""
        self._source = source

    @property
    def number(self) -> float:
        """The number now."""
        return self._number if self._source is None else self._source()
