"""What `waygate tools`, `resources` and `prompts` share: their options, how they run, how they end.

Knows exit codes: 0 done, 1 the tool said that it failed (or the gateway did), 2 wrong use, 3 no
gateway reached, 130 stopped by Ctrl-C, which cancels the call.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from waygate_mcp.cli.arguments import ArgumentsError, parse_json_object, parse_pairs, wants_stdin
from waygate_mcp.cli.gateway_client import Gateway, Where, ask_gateway, open_gateway
from waygate_mcp.cli.options import settings_from
from waygate_mcp.cli.output import ExitCode, note, print_json, print_table
from waygate_mcp.cli.terminal_caller import TerminalCaller
from waygate_mcp.config.document import DEFAULT_ENDPOINT
from waygate_mcp.model.call import Reply
from waygate_mcp.model.catalog import Entry, Kind
from waygate_mcp.protocol.log_levels import LOG_LEVELS
from waygate_mcp.upstreams.detect import CredentialsWantedError
from waygate_mcp.upstreams.slices import cut, join

__all__ = [
    "EndpointOption",
    "InProcessOption",
    "KeyFileOption",
    "LogLevelOption",
    "SaveOption",
    "TimeoutOption",
    "UrlOption",
    "arguments_from",
    "call_and_show",
    "decode",
    "find_entry",
    "first_line",
    "print_raw",
    "run_with",
    "show_list",
    "where_from",
]

INTERRUPTED = 130

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="The gateway. Default: the one of the settings."),
]
EndpointOption = Annotated[
    str, typer.Option("--endpoint", metavar="NAME", help="Which of its endpoints.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="A file with the API key. Default: WAYGATE_API_KEY or WAYGATE_API_KEY_FILE.",
    ),
]
InProcessOption = Annotated[
    bool, typer.Option("--in-process", help="Start the configured gateway in this process.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long a call may take.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="DIR", help="Keep pictures, sounds and files in this folder."),
]
LogLevelOption = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="LEVEL",
        help="Least severe log message to show: debug … emergency, or none.",
    ),
]


def where_from(
    config: Path | None,
    url: str | None,
    endpoint: str = DEFAULT_ENDPOINT,
    key_file: Path | None = None,
    in_process: bool = False,
    timeout_s: float = 300.0,
) -> Where:
    """Say which gateway the options mean."""
    if url is not None and in_process:
        raise typer.BadParameter("--url and --in-process exclude each other")
    settings = settings_from(config=config)
    return Where(settings, url, endpoint, key_file, in_process, timeout_s)


def run_with(where: Where, work: Callable[[Gateway], Awaitable[int]]) -> None:
    """Open the gateway, do `work`, end with the exit code it gives."""

    async def main() -> int:
        async with open_gateway(where) as gateway:
            return await work(gateway)

    try:
        code = asyncio.run(main())
    except KeyboardInterrupt:
        note("cancelled")
        raise typer.Exit(INTERRUPTED) from None
    except CredentialsWantedError:
        note(f"error: the gateway at {where.address} wants a valid key")
        note("  give it by --key-file FILE, or in WAYGATE_API_KEY or WAYGATE_API_KEY_FILE")
        raise typer.Exit(ExitCode.WRONG_USE) from None
    except ArgumentsError as exc:
        note(f"error: {exc}")
        raise typer.Exit(ExitCode.WRONG_USE) from None
    if code:
        raise typer.Exit(code)


def show_list(
    where: Where,
    kind: Kind,
    columns: Sequence[str],
    row: Callable[[dict[str, Any]], Sequence[object]],
    *,
    as_json: bool,
) -> None:
    """List the entries of a kind: a table, or their definitions as JSON."""

    async def work(gateway: Gateway) -> int:
        entries = await gateway.entries(kind)
        definitions = [decode(entry.definition) for entry in entries]
        if as_json:
            print_json(definitions)
        elif definitions:
            print_table(columns, [row(definition) for definition in definitions])
        else:
            note(f"no {kind.value}s")
        return ExitCode.DONE

    run_with(where, work)


async def call_and_show(
    gateway: Gateway,
    where: Where,
    method: str,
    params: dict[str, Any],
    log_level: str,
) -> Reply:
    """Do a call with the person at the terminal as its caller."""
    if log_level != "none" and log_level not in LOG_LEVELS:
        raise ArgumentsError(f"--log: {log_level!r} is none of {', '.join(LOG_LEVELS)}, none")
    level = None if log_level == "none" else log_level
    with TerminalCaller(interactive=sys.stdin.isatty(), log_level=level) as caller:
        return await ask_gateway(gateway, where, method, params, caller)


def arguments_from(words: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    """Read the arguments of a command line, from standard input where it says `-`."""
    if wants_stdin(words):
        return parse_json_object(sys.stdin.read())
    return parse_pairs(words, schema)


def print_raw(reply: Reply) -> None:
    """Print a result as the gateway gave it, in one line."""
    members = cut(reply.result)
    if reply.meta is not None:
        members["_meta"] = msgspec.Raw(reply.meta)
    sys.stdout.write(join(members).decode() + "\n")


def decode(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object."""
    value = json.loads(raw)
    return value if isinstance(value, dict) else {}


def first_line(definition: dict[str, Any], limit: int = 100) -> str:
    """Give what a definition says of itself, in one line."""
    text = str(definition.get("description") or definition.get("title") or "").strip()
    line = text.split("\n", 1)[0]
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def find_entry(entries: Sequence[Entry], name: str) -> Entry | None:
    """Find an entry by its name."""
    return next((entry for entry in entries if entry.name == name), None)
