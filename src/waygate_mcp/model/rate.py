"""How often something may be done: a count in a period, and how many of them at once.

Knows the words rates are written in. Refuses to know who is counted and where the counters are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Rate", "parse_rate"]

PERIODS_S = {"second": 1.0, "minute": 60.0, "day": 86_400.0}
MAX_COUNT = 1_000_000_000
_WORDS = re.compile(r"([0-9]{1,10})/(second|minute|day)(?: burst ([0-9]{1,10}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in `period_s` seconds in the long run, and `burst` of them in a row.

    A caller that was idle may do `burst` at once; from then on one more every `period_s / count`
    seconds.
    """

    count: int
    period_s: float
    burst: int

    @property
    def interval_s(self) -> float:
        """Seconds in which one more becomes free."""
        return self.period_s / self.count

    @property
    def window_s(self) -> float:
        """Seconds in which a spent burst is whole again."""
        return self.burst * self.interval_s


def parse_rate(text: str) -> Rate:
    """Read `COUNT/second`, `COUNT/minute` or `COUNT/day`, and `burst N` after it where it is said.

    Without it the burst is the count itself.

    Raises:
        ValueError: it is written otherwise, or a number is 0 or too large.
    """
    found = _WORDS.fullmatch(text)
    if found is None:
        raise ValueError(
            "a rate is COUNT/second, COUNT/minute or COUNT/day, then `burst N` if wanted"
        )
    count = int(found[1])
    burst = count if found[3] is None else int(found[3])
    if not 1 <= count <= MAX_COUNT or not 1 <= burst <= MAX_COUNT:
        raise ValueError(f"a rate's numbers are between 1 and {MAX_COUNT}")
    return Rate(count, PERIODS_S[found[2]], burst)
