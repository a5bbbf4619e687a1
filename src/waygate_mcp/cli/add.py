"""`waygate add`: an upstream put into the document, and tried.

Knows how an upstream is typed on a command line. Refuses to put a secret into the document unasked: one that
stands there literally is warned about, with the way to keep it elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from waygate_mcp.cli.document_desk import DocumentDesk
from waygate_mcp.cli.options import ConfigOption
from waygate_mcp.cli.output import ExitCode, JsonOption, note, print_json, say
from waygate_mcp.cli.probe import print_probe, probe_as_json, probe_upstreams
from waygate_mcp.config.client_block import client_names
from waygate_mcp.config.document import Document
from waygate_mcp.config.document_text import put_entry
from waygate_mcp.config.problems import translate
from waygate_mcp.config.upstream import UpstreamSection
from waygate_mcp.config.yaml_text import YamlText
from waygate_mcp.errors import ConfigError, ConfigProblem
from waygate_mcp.importers.secret_texts import free_name, is_secret, secret_name, stored_secrets

Words = list[str] | None
Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")]
Target = Annotated[
    list[str],
    typer.Argument(
        metavar="URL | -- COMMAND ARGS…",
        help="Where it is reached, or after `--` the program that is started.",
    ),
]
Header = Annotated[
    Words, typer.Option("--header", metavar="'NAME: VALUE'", help="A header of every request.")
]
Env = Annotated[
    Words, typer.Option("--env", metavar="NAME=VALUE", help="A variable of its environment.")
]
SecretHeader = Annotated[
    Words,
    typer.Option(
        "--secret-header",
        metavar="NAME",
        help="A header whose value is asked for and kept in the data folder.",
    ),
]
SecretEnv = Annotated[
    Words,
    typer.Option(
        "--secret-env",
        metavar="NAME",
        help="A variable whose value is asked for and kept in the data folder.",
    ),
]
Era = Annotated[
    str | None, typer.Option(metavar="auto|legacy|modern", help="The era it is spoken to in.")
]
Sessions = Annotated[
    str | None,
    typer.Option(
        metavar="auto|client|principal|shared|request",
        help="Who gets a session of its own at a legacy upstream.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="public|private", help="`private`: its name may lead to private addresses."
    ),
]
Http = Annotated[
    str | None, typer.Option(metavar="auto|streamable|sse", help="The HTTP transport.")
]
Cwd = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder it is started in.")]
Sandbox = Annotated[
    str | None, typer.Option(metavar="auto|bubblewrap|none", help="Walls round its process.")
]
Disabled = Annotated[bool, typer.Option("--disabled", help="Write it, serve it later.")]
Force = Annotated[bool, typer.Option("--force", help="Replace one of the same name.")]
NoTest = Annotated[bool, typer.Option("--no-test", help="Do not try it now.")]


def add(  # noqa: PLR0913, PLR0917 - one argument for each option of the command
    name: Name,
    target: Target,
    header: Header = None,
    env: Env = None,
    secret_header: SecretHeader = None,
    secret_env: SecretEnv = None,
    era: Era = None,
    sessions: Sessions = None,
    network: Network = None,
    http: Http = None,
    cwd: Cwd = None,
    sandbox: Sandbox = None,
    disabled: Disabled = False,
    force: Force = False,
    no_test: NoTest = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Add an MCP server to the document, and try it.

    The rest of the document stays as it is, comments included. Exit code 1: it was added, and does not
    answer. 2: the result would not be valid, and nothing was written.
    """
    desk = DocumentDesk(config)
    document = desk.document()
    _refuse_taken(document, name, force=force)
    values: dict[str, Any] = {
        **_transport(target),
        "headers": dict(_pair(text, ":", "--header") for text in header or ()),
        "env": dict(_pair(text, "=", "--env") for text in env or ()),
        "era": era, "sessions": sessions, "network": network, "http": http,
        "cwd": None if cwd is None else str(cwd if desk.folder == Path.cwd() else cwd.absolute()),
        "sandbox": sandbox, "enabled": False if disabled else None,
    }  # fmt: skip
    section = {key: value for key, value in values.items() if value not in (None, {}, [])}
    data_dir = desk.settings.data_dir
    secrets = _ask_for_secrets(
        name, {"headers": secret_header, "env": secret_env}, section, data_dir
    )
    _validate(name, section)
    was_new = desk.is_new
    with stored_secrets(data_dir, secrets):
        text = put_entry(desk.text, "upstreams", name, section, source=str(desk.path))
        desk.write(text, touched=(name,))
    if not json:
        say(f"{desk.path}: {'created with' if was_new else 'has'} the upstream {name}")
    _warn_of_secrets(name, section)
    is_tried = not (disabled or no_test)
    probes = (
        probe_upstreams({name: _model(section)}, desk.folder, desk.settings) if is_tried else []
    )
    if json:
        tests = [probe_as_json(probe) for probe in probes]
        print_json({"document": desk.path, "name": name, "test": tests[0] if tests else None})
    for probe in () if json else probes:
        print_probe(probe)
    if not all(probe.is_well for probe in probes):
        note(f"it stays in the document; take it out with: waygate remove {name}")
        raise typer.Exit(ExitCode.NOT_WELL)


def _refuse_taken(document: Document, name: str, *, force: bool) -> None:
    """Refuse a name that stands for something else already."""
    if name in document.plugins:
        raise typer.BadParameter(f"a plugin is called {name}")
    if name in client_names(document).values():
        raise typer.BadParameter(
            f"{name} stands below `mcpServers`; take it out first: waygate remove {name}"
        )
    if name in document.upstreams and not force:
        raise typer.BadParameter(f"an upstream is called {name} already; --force replaces it")


def _transport(target: Sequence[str]) -> dict[str, Any]:
    """Tell a URL from a program."""
    first, *rest = target
    if first.lower().startswith(("http://", "https://")):
        if rest:
            raise typer.BadParameter(f"one URL is enough; what is {rest[0]!r}?")
        return {"url": first}
    # The document knows programs by name or by absolute path.
    return {"command": str(Path(first).absolute()) if "/" in first else first, "args": rest}


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise typer.BadParameter(f"{option} is written NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def _ask_for_secrets(
    name: str, wanted: Mapping[str, Words], section: dict[str, Any], data_dir: Path
) -> dict[str, str]:
    """Ask for secrets, unseen on a terminal and else a line each, and refer to them in the section."""
    secrets: dict[str, str] = {}
    for block, keys in wanted.items():
        for key in keys or ():
            text = _ask(f"{key} of {name}")
            before = ""
            if block == "headers" and key.lower() == "authorization":
                scheme, _, rest = text.partition(" ")
                before, text = (f"{scheme} ", rest.strip()) if rest else ("Bearer ", text)
            kept = free_name(secret_name(name, key), text, secrets, data_dir)
            secrets[kept] = text
            section.setdefault(block, {})[key] = f"{before}${{secret:{kept}}}"
    return secrets


def _ask(what: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, err=True)).strip()
    text = sys.stdin.readline().strip()
    if not text:
        raise typer.BadParameter(f"no line on standard input for {what}")
    return text


def _model(section: dict[str, Any]) -> UpstreamSection:
    return UpstreamSection.model_validate(section)


def _validate(name: str, section: dict[str, Any]) -> None:
    """Say what is wrong in the words of the section, before anything is stored."""
    try:
        _model(section)
    except ValidationError as exc:
        found = translate(exc, UpstreamSection, YamlText(None))
        problems = [
            ConfigProblem(
                ".".join(part for part in ("upstreams", name, one.path) if part),
                one.message,
                suggestion=one.suggestion,
            )
            for one in found
        ]
        raise ConfigError(problems=problems) from None


def _warn_of_secrets(name: str, section: dict[str, Any]) -> None:
    for block, option in (("headers", "--secret-header"), ("env", "--secret-env")):
        for key, text in section.get(block, {}).items():
            if is_secret(key, text):
                note(
                    f"warning: {block}.{key} looks like a secret and stands in the document as it is; "
                    f"`{option} {key}` keeps it in the data folder instead, or write "
                    f"${{env:VARIABLE}} or ${{secret:{secret_name(name, key)}}}"
                )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(add)
