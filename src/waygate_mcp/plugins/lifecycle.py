"""The life of plugins: construct → own config checked → lifespan entered → used → left.

Knows the order, and that one which fails hinders no other from closing. Refuses to know what a plugin
looks like (`construction.py`) and the servers of other makers: what may be one is offered to `mount`.

For the runtime, the whole of it is one line:

    providers = await stack.enter_async_context(
        open_plugins(
            document.enabled_plugins(),              # name → PluginSection
            live.hub.announce,                       # model.ports.Announce
            mount=partial(mounted.mount, connect=…), # optional
            sync_threads=document.limits.sync_threads,
            folder=document_path.parent,             # what `use: ./weather.py` is relative to
        )
    )
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from waygate_mcp.config.document import PluginSection
from waygate_mcp.errors import PluginError
from waygate_mcp.model.ports import Announce, Provider
from waygate_mcp.plugins.construction import (
    ConstructedPlugin,
    Lifespan,
    Mount,
    construct_plugin,
    offer_to_mount,
)
from waygate_mcp.plugins.discovery import load_plugin
from waygate_mcp.plugins.files import PluginFiles, worded
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.toolkit.provider import PLUGIN_FAULTS, ToolboxProvider
from waygate_mcp.toolkit.threads import SyncThreads

__all__ = ["Mount", "open_plugins"]

ENTER_S = 60.0
LEAVE_S = 10.0

_log = get_logger("plugins.lifecycle")


@asynccontextmanager
async def open_plugins(
    plugins: Mapping[str, PluginSection],
    announce: Announce,
    *,
    mount: Mount | None = None,
    sync_threads: int = 16,
    folder: Path | None = None,
    on_file: Callable[[Path], object] | None = None,
) -> AsyncIterator[tuple[Provider, ...]]:
    """Open plugins in the order of the document and give their providers, in that order.

    `announce` hears of changes of what they offer. `sync_threads` is the number of threads that run
    functions written without `async`, for all of them together. `folder` is the document's: files
    named by `use` are relative to it, and run anew each time plugins are opened. `on_file` is told
    of each such file and of what it imports from beside it (see `PluginFiles`). On leaving they are
    closed in reverse; one that fails then is logged and hinders no other. If one cannot be opened,
    those before it are closed again.

    Raises:
        ConfigError: a `use` or `config` is wrong; its path begins with `plugins.NAME`.
        PluginError: a plugin's own code failed, or took more than a minute.
    """
    async with AsyncExitStack() as stack:
        threads = SyncThreads(sync_threads)
        stack.callback(threads.shutdown, cancel_futures=True)
        files = stack.enter_context(PluginFiles(folder, on_file))
        providers: list[Provider] = []
        for name, section in plugins.items():
            loaded = load_plugin(name, section.use, files)
            opened = _open(name, section, loaded, announce, mount, threads)
            providers.append(await stack.enter_async_context(opened))
        yield tuple(providers)


def _open(
    name: str,
    section: PluginSection,
    loaded: Any,
    announce: Announce,
    mount: Mount | None,
    threads: Executor,
) -> AbstractAsyncContextManager[Provider]:
    """Choose how an object is opened: as a foreign server, or as a plugin of ours."""
    mounted = None if mount is None else offer_to_mount(name, section, loaded, announce, mount)
    if mounted is not None:
        return mounted
    made = construct_plugin(name, section, loaded)
    return _serve(name, made, announce, threads)


@asynccontextmanager
async def _serve(
    name: str, made: ConstructedPlugin, announce: Announce, threads: Executor
) -> AsyncIterator[Provider]:
    async with AsyncExitStack() as stack:
        value = None
        if made.lifespan is not None:
            value = await stack.enter_async_context(_Life(name, made.lifespan))
        provider = ToolboxProvider(
            name, made.box, announce, config=made.config, lifespan=value, threads=threads
        )
        stack.enter_context(provider.attached())
        yield provider


class _Life:
    """Runs a lifespan in one task from entering to leaving.

    A generation is opened by one task and closed by another, and what plugins open (task groups,
    cancel scopes) must be left by the task that entered it.
    """

    def __init__(self, name: str, lifespan: Lifespan) -> None:
        self._name = name
        self._lifespan = lifespan
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Any:
        """Enter the lifespan and give what it yields."""
        loop = asyncio.get_running_loop()
        entered: asyncio.Future[Any] = loop.create_future()
        # Not the Supervisor's: the task is awaited by `__aexit__`, and its failure is told there.
        self._task = loop.create_task(self._run(entered), name=f"plugin {self._name}")
        try:
            return await asyncio.wait_for(entered, ENTER_S)
        except TimeoutError as exc:
            await self._end()
            raise PluginError(self._name, f"its lifespan took more than {ENTER_S:g} s") from exc
        except BaseException:
            await self._end()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave the lifespan; what fails is logged."""
        self._leave.set()
        assert self._task is not None
        _, late = await asyncio.wait([self._task], timeout=LEAVE_S)
        if late:
            _log.error("plugin_did_not_leave", plugin=self._name, waited_s=LEAVE_S)
            await self._end()

    async def _end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task], timeout=LEAVE_S)

    async def _run(self, entered: asyncio.Future[Any]) -> None:
        try:
            async with self._lifespan as value:
                if not entered.done():
                    entered.set_result(value)
                await self._leave.wait()
        except PLUGIN_FAULTS as exc:
            if not entered.done():
                error = PluginError(self._name, f"its lifespan failed: {worded(exc)}")
                error.__cause__ = exc
                entered.set_exception(error)
                return
            _log.error("plugin_failed_while_leaving", plugin=self._name, exc_info=exc)
