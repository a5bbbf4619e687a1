"""Plugins that are files: `use: ./weather.py`, beside the document and no part of an installation.

Knows where such a file lies, that nobody but its owner may write it, and how it is run: under a name
of its own for each generation, so that a reload runs what the file says now, and as part of a package
that stands for its folder, so that `from .helpers import …` finds the file's neighbours. `sys.path` stays
as it is, and no bytecode is read or written: two saves within a second are two versions. Refuses to
know what a plugin looks like (`lifecycle.py`).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import itertools
import re
import shlex
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NoReturn, Self

from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem, PluginError

__all__ = ["PluginFiles", "is_file_use", "mend_of_open_paths", "place_of", "worded"]

_FILE_USE = re.compile(r"(\.{1,2}/|/)[^:\x00-\x1f]*\.py(:[A-Za-z_][A-Za-z0-9_.]*)?")
"""`./file.py`, `../file.py` or `/file.py`, and `:attribute` after it."""

_PREFIX = "waygate_plugin_files_"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_serial = itertools.count(1)  # of the process: module names are


def is_file_use(use: str) -> bool:
    """Tell whether `use` names a file, not a module or an entry point."""
    return _FILE_USE.fullmatch(use) is not None


class PluginFiles:
    """The files run for one generation, from `with` to its end, when they are forgotten again.

    `folder` is the document's; paths are relative to it, and without one only absolute paths are known.
    `on_file` is told of each file before it is looked at, and so of those that are missing or broken
    too: what a change of may mend. It may be called in any thread.
    """

    def __init__(
        self, folder: Path | None = None, on_file: Callable[[Path], object] | None = None
    ) -> None:
        self._folder = folder
        self._on_file = on_file
        self._packages: dict[Path, str] = {}
        self._finder = _NeighbourFinder(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget all modules; functions that still run keep what they have."""
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        for package in self._packages.values():
            for name in [one for one in list(sys.modules) if f"{one}.".startswith(f"{package}.")]:
                del sys.modules[name]

    def load(self, name: str, file: str) -> ModuleType:
        """Run a file for the plugin called `name` in the document; a second time gives the same module.

        Raises:
            ConfigError: it is not there, or others than its owner may write it; the path is
                `plugins.NAME.use`.
            PluginError: its own code failed; the text has the file and the line.
        """
        place = self._place(name, file)
        refuse_open_paths(place, f"plugins.{name}.use")
        package = self._package_of(place.parent)
        module_name = f"{package}.{place.stem}"
        if module_name in sys.modules:
            return sys.modules[module_name]
        try:
            return _run(module_name, place)
        except _OpenNeighbourError as exc:
            raise ConfigError(str(exc), path=f"plugins.{name}.use") from exc
        except (Exception, SystemExit) as exc:  # the plugin boundary: importing runs its code
            raise PluginError(name, _why(exc, place)) from exc

    def packages(self) -> Iterator[str]:
        """Give the names of the packages that stand for folders."""
        yield from self._packages.values()

    def note(self, file: Path) -> None:
        """Tell whoever wants to know of a file."""
        if self._on_file is not None:
            self._on_file(file)

    def _place(self, name: str, file: str) -> Path:
        path = f"plugins.{name}.use"
        if self._folder is None and not file.startswith("/"):
            raise ConfigError(
                f"there is no document that {file} could lie beside: write the whole path",
                path=path,
            )
        written = Path(file) if self._folder is None else self._folder / file
        try:
            # Resolved but for its own last part: a link is noted, refused and watched as it stands.
            place = written.parent.resolve() / written.name
            self.note(place)
            self.note(place.resolve())
            if place.is_file():
                return place
            found = [one.name for one in sorted(place.parent.glob("*.py"))]
        except (OSError, RuntimeError) as exc:  # 3.11 and 3.12 call a circle of links RuntimeError
            raise ConfigError(f"cannot read {written}: {exc}", path=path) from exc
        near = nearest(place.name, found)
        hint = None if near is None else f"{file.removesuffix(written.name)}{near}"
        what = "no regular file" if place.exists() else "no such file"
        raise ConfigError(problems=[ConfigProblem(path, f"{what}: {place}", suggestion=hint)])

    def _package_of(self, folder: Path) -> str:
        """Give the package that stands for a folder, made when the first file of it is run."""
        known = self._packages.get(folder)
        if known is not None:
            return known
        name = f"{_PREFIX}{next(_serial)}"
        package = ModuleType(name, f"Stands for {folder} in one generation.")
        package.__path__ = [str(folder)]
        package.__spec__ = ModuleSpec(name, None, is_package=True)
        package.__spec__.submodule_search_locations = package.__path__
        sys.modules[name] = package
        self._packages[folder] = name
        if self._finder not in sys.meta_path:
            sys.meta_path.insert(0, self._finder)
        return name


class _OpenNeighbourError(ImportError):
    """A file beside the plugin may be written by others."""


class _FreshLoader(SourceFileLoader):
    """Runs a source file as it is now."""

    def path_stats(self, path: str) -> NoReturn:
        """Refuse: what has no time has no bytecode, which knows times by the second only."""
        raise OSError("bytecode is neither read nor written")


class _NeighbourFinder(importlib.abc.MetaPathFinder):
    """Finds `.helpers` beside a plugin's file, as Python finds the modules of any package.

    It answers for the packages of its own generation only.
    """

    def __init__(self, files: PluginFiles) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module, and refuse it where others may write it."""
        package = fullname.partition(".")[0]
        if package == fullname or package not in self._files.packages():
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not spec.has_location:
            return spec
        file = Path(spec.origin)
        self._files.note(file)
        if mend := mend_of_open_paths(file):
            raise _OpenNeighbourError(mend)
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = _FreshLoader(fullname, spec.origin)
        return spec


def refuse_open_paths(file: Path, path: str) -> None:
    """Insist that only its owner can write a file (threat model rule 30).

    Raises:
        ConfigError: group or others can; `path` is the key that named it, the text has the mend.
    """
    if mend := mend_of_open_paths(file):
        raise ConfigError(mend, path=path)


def mend_of_open_paths(file: Path) -> str | None:
    """Say how to mend that others than the owner may write a file or its folder; None if they may not.

    A link is looked at on both ends.
    """
    real = file.resolve()
    looked_at = dict.fromkeys((file.parent.resolve(), real.parent, real))
    found = [one for one in looked_at if one.exists() and one.stat().st_mode & _WRITABLE_BY_OTHERS]
    if not found:
        return None
    words = " ".join(shlex.quote(str(one)) for one in found)
    return (
        f"others than the owner may write {' and '.join(map(str, found))}; mend it with: "
        f"chmod go-w {words}"
    )


def place_of(error: BaseException) -> str:
    """Say where in a plugin's file an error came from, as `FILE, line N: `; empty for other code."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}: "
    lines = [
        f"{frame.f_code.co_filename}, line {line}: "
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__", "")).startswith(_PREFIX)
    ]
    return lines[-1] if lines else ""


def worded(error: BaseException) -> str:
    """Word what an author's code raised: where in its file, as far as that is known, and what."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{place_of(error)}{type(error).__name__}: {text}"


def _run(module_name: str, place: Path) -> ModuleType:
    importlib.invalidate_caches()  # a neighbour may be younger than the last look at the folder
    # Named outright: a folder or a compiled module of the same name would be found before it.
    spec = importlib.util.spec_from_file_location(
        module_name, place, loader=_FreshLoader(module_name, str(place))
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    return module


def _why(error: BaseException, place: Path) -> str:
    """Word what importing a file raised, and the mend where the mistake is a common one."""
    reason = worded(error) if place_of(error) else f"{place}: {worded(error)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        if (place.parent / f"{top}.py").exists() or (place.parent / top).is_dir():
            return f"{reason}; {top} lies beside the file: write `from .{top} import …`"
    return reason
