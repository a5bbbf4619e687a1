"""How commands speak: results, tables, JSON, errors and exit codes.

Knows the difference between a terminal and a pipe. Refuses to print outside text as it is: control
characters are escaped, so that no server can steer the terminal of who asks.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Annotated, Any

import typer

from waygate_mcp.errors import ConfigError, UpstreamUnavailableError, WaygateError
from waygate_mcp.telemetry.redaction import escape_line

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]


class ExitCode(IntEnum):
    """What a command's end means."""

    DONE = 0
    NOT_WELL = 1
    WRONG_USE = 2
    UNREACHABLE = 3


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{_clean(text)}\n")


def note(text: str) -> None:
    """Print a line that is not part of the result, to standard error."""
    sys.stderr.write(f"{_clean(text)}\n")


def print_json(value: Any) -> None:
    """Print `value` as JSON, indented; what JSON lacks is printed as text."""
    sys.stdout.write(f"{json.dumps(value, indent=2, ensure_ascii=False, default=str)}\n")


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, as_json: bool = False
) -> None:
    """Print rows under `columns`: a table on a terminal, aligned text in a pipe, objects as JSON."""
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    texts = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        table = importlib.import_module("waygate_mcp.cli.terminal_table")
        table.print_rich_table(columns, texts)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in (columns, *texts):
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        say("  ".join(padded).rstrip())


def print_error(error: WaygateError) -> None:
    """Print what went wrong to standard error, each problem of a configuration on its own line."""
    if isinstance(error, ConfigError):
        note(f"error: the configuration is not valid{f' ({error.source})' if error.source else ''}")
        for problem in error.problems:
            note(f"  {problem}")
        return
    note(f"error: {error}")


def exit_code_of(error: WaygateError) -> ExitCode:
    """Give the exit code that says what kind of error it was."""
    if isinstance(error, ConfigError):
        return ExitCode.WRONG_USE
    if isinstance(error, UpstreamUnavailableError):
        return ExitCode.UNREACHABLE
    return ExitCode.NOT_WELL


def problems_as_json(error: ConfigError) -> list[Mapping[str, object]]:
    """Give the problems of a configuration as plain mappings."""
    return [
        {
            "path": problem.path,
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
            "suggestion": problem.suggestion,
        }
        for problem in error.problems
    ]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return escape_line(str(value))


def _clean(text: str) -> str:
    return "\n".join(escape_line(line) for line in text.split("\n"))
