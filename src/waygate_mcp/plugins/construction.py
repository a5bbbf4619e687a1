"""From an object to a plugin: which of the three forms of `api.py` it has, and whether its config is right.

Knows the forms, an author's own `Config`, and how their faults are named. Refuses to enter anything: what
is constructed here has opened nothing, so it can be looked at and dropped (`waygate plugins check`).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from waygate_mcp.plugins.files import is_file_use, worded
from waygate_mcp.telemetry.logs import get_logger
from waygate_mcp.toolkit.provider import PLUGIN_FAULTS
from waygate_mcp.toolkit.toolbox import Toolbox

__all__ = ["ConstructedPlugin", "Lifespan", "Mount", "construct_plugin", "offer_to_mount"]

Lifespan = AbstractAsyncContextManager[Any]
Mount = Callable[
    [str, object, Mapping[str, Any], Announce], AbstractAsyncContextManager[Provider] | None
]
"""Makes a provider of a foreign server object, None where it does not know it (`mounted.mount`)."""


class ConstructedPlugin:
    """A plugin constructed and configured, and not entered yet.

    `lifespan` is not begun; None where the plugin has none.
    """

    __slots__ = ("box", "config", "lifespan")

    def __init__(self, box: Toolbox, config: Any, lifespan: Lifespan | None) -> None:
        self.box = box
        self.config = config
        self.lifespan = lifespan


def offer_to_mount(
    name: str, section: PluginSection, loaded: Any, announce: Announce, mount: Mount
) -> AbstractAsyncContextManager[Provider] | None:
    """Let `mount` have an object that may be another maker's server; None where it is none.

    Modules, boxes and classes are ours and not offered.

    Raises:
        ConfigError: its `config` is wrong; the path begins with `plugins.NAME`.
        PluginError: the object gives no application.
    """
    if isinstance(loaded, ModuleType | Toolbox | type):
        return None
    try:
        return mount(name, loaded, section.config, announce)
    except ConfigError as exc:
        raise ConfigError(problems=[_below(name, one) for one in exc.problems]) from exc


def _below(name: str, problem: ConfigProblem) -> ConfigProblem:
    path = f"plugins.{name}.{problem.path}" if problem.path else f"plugins.{name}"
    return ConfigProblem(path, problem.message, suggestion=problem.suggestion)


def construct_plugin(name: str, section: PluginSection, loaded: Any) -> ConstructedPlugin:
    """Construct the plugin called `name` of what its `use` means, and check its configuration.

    Raises:
        ConfigError: it is no plugin, or its `config` is wrong; the path begins with `plugins.NAME`.
        PluginError: its own code failed.
    """
    services = Services(name, get_logger(f"plugin.{name}"))
    if isinstance(loaded, ModuleType):
        return _of_module(name, section, loaded, services)
    if isinstance(loaded, Toolbox):
        return ConstructedPlugin(loaded, _configure(name, NoConfig, section.config), None)
    return _of_factory(name, loaded, section.config, services)


def _of_module(
    name: str, section: PluginSection, module: ModuleType, services: Services
) -> ConstructedPlugin:
    box = getattr(module, "box", None)
    if not isinstance(box, Toolbox):
        named = section.use if is_file_use(section.use) else module.__name__
        raise ConfigError(
            f"{named} has no `box = Toolbox()`; name an object in it as `{named}:object`",
            path=f"plugins.{name}.use",
        )
    model = getattr(module, "Config", NoConfig)
    checked = _configure(name, model, section.config)
    lifespan = getattr(module, "lifespan", None)
    entered = None if lifespan is None else _guarded(name, lifespan, (checked, services))
    return ConstructedPlugin(box, checked, _lifespan(name, entered))


def _of_factory(
    name: str, loaded: Any, config: Mapping[str, Any], services: Services
) -> ConstructedPlugin:
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
        return ConstructedPlugin(made, checked, None)
    box = getattr(made, "box", None)
    if not isinstance(box, Toolbox):
        raise PluginError(name, f"{type(made).__name__} has no `box` that is a Toolbox")
    lifespan = getattr(made, "lifespan", None)
    entered = None if lifespan is None else _guarded(name, lifespan, ())
    return ConstructedPlugin(box, checked, _lifespan(name, entered))


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
        raise PluginError(name, f"its Config raised {worded(exc)}") from exc
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
        raise PluginError(name, worded(exc)) from exc


def _lifespan(name: str, entered: Any) -> Lifespan | None:
    """Insist that a lifespan is an async context manager; a bare async generator is made one."""
    if entered is None or isinstance(entered, AbstractAsyncContextManager):
        return entered
    if inspect.isasyncgen(entered):
        return asynccontextmanager(lambda: entered)()
    if inspect.iscoroutine(entered):
        entered.close()
    raise PluginError(name, "its lifespan is no async context manager: add @asynccontextmanager")
