"""The life of plugins: construct → own config checked → lifespan entered → used → left.

Knows the three forms of `api.py` and how their faults are named. Refuses to know the servers of other
makers: an object nobody here recognises is offered to `mount`.

For the runtime, the whole of it is one line:

    providers = await stack.enter_async_context(
        open_plugins(
            document.enabled_plugins(),              # name → PluginSection
            live.hub.announce,                       # model.ports.Announce
            mount=partial(mounted.mount, connect=…), # optional
            sync_threads=document.limits.sync_threads,
        )
    )
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import FunctionType, ModuleType
from typing import Any

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from waygate_mcp.config.document import PluginSection
from waygate_mcp.config.problems import describe
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem, PluginError, WaygateError
from waygate_mcp.model.ports import Announce, Provider
from waygate_mcp.plugins.api import NoConfig, Services
from waygate_mcp.plugins.discovery import load_plugin
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.toolkit.provider import PLUGIN_FAULTS, ToolboxProvider
from waygate_mcp.toolkit.threads import SyncThreads
from waygate_mcp.toolkit.toolbox import Toolbox

__all__ = ["Mount", "open_plugins"]

Lifespan = AbstractAsyncContextManager[Any]
Mount = Callable[
    [str, object, Mapping[str, Any], Announce], AbstractAsyncContextManager[Provider] | None
]
"""Makes a provider of a foreign server object, None where it does not know it (`mounted.mount`)."""

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
) -> AsyncIterator[tuple[Provider, ...]]:
    """Open plugins in the order of the document and give their providers, in that order.

    `announce` hears of changes of what they offer. `sync_threads` is the number of threads that run
    functions written without `async`, for all of them together. On leaving they are closed in
    reverse; one that fails then is logged and hinders no other. If one cannot be opened, those
    before it are closed again.

    Raises:
        ConfigError: a `use` or `config` is wrong; its path begins with `plugins.NAME`.
        PluginError: a plugin's own code failed, or took more than a minute.
    """
    async with AsyncExitStack() as stack:
        threads = SyncThreads(sync_threads)
        stack.callback(threads.shutdown, cancel_futures=True)
        providers: list[Provider] = []
        for name, section in plugins.items():
            loaded = load_plugin(name, section.use)
            opened = _open(name, loaded, section.config, announce, mount, threads)
            providers.append(await stack.enter_async_context(opened))
        yield tuple(providers)


def _open(
    name: str,
    loaded: Any,
    config: Mapping[str, Any],
    announce: Announce,
    mount: Mount | None,
    threads: Executor,
) -> AbstractAsyncContextManager[Provider]:
    """Choose how an object is opened: ours, or a foreign server, or a function that makes either."""
    services = Services(name, get_logger(f"plugin.{name}"))
    if isinstance(loaded, ModuleType):
        made = _of_module(name, loaded, config, services)
    elif isinstance(loaded, Toolbox):
        made = _Made(loaded, _configure(name, NoConfig, config), None)
    elif not isinstance(loaded, type) and mount is not None:
        mounted = _mount(name, loaded, config, announce, mount)
        if mounted is not None:
            return mounted
        made = _of_factory(name, loaded, config, services)
    else:
        made = _of_factory(name, loaded, config, services)
    return _serve(name, made, announce, threads)


class _Made:
    """A plugin constructed and configured, and not entered yet."""

    __slots__ = ("box", "config", "lifespan")

    def __init__(self, box: Toolbox, config: Any, lifespan: Lifespan | None) -> None:
        self.box = box
        self.config = config
        self.lifespan = lifespan


def _of_module(
    name: str, module: ModuleType, config: Mapping[str, Any], services: Services
) -> _Made:
    box = getattr(module, "box", None)
    if not isinstance(box, Toolbox):
        raise ConfigError(
            f"{module.__name__} has no `box = Toolbox()`; name an object in it as "
            f"`{module.__name__}:object`",
            path=f"plugins.{name}.use",
        )
    model = getattr(module, "Config", NoConfig)
    checked = _configure(name, model, config)
    lifespan = getattr(module, "lifespan", None)
    entered = None if lifespan is None else _guarded(name, lifespan, (checked, services))
    return _Made(box, checked, _lifespan(name, entered))


def _of_factory(name: str, loaded: Any, config: Mapping[str, Any], services: Services) -> _Made:
    """Construct a class, or call a function; an object with a `box` is taken as it is."""
    if isinstance(getattr(loaded, "box", None), Toolbox) and not isinstance(loaded, type):
        made, checked = loaded, _configure(name, getattr(loaded, "Config", NoConfig), config)
    elif callable(loaded):
        checked = _configure(name, _config_model(loaded), config)
        made = _guarded(name, loaded, (checked, services))
    else:
        raise ConfigError(
            f"a {type(loaded).__name__} is no plugin: expected a module with a `box`, a Toolbox, a "
            "Plugin class, a function that makes one, or a server object",
            path=f"plugins.{name}.use",
        )
    if isinstance(made, Toolbox):
        return _Made(made, checked, None)
    box = getattr(made, "box", None)
    if not isinstance(box, Toolbox):
        raise PluginError(name, f"{type(made).__name__} has no `box` that is a Toolbox")
    lifespan = getattr(made, "lifespan", None)
    entered = None if lifespan is None else _guarded(name, lifespan, ())
    return _Made(box, checked, _lifespan(name, entered))


def _mount(
    name: str, loaded: Any, config: Mapping[str, Any], announce: Announce, mount: Mount
) -> AbstractAsyncContextManager[Provider] | None:
    try:
        return mount(name, loaded, config, announce)
    except ConfigError as exc:
        raise ConfigError(problems=[_below(name, one) for one in exc.problems]) from exc


def _below(name: str, problem: ConfigProblem) -> ConfigProblem:
    path = f"plugins.{name}.{problem.path}" if problem.path else f"plugins.{name}"
    return ConfigProblem(path, problem.message, suggestion=problem.suggestion)


def _config_model(loaded: Any) -> Any:
    """Give the model of a plugin's config: `Config`, or what a function's first parameter is."""
    model = getattr(loaded, "Config", None)
    if model is None and isinstance(loaded, FunctionType):
        try:
            hints = typing.get_type_hints(loaded)
        except NameError:
            hints = {}
        model = next((hints.get(one) for one in inspect.signature(loaded).parameters), None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else NoConfig


def _configure(name: str, model: Any, config: Mapping[str, Any]) -> BaseModel:
    """Check a plugin's config by its own model. Keys the model does not know are refused always."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise PluginError(name, "its Config is no Pydantic model")
    problems: list[ConfigProblem] = []
    if model.model_config.get("extra") in {None, "ignore"}:
        known = _known_keys(model)
        problems.extend(_unknown_key(name, key, known) for key in config if key not in known)
    try:
        checked = model.model_validate(dict(config))
    except ValidationError as exc:
        problems.extend(_problem(name, model, one) for one in exc.errors(include_url=False))
    except PLUGIN_FAULTS as exc:  # validators are the plugin's code
        raise PluginError(name, f"its Config raised {type(exc).__name__}: {exc}") from exc
    else:
        if not problems:
            return checked
    raise ConfigError(problems=problems)


def _known_keys(model: type[BaseModel]) -> dict[str, None]:
    """List the keys a model reads: its fields under every name they have in configurations."""
    known: dict[str, None] = {}
    for field_name, field in model.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias or field_name]
        known.update((name, None) for name in names if isinstance(name, str))
    return known


def _problem(name: str, model: type[BaseModel], error: ErrorDetails) -> ConfigProblem:
    where = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return _unknown_key(name, ".".join(where), _known_keys(model) if len(where) == 1 else {})
    message, suggestion = describe(error)
    return ConfigProblem(
        ".".join(["plugins", name, "config", *where]), message, suggestion=suggestion
    )


def _unknown_key(name: str, key: str, known: Mapping[str, None]) -> ConfigProblem:
    hint = nearest(key, known)
    listed = f"; known here: {', '.join(known)}" if known and not hint else ""
    return ConfigProblem(f"plugins.{name}.config.{key}", f"unknown key{listed}", suggestion=hint)


def _guarded(name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    """Call a plugin's code with as many of `given` as it takes."""
    try:
        wanted = [
            one
            for one in inspect.signature(function).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]
        return function(*given[: len(wanted)])
    except WaygateError:
        raise
    except PLUGIN_FAULTS as exc:
        raise PluginError(name, f"{type(exc).__name__}: {exc}") from exc


def _lifespan(name: str, entered: Any) -> Lifespan | None:
    """Insist that a lifespan is an async context manager; a bare async generator is made one."""
    if entered is None or isinstance(entered, AbstractAsyncContextManager):
        return entered
    if inspect.isasyncgen(entered):
        return asynccontextmanager(lambda: entered)()
    if inspect.iscoroutine(entered):
        entered.close()
    raise PluginError(name, "its lifespan is no async context manager: add @asynccontextmanager")


@asynccontextmanager
async def _serve(
    name: str, made: _Made, announce: Announce, threads: Executor
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
                error = PluginError(self._name, f"its lifespan failed: {type(exc).__name__}: {exc}")
                error.__cause__ = exc
                entered.set_exception(error)
                return
            _log.error("plugin_failed_while_leaving", plugin=self._name, exc_info=exc)
