"""The key of a first start, and the `.env` by which commands find it again. Standard library only.

Knows three origins: a setting of the person who starts, a file of an earlier start, or made now. Never overwrites a
`.env` that somebody else wrote, and puts no secret into its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quickstart_parts import ROOT, Plan, StartError, output_of, shown

VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
KEY_SETTINGS = ("WAYGATE_API_KEY", "WAYGATE_API_KEY_FILE")
HEADER = "# Written by quickstart.sh at each start; remove this line to keep what you change."


@dataclass(frozen=True)
class Key:
    """The bootstrap key; `origin` is a sentence, `file` where it lies if it is ours, `is_new` if this run made it."""

    text: str
    origin: str
    file: Path | None = None
    is_new: bool = False


def find_key(plan: Plan, environment: dict[str, str]) -> Key:
    """The key of the environment or `.env`, of an earlier start, or a new one; the server is told where it lies."""
    for name, value in given_keys(plan, environment).items():
        text = read_key(plan.place / Path(value).expanduser()) if name.endswith("_FILE") else value
        return Key(text, f"yours, from {name}")
    file, where = plan.key_file, shown(plan.key_file)
    environment["WAYGATE_API_KEY_FILE"] = str(file)
    if file.exists():
        again = f"made by an earlier start, kept in {where}; for a new one delete that file and start again"
        return Key(read_key(file), again, file)
    script = "from waygate_mcp.auth.key_text import make_key; print(make_key())"
    text = output_of([str(VENV_PYTHON), "-c", script], environment, ROOT).strip()
    file.touch(mode=0o600, exist_ok=False)
    file.write_text(f"{text}\n", encoding="ascii")
    return Key(
        text,
        f"made now and shown this once; kept in {where}, readable by you only",
        file,
        is_new=True,
    )


def given_keys(plan: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of the bootstrap key that are not ours: of the environment, else of `.env`."""
    given = {name: environment[name] for name in KEY_SETTINGS if environment.get(name)}
    text = read_settings(plan)
    if not given and not text.startswith(HEADER):
        pattern = re.compile(
            rf"^\s*(?:export\s+)?({'|'.join(KEY_SETTINGS)})\s*=\s*[\"']?([^\"'\s]+)", re.MULTILINE
        )
        given = dict(pattern.findall(text))
    return given


def read_key(path: Path) -> str:
    """The key in a file."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError(
            f"cannot read the key in {path}: {exc}; delete the file to have a new one made"
        ) from None


def read_settings(plan: Plan) -> str:
    """The text of `.env`; empty without one."""
    try:
        return (plan.place / ".env").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write_settings(plan: Plan, key: Key) -> bool:
    """Let commands that run in the same place reach the same gateway; False where somebody else's `.env` lies there."""
    text = read_settings(plan)
    if text and not text.startswith(HEADER):
        return False
    settings = {
        "WAYGATE_CONFIG": plan.document,
        "WAYGATE_DATA_DIR": plan.folder / "data",
        "WAYGATE_LOG_DIR": plan.folder / "logs",
    }
    if key.file:
        settings["WAYGATE_API_KEY_FILE"] = key.file
    lines = [f"{name}={path.relative_to(plan.place)}" for name, path in settings.items()]
    (plan.place / ".env").write_text(
        "\n".join([HEADER, *lines, f"WAYGATE_PORT={plan.port}", ""]), encoding="utf-8"
    )
    return True
