"""`waygate import`: the servers of a desktop client or an editor, taken over into the document.

Knows where clients keep their files and how a plan is shown. Refuses to lose anything silently: what is not taken over
is said, the document is kept beside itself first, and secrets go to the secret store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from waygate_mcp.cli.clients import CLIENTS, Place
from waygate_mcp.cli.connect import place_of
from waygate_mcp.cli.document_desk import DocumentDesk
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import JsonOption, note, print_json, print_table, say
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError
from waygate_mcp.importers.found_servers import Reading, read_servers
from waygate_mcp.importers.plan import Scene, Step, edited, plan_import
from waygate_mcp.importers.secret_texts import stored_secrets
from waygate_mcp.telemetry.redaction import clip

EVERY_CLIENT = "all"
_MORE_PLACES: dict[str, tuple[str, ...]] = {
    "claude-code": ("$HOME/.claude.json",),
    "cursor": ("$HERE/.cursor/mcp.json",),
    "vscode": ("$CONFIG/Code/User/mcp.json",),
    "continue": ("$HOME/.continue/config.yaml",),
    "gemini-cli": ("$HERE/.gemini/settings.json",),
}
"""Files a client reads beside the one `waygate connect` writes."""

_COLUMNS = ("server", "becomes", "does", "transport", "what", "notes")


def _clients(incomplete: str) -> list[str]:
    return [word for word in (*CLIENTS, EVERY_CLIENT) if word.startswith(incomplete)]


def import_servers(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE…",
            help="Files with `mcpServers` or VS Code's `servers`, or a document of another Waygate.",
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CLIENT",
            help="Find the client's own files; `all` looks for every client's.",
            autocompletion=_clients,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would happen, and change nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of upstreams of the same name.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take over the MCP servers of a desktop client or an editor.

    Everything that is not taken over is named. Literal secrets are moved into the data folder. Upstreams of the
    same name stay unless --replace says otherwise. The old document is kept beside the new one.
    """
    readings = _read(files or [], client)
    desk = DocumentDesk(config)
    scene = Scene(
        desk.document(),
        desk.settings.data_dir,
        desk.folder,
        examine=desk.faults,
        replace=replace,
        own_ports=frozenset({desk.settings.port}),
    )
    steps = plan_import(readings, scene)
    text = edited(desk.text, steps, source=str(desk.path))
    backup, is_written = None, False
    if not plan and any(step.is_written for step in steps):
        secrets = {
            name: one for step in steps if step.is_written for name, one in step.secrets.items()
        }
        with stored_secrets(desk.settings.data_dir, secrets):
            written = [step.name for step in steps if step.is_written]
            backup = desk.write(text, touched=written, keeps_old=True)
        is_written = True
    if json:
        print_json(_as_json(desk, steps, readings, backup, is_written=is_written))
        return
    _show(steps, readings)
    _conclude(desk, steps, backup, is_plan=plan)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_servers)


def _read(files: list[Path], client: str | None) -> list[Reading]:
    """Read the files that are named, and those of a client."""
    if not files and client is None:
        raise typer.BadParameter(
            "give a FILE, or --from CLIENT (`--from all` looks for every client's)"
        )
    readings = []
    for file in files:
        try:
            readings.append(read_servers(file))
        except ConfigError as exc:
            problems = "; ".join(map(str, exc.problems))
            raise typer.BadParameter(f"{file}: {problems}") from None
    if client is None:
        return readings
    found = [file for file in _files_of(client) if file.is_file()]
    if not found:
        looked = ", ".join(dict.fromkeys(str(file) for file in _files_of(client)))
        raise typer.BadParameter(f"no file of {client} is there; looked for {looked}")
    for file in dict.fromkeys(found):
        try:
            readings.append(read_servers(file))
        except ConfigError as exc:
            note(f"warning: {file}: {'; '.join(map(str, exc.problems))}")
    return readings


def _files_of(client: str) -> Iterator[Path]:
    """Give the files in which a client may keep its servers."""
    word = client.lower()
    if word != EVERY_CLIENT and word not in CLIENTS:
        hint = nearest(word, (*CLIENTS, EVERY_CLIENT))
        known = f"did you mean {hint!r}?" if hint else f"known: {', '.join(CLIENTS)}"
        raise typer.BadParameter(f"no client is called {client!r}; {known}")
    for name in CLIENTS if word == EVERY_CLIENT else (word,):
        place = CLIENTS[name].place
        if place is not None:
            yield (file := place_of(place))
            if name == "continue":  # a file for each server
                yield from sorted(file.parent.glob("*.y*ml"))
        for path in _MORE_PLACES.get(name, ()):
            yield place_of(Place.everywhere(path))


def _show(steps: list[Step], readings: list[Reading]) -> None:
    """Print what becomes of each server, then all that was not taken as it is."""
    if steps:
        print_table(_COLUMNS, [_row(step) for step in steps])
    else:
        say("no servers")
    several = len(readings) > 1
    for step in steps:
        for one in step.notes:
            say(f"  {f'{step.file}: ' if several else ''}{one.path}: {one.message}")
    for reading in readings:
        for one in reading.left:
            place = ": ".join(part for part in (str(reading.file), one.path) if part)
            say(f"  {place}: not taken over: {one.message}")


def _row(step: Step) -> tuple[object, ...]:
    section = step.section
    words = [section.get("url") or section.get("command") or "", *section.get("args", ())]
    transport = "http" if "url" in section else "stdio" if "command" in section else None
    does: str = step.action
    if step.is_written and section.get("enabled") is False:
        does += " (off)"
    what = clip(" ".join(map(str, words)), 60)
    return step.theirs, step.name, does, transport, what or None, len(step.notes) or None


def _conclude(desk: DocumentDesk, steps: list[Step], backup: Path | None, *, is_plan: bool) -> None:
    written = [step.name for step in steps if step.is_written]
    if is_plan:
        say(
            f"plan: {len(written)} of {len(steps)} would be written to {desk.path}; nothing was changed"
        )
        return
    if not written:
        say(f"{desk.path}: nothing to write")
        return
    say(f"{desk.path}: {len(written)} of {len(steps)} servers written")
    if backup is not None:
        say(f"{backup}: what was there before")
    say(f"next: waygate upstreams test {' '.join(written)}")


def _as_json(
    desk: DocumentDesk,
    steps: list[Step],
    readings: list[Reading],
    backup: Path | None,
    *,
    is_written: bool,
) -> dict[str, Any]:
    return {
        "document": desk.path,
        "written": is_written,
        "backup": backup,
        "servers": [
            {
                "name": step.name,
                "theirs": step.theirs,
                "file": step.file,
                "path": step.path,
                "action": step.action,
                "section": step.section,
                "secrets": list(step.secrets),
                "notes": [{"path": one.path, "message": one.message} for one in step.notes],
            }
            for step in steps
        ],
        "left": [
            {"file": reading.file, "path": one.path, "message": one.message}
            for reading in readings
            for one in reading.left
        ],
    }
