"""Options that several commands share, and how they become settings.

Knows the words of the command line. What they mean is known in `config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from waygate_mcp.cli.output import note
from waygate_mcp.config.settings import Settings, read_settings, unknown_variables

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The document. Default: ./waygate.yaml, else ~/.waygate/waygate.yaml.",
    ),
]


def settings_from(**options: Any) -> Settings:
    """Read the settings, with `options` (None: not given) before the environment.

    Variables nobody reads are warned about on standard error.

    Raises:
        ConfigError: see `read_settings`.
    """
    for warning in unknown_variables():
        note(f"warning: {warning}")
    return read_settings(options)
