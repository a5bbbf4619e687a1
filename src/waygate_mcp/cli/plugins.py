"""`waygate plugins`: list what is installed and what the document names, write a new one, check them.

Knows how reports are shown. Looking at a plugin runs its module and nothing else of it, so only what the
document names or the command line asks for is looked at (threat model, section 2: trusted is what the
administrator enabled).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.cli.output import (
    ExitCode,
    JsonOption,
    note,
    print_error,
    print_json,
    print_table,
    problems_as_json,
    say,
)
from waygate_mcp.config.document import Document, PluginSection
from waygate_mcp.config.load import FILE_NAME, find_document, load_document
from waygate_mcp.config.references import KnownSecrets, names_in, resolve_references
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError, ConfigProblem, WaygateError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.plugins.discovery import installed_plugins
from waygate_mcp.plugins.files import PluginFiles, is_file_use, mend_of_open_paths
from waygate_mcp.plugins.inspection import PluginReport, inspect_plugin
from waygate_mcp.plugins.scaffold import write_plugin
from waygate_mcp.runtime.secrets import fetch_for_command

_FILE = re.compile(r"(?P<file>.*\.py)(?P<attribute>:[A-Za-z_][A-Za-z0-9_.]*)?")
_COLUMNS = ("name", "use", "from", "enabled", "tools", "resources", "prompts", "problem")


class _Desk:
    """The document in force, and what its plugins turn out to be."""

    def __init__(self, config: Path | None) -> None:
        self.settings: Settings = settings_from(config=config)
        path = find_document(self.settings)
        self.document: Document = load_document(path, self.settings)
        self.folder = None if path is None else path.parent

    def look_at(self, name: str, section: PluginSection) -> PluginReport | WaygateError:
        """Construct a plugin and drop it; what it prints meanwhile is no part of our answer."""
        try:
            config = resolve_references(
                section.config,
                data_dir=self.settings.data_dir,
                path=f"plugins.{name}.config",
                known=self._secrets(name, section),
            )
            resolved = section.model_copy(update={"config": config})
            with PluginFiles(self.folder) as files, contextlib.redirect_stdout(sys.stderr):
                return inspect_plugin(name, resolved, files)
        except WaygateError as exc:
            return exc

    def _secrets(self, name: str, section: PluginSection) -> KnownSecrets:
        """Fetch what the plugin refers to and is not near."""
        wanted = [secret for secret, _ in names_in(section.config, name)]
        return asyncio.run(fetch_for_command(self.settings, wanted, self.document.secrets))

    def named(self, wanted: str) -> tuple[str, PluginSection]:
        """Give the plugin that a NAME or FILE of the command line means.

        Raises:
            ConfigError: there is none.
        """
        if wanted in self.document.plugins:
            return wanted, self.document.plugins[wanted]
        file = _FILE.fullmatch(wanted)
        if file is not None:
            return self._of_file(Path(file["file"]), file["attribute"] or "")
        if "." in wanted or ":" in wanted:
            return _as_name(wanted.partition(":")[0].rpartition(".")[2]), _section(wanted)
        known = [one.name for one in installed_plugins()]
        if wanted in known:
            return _as_name(wanted), _section(wanted)
        names = [*self.document.plugins, *known]
        listed = f"; known here: {', '.join(dict.fromkeys(names))}" if names else ""
        problem = ConfigProblem(
            "plugins", f"no plugin is named `{wanted}`{listed}", suggestion=nearest(wanted, names)
        )
        raise ConfigError(problems=[problem])

    def _of_file(self, file: Path, attribute: str) -> tuple[str, PluginSection]:
        """Give the plugin of the document that is this file, or one made of the file alone."""
        place = Path(os.path.abspath(file))  # noqa: PTH100 - links stay: the loader looks at both ends
        for name, section in self.document.plugins.items():
            used, _, of_it = section.use.partition(":")
            if self.folder is None or not is_file_use(section.use):
                continue
            if (self.folder / used).resolve() == place.resolve() and attribute in ("", f":{of_it}"):
                return name, section
        return _as_name(file.stem), _section(f"{place}{attribute}")


def list_plugins(
    config: ConfigOption = None,
    load: Annotated[
        bool,
        typer.Option("--load", help="Run installed plugins too that the document does not enable."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the plugins of the document and those that are installed.

    What is counted was constructed, not started. Of installed plugins that the document does not
    enable nothing is run, and nothing known, without --load.
    """
    desk = _Desk(config)
    plugins = desk.document.plugins.items()
    rows = [
        _row(name, section, "document", desk.look_at(name, section) if section.enabled else None)
        for name, section in plugins
    ]
    used = {section.use for _, section in plugins if section.enabled}
    for one in installed_plugins():
        section = _section(one.name)
        is_trusted = load or bool(used & {one.name, one.target})
        found = desk.look_at(_as_name(one.name), section) if is_trusted else None
        origin = f"installed: {one.distribution}" if one.distribution else "installed"
        is_used = bool(used & {one.name, one.target})
        rows.append(_row(one.name, section, origin, found, is_enabled=is_used))
    print_table(_COLUMNS, rows, as_json=json)


def check(
    plugin: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A plugin of the document, an installed one, a module, or a file ending in .py. "
            "Without one: all the document enables.",
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Construct plugins, validate their configuration, and list their entries with what is wrong.

    Nothing is started. Exit code 0: all is well. 1: a plugin's own code fails, or a schema has a
    problem. 2: the document or a plugin's configuration is wrong.
    """
    desk = _Desk(config)
    wanted = (
        list(desk.document.enabled_plugins().items()) if plugin is None else [desk.named(plugin)]
    )
    results = [(name, section.use, desk.look_at(name, section)) for name, section in wanted]
    if json:
        print_json([_as_json(name, use, result) for name, use, result in results])
    else:
        for name, use, result in results:
            _show(name, use, result)
        if not results:
            say("no plugin is enabled")
    code = max((_code_of(result) for _, _, result in results), default=ExitCode.DONE)
    if code != ExitCode.DONE:
        raise typer.Exit(code)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the document.")],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="D", help="Folder for the two files; the current one."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a small working plugin and its test. Nothing that is there is overwritten.

    Printed is the line that serves it; put it below `plugins:` in the document.
    """
    settings = settings_from(config=config)
    document = find_document(settings) or Path(FILE_NAME)
    try:
        made = write_plugin(name, folder or Path(), document_folder=document.parent)
    except ConfigError as exc:
        note(f"error: {exc}")  # it is not the document that is wrong
        raise typer.Exit(ExitCode.WRONG_USE) from None
    say(f"written: {made.plugin}")
    say(f"written: {made.test}")
    say(f"put this below `plugins:` in {document}:")
    say(f"  {made.line}")
    say(f"check it: waygate plugins check {made.plugin}")
    say(f"test it: python -m pytest {made.test}")
    if mend := mend_of_open_paths(made.plugin):
        note(f"warning: it will not be loaded: {mend}")


def plugins() -> None:
    """List, write and check plugins."""


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(plugins)
    group.command("list")(list_plugins)
    group.command()(new)
    group.command()(check)
    app.add_typer(group, name="plugins")


def _section(use: str) -> PluginSection:
    # The words of a command line may be a longer path than the document allows.
    return PluginSection.model_construct(use=use, config={}, enabled=True)


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_") or "plugin"


def _row(
    name: str,
    section: PluginSection,
    origin: str,
    found: PluginReport | WaygateError | None,
    *,
    is_enabled: bool | None = None,
) -> tuple[object, ...]:
    enabled = section.enabled if is_enabled is None else is_enabled
    if not isinstance(found, PluginReport):
        problem = None if found is None else str(found)
        return name, section.use, origin, enabled, None, None, None, problem
    problems = [f"{entry.name}: {problem}" for entry in found.entries for problem in entry.problems]
    return (
        name,
        section.use,
        origin,
        enabled,
        found.count(Kind.TOOL),
        found.count(Kind.RESOURCE, Kind.TEMPLATE),
        found.count(Kind.PROMPT),
        "; ".join(problems) or None,
    )


def _show(name: str, use: str, result: PluginReport | WaygateError) -> None:
    if isinstance(result, WaygateError):
        say(f"{name} ({use}): not well")
        print_error(result)
        return
    for entry in result.entries:
        say(f"{name}: {entry.kind} {entry.name}")
        for problem in entry.problems:
            say(f"    problem: {problem}")
        for hint in entry.hints:
            say(f"    hint: {hint}")
    if result.is_mounted:
        say(f"{name} ({use}): another maker's server; what it offers is known once it runs")
    else:
        say(f"{name} ({use}): {'well' if result.is_well else 'not well'}")


def _as_json(name: str, use: str, result: PluginReport | WaygateError) -> Mapping[str, Any]:
    about: dict[str, Any] = {"name": name, "use": use}
    if isinstance(result, ConfigError):
        return {**about, "well": False, "problems": problems_as_json(result), "entries": None}
    if isinstance(result, WaygateError):
        problems = [{"path": f"plugins.{name}", "message": str(result)}]
        return {**about, "well": False, "problems": problems, "entries": None}
    entries = None if result.is_mounted else msgspec.to_builtins(result.entries)
    return {**about, "well": result.is_well, "problems": [], "entries": entries}


def _code_of(result: PluginReport | WaygateError) -> ExitCode:
    if isinstance(result, ConfigError):
        return ExitCode.WRONG_USE
    if isinstance(result, WaygateError) or not result.is_well:
        return ExitCode.NOT_WELL
    return ExitCode.DONE
