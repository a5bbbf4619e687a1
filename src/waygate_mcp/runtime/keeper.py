"""One task for the life of one generation.

What a plugin enters must be left by the task that entered it (task groups and cancel scopes insist
on it), while reloads and the end of the server come from other tasks. So each generation has a task
of its own, which opens it, waits to be told, and closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from waygate_mcp.errors import InterruptedCallError, WaygateError
from waygate_mcp.model.ports import Supervisor
from waygate_mcp.runtime.generation import Generation
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["CLOSE_S", "Keeper"]

Guard = TypeVar("Guard")

CLOSE_S = 10.0
"""Seconds a generation may take to close before it is cancelled."""

_log = get_logger("runtime.keeper")


class Keeper(Generic[Guard]):
    """Keeps one generation, from `open` to `close`."""

    def __init__(
        self,
        supervisor: Supervisor,
        number: int,
        open_generation: Callable[[], Awaitable[Generation[Guard]]],
    ) -> None:
        self.number = number
        self._supervisor = supervisor
        self._open_generation = open_generation
        self._closing = asyncio.Event()
        self._opened: asyncio.Future[Generation[Guard]] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def generation(self) -> Generation[Guard]:
        """The generation that is kept; only after `open`."""
        assert self._opened is not None
        return self._opened.result()

    async def open(self) -> Generation[Guard]:
        """Open the generation.

        Raises:
            WaygateError: it cannot be opened; nothing of it is left open.
        """
        self._opened = asyncio.get_running_loop().create_future()
        self._task = self._supervisor.start(
            self._keep(self._opened), name=f"generation-{self.number}"
        )
        try:
            return await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Close it, and cancel what does not close within `timeout_s` seconds."""
        self._closing.set()
        if self._task is None:
            return
        _, stubborn = await asyncio.wait((self._task,), timeout=timeout_s)
        if stubborn:
            _log.error("generation_did_not_close", generation=self.number, waited_s=timeout_s)
            self._task.cancel("the generation took too long to close")

    async def _keep(self, opened: asyncio.Future[Generation[Guard]]) -> None:
        try:
            generation = await self._open_generation()
        except WaygateError as exc:
            _fail(opened, exc)
            return
        except BaseException:
            # Cancelled, or a fault the supervisor logs: whoever waits must not wait on.
            _fail(opened, InterruptedCallError("the generation was not opened"))
            raise
        opened.set_result(generation)
        try:
            await self._closing.wait()
        finally:
            await generation.aclose()


def _fail(opened: asyncio.Future[Generation[Guard]], error: WaygateError) -> None:
    opened.set_exception(error)
    opened.exception()  # seen, even if nobody waits any more
