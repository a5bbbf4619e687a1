"""`waygate serve`: the server, all HTTP doors.

Knows what a person is told at the start: where it serves, who may call, what to mend. The key made
at a first start is printed here, once, and goes nowhere else.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.cli.output import note, say
from waygate_mcp.config.client_block import document_notes
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.web.server import Started, bind
from waygate_mcp.web.server import serve as run_server
from waygate_mcp.web.workers import serve_with_workers

_KEY_SOURCES = {
    "setting": "key from WAYGATE_API_KEY",
    "kept": "key kept from an earlier start",
    "made": "key made now, shown below",
}


def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(metavar="H", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(metavar="P", help="Port to listen on.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Server processes. Clients may reach any of them with any request; processes of stdio "
            "upstreams are shared. What a plugin keeps in memory is kept by each.",
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Reload when the document changes.")
    ] = False,
    env: Annotated[
        Literal["development", "production"] | None,
        typer.Option(help="Whether comfort or caution comes first."),
    ] = None,
) -> None:
    """Run the server until a signal ends it.

    SIGTERM and SIGINT end it gently, a second one at once. SIGHUP reloads the document; if it is not
    valid, the configuration in force stays.
    """
    settings = settings_from(config=config, host=host, port=port, workers=workers, env=env)
    listener = bind(settings)
    run = run_server if settings.workers == 1 else serve_with_workers
    run(settings, listener, watch=reload, on_started=announce)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def announce(started: Started) -> None:
    """Say where the server is and who may call."""
    document = started.document
    paths = [
        "/mcp" if name == DEFAULT_ENDPOINT else f"/servers/{name}/mcp"
        for name in document.endpoints
    ]
    auth: str = document.auth.mode
    if started.key is not None:
        auth = f"{auth} ({_KEY_SOURCES[started.key.source]})"
    address = f"[{started.host}]" if ":" in started.host else started.host
    say(
        f"waygate: http://{address}:{started.port} · MCP at {', '.join(paths)} · auth: {auth} · "
        f"document: {started.document_path or 'built in'}"
    )
    if started.key is not None and started.key.shown_once is not None:
        say(f"API key, shown once: {started.key.shown_once}")
    # Into a file or a pipe as well, and now: whoever started us waits for these lines.
    sys.stdout.flush()
    for text in document_notes(document):
        note(f"note: {text}")
    if document.auth.mode == "none":
        note("warning: auth.mode is none: every program on this machine may call every tool")
    if not is_loopback(started.host) and not (
        document.server.allowed_hosts or document.server.public_url
    ):
        note(
            "warning: only the Host names localhost, 127.0.0.1 and [::1] are answered; "
            "set WAYGATE_ALLOWED_HOSTS or server.public_url to the name clients use"
        )
