"""`waygate stdio`: the same gateway on standard input and output, for clients that start a process.

Knows how the process lives: standard output belongs to the protocol, the end of the input or a signal
ends it. Refuses to ask for a key: who started the process owns it (2026-07-28 basic, "Auth").
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated, Any

import typer

from waygate_mcp.cli.options import ConfigOption, settings_from
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.config.settings import Settings
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import ConfigError
from waygate_mcp.runtime.house import House
from waygate_mcp.stdio import claim_standard_output, serve_stdio
from waygate_mcp.telemetry.logs import Logs, open_logs

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stdio(
    config: ConfigOption = None,
    endpoint: Annotated[
        str, typer.Option(metavar="NAME", help="The endpoint to serve.")
    ] = DEFAULT_ENDPOINT,
) -> None:
    """Run the gateway on standard input and output.

    Nothing but messages is ever written to standard output; the log goes to standard error. The end
    of the input, SIGTERM and SIGINT end it, SIGHUP reloads the document.
    """
    settings = settings_from(config=config)
    with claim_standard_output() as output_fd, open_logs(settings) as logs:
        run(_serve(settings, logs, endpoint, output_fd))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(stdio)


def run(main: Any) -> None:
    """Run a coroutine on the fastest loop there is."""
    if sys.platform == "win32":
        asyncio.run(main)
    else:
        import uvloop

        uvloop.run(main)


async def _serve(settings: Settings, logs: Logs, endpoint: str, output_fd: int) -> None:
    """Open the house and serve the one client until its end."""
    async with House(settings, logs, lambda _document, _authenticator, _on_failure: None) as house:
        names = house.current().document.endpoints
        if endpoint not in names:
            hint = nearest(endpoint, names)
            text = f"there is no endpoint {endpoint!r}" + (
                f"; did you mean {hint!r}?" if hint else ""
            )
            raise ConfigError(text, path="endpoints")

        serving = house.supervisor.start(
            serve_stdio(
                house.current, endpoint, house.supervisor, output_fd, settings.max_request_size
            ),
            name="standard input",
        )
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, serving.cancel)
        loop.add_signal_handler(signal.SIGHUP, house.request_reload, "SIGHUP")
        await asyncio.wait((serving,))
        house.live.drain()
