"""An event loop whose clock jumps: a wait of ten minutes takes no time, and a wait for nothing fails at once.

    @virtual_time
    async def test_a_question_expires_after_ten_minutes() -> None: ...

Knows asyncio's selector loop. Nothing here sleeps: when no task can run, the clock is set to the next timer.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec

P = ParamSpec("P")

_PATIENCE_S = 5.0  # of real time, for a thread that works for a test


class NothingWillHappenError(AssertionError):
    """Every task waits and no timer is set: the test would hang for ever."""


class _JumpingSelector(selectors.BaseSelector):
    """Sees what is ready now; where nothing is, the clock jumps instead of a wait."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.now_s = 1_000.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            ready = self._inner.select(_PATIENCE_S)
            if not ready:
                raise NothingWillHappenError("everybody waits, and no timer is set")
            return ready
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop with a clock of its own, which starts at 1,000 s."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_virtual(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(coroutine)


def virtual_time(
    test: Callable[P, Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Make a test of a coroutine, run in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run


def now() -> float:
    """The running loop's clock, in seconds."""
    return asyncio.get_running_loop().time()


async def settle(rounds: int = 20) -> None:
    """Let every task that can run do so; no time passes."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def pass_time(seconds: float) -> None:
    """Let virtual time pass, and everything due in it happen."""
    await asyncio.sleep(seconds)
    await settle()
