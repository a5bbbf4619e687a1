"""The owner of every task that no request owns. Fulfils `model.ports.Supervisor`.

Knows each task by its name, sees how it ends, and ends what still runs when the process does. This
is one of the three places that catch what they do not know: a failure gets an id, is logged, and
hurts nobody else. Refuses to start anything once closed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from waygate_mcp.errors import LimitError
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["TaskSupervisor"]

MAX_TASKS = 100_000
CLOSE_S = 5.0
_MAX_DEPTH = 32

_log = get_logger("runtime.tasks")


class TaskSupervisor:
    """Runs named tasks; as an async context manager it ends them all when left.

    At most `max_tasks` run at once. On leaving, tasks are cancelled and awaited for `close_s`
    seconds; those that will not end are named in the log.
    """

    def __init__(self, *, max_tasks: int = MAX_TASKS, close_s: float = CLOSE_S) -> None:
        self._max_tasks = max_tasks
        self._close_s = close_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        """The number of tasks that run."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `coroutine` as a task named `name`; its failure is logged with an id.

        Raises:
            LimitError: too many tasks run, or the supervisor is closed; `coroutine` never starts.
        """
        if self._is_closed or len(self._tasks) >= self._max_tasks:
            coroutine.close()
            reason = "the server stops" if self._is_closed else "too many tasks"
            raise LimitError(f"{name} was not started: {reason}", limit="tasks")
        task = asyncio.get_running_loop().create_task(_watched(coroutine, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task cancelled before its first step never awaits its coroutine; close it instead.
        task.add_done_callback(lambda _: coroutine.close())
        return task

    async def close(self) -> None:
        """Cancel what runs and wait for its end; nothing starts from now on."""
        self._is_closed = True
        pending = set(self._tasks)
        for task in pending:
            task.cancel("the server stops")
        if not pending:
            return
        _, stubborn = await asyncio.wait(pending, timeout=self._close_s)
        for task in stubborn:
            _log.error(
                "task_did_not_end", task=task.get_name(), waited_s=self._close_s, at=_place(task)
            )


def _place(task: asyncio.Task[None]) -> str:
    """Say where a task waits: the functions it is in, the innermost last."""
    names: list[str] = []
    step: Any = task.get_coro()
    while step is not None and len(names) < _MAX_DEPTH:
        name = getattr(
            step, "__qualname__", None
        )  # generators have one, what they wait for need not
        if name is not None:
            frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
            names.append(name if frame is None else f"{name}:{frame.f_lineno}")
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
    return " > ".join(names)


async def _watched(coroutine: Coroutine[Any, Any, None], name: str) -> None:
    """Run to the end and see the failure: nobody else may ever await the task."""
    try:
        await coroutine
    except Exception as exc:  # noqa: BLE001 - the supervisor is where unknown failures end
        _log.error("task_failed", task=name, failure_id=secrets.token_hex(6), exc_info=exc)
