"""From `use:` to an object.

Knows modules, `module:attribute`, the entry points of the group `waygate.plugins`, and who runs files
(`files.py`). Refuses to know what a plugin looks like (`lifecycle.py`). Importing a plugin runs its
code: plugins are trusted.
"""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import msgspec

from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem, PluginError
from waygate_mcp.plugins.files import PluginFiles, is_file_use

__all__ = ["ENTRY_POINT_GROUP", "InstalledPlugin", "installed_plugins", "load_plugin"]

ENTRY_POINT_GROUP = "waygate.plugins"


class InstalledPlugin(msgspec.Struct, frozen=True):
    """An entry point: its name, what it points at, and the distribution it came with."""

    name: str
    target: str
    distribution: str


def installed_plugins() -> tuple[InstalledPlugin, ...]:
    """List the entry points of the group, by name; nothing is imported."""
    return tuple(
        InstalledPlugin(point.name, point.value, point.dist.name if point.dist else "")
        for point in sorted(_entry_points(), key=lambda one: one.name)
    )


def load_plugin(name: str, use: str, files: PluginFiles | None = None) -> Any:
    """Give the object `use` means for the plugin called `name` in the document.

    `./file.py` and `./file.py:attribute` are run by `files`, which forgets them again; without it
    the file's path must be whole, and it is known to the process's end. Of the others, without a `:` an entry
    point of that name is looked for first, then a module.

    Raises:
        ConfigError: there is no such file, module or attribute, or others may write the file; the
            path is `plugins.NAME.use`, and the message lists what is installed.
        PluginError: it is there, and importing it fails.
    """
    path = f"plugins.{name}.use"
    module_name, _, attribute = use.partition(":")
    if is_file_use(use):
        module = (files or PluginFiles()).load(name, module_name)
        return _attribute(module, module_name, attribute, path)
    if not attribute:
        for point in _entry_points():
            if point.name == use:
                module_name, _, attribute = point.value.partition(":")
                break
    module = _import(name, module_name.strip(), path)
    return _attribute(module, module_name, attribute.strip(), path)


def _import(name: str, module_name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        # Missing is the module itself or a package above it; anything else is missing to the plugin.
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise PluginError(name, f"{module_name} needs a module that is missing: {exc}") from exc
        known = [one.name for one in installed_plugins()]
        listed = f"installed plugins: {', '.join(known)}" if known else "no plugins are installed"
        problem = ConfigProblem(
            path, f"no module named {module_name}; {listed}", suggestion=nearest(module_name, known)
        )
        raise ConfigError(problems=[problem]) from exc
    except (Exception, SystemExit) as exc:  # the plugin boundary: importing runs its code
        reason = f"{type(exc).__name__}: {exc}"
        raise PluginError(name, f"{module_name} cannot be imported: {reason}") from exc


def _attribute(module: ModuleType, module_name: str, attribute: str, path: str) -> Any:
    found: Any = module
    for part in filter(None, attribute.split(".")):
        if not hasattr(found, part):
            raise _no_attribute(found, module_name, part, path)
        found = getattr(found, part)
    return found


def _no_attribute(found: Any, module_name: str, part: str, path: str) -> ConfigError:
    known = (
        [one for one in vars(found) if not one.startswith("_")]
        if hasattr(found, "__dict__")
        else []
    )
    problem = ConfigProblem(path, f"{module_name} has no {part!r}", suggestion=nearest(part, known))
    return ConfigError(problems=[problem])


@functools.lru_cache(maxsize=1)
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))
