"""The person at the terminal as the caller of a call: sees progress, reads logs, answers questions.

Knows forms (fields one by one, with defaults and choices) and URLs to visit. Refuses to answer for
anybody: where nobody sits at a terminal a question is declined, and the person is told why. Nothing
is ever opened or fetched from here.
Spec: 2026-07-28 client/elicitation.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from waygate_mcp.cli.output import note
from waygate_mcp.model.call import Answer, LogEvent, Progress, Question
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.log_levels import is_loud_enough
from waygate_mcp.telemetry.redaction import escape_line

__all__ = ["TerminalCaller", "read_line"]

ReadLine = Callable[[str], Awaitable[str | None]]
"""Shows a prompt and gives the line typed, None at the end of input."""

_MAX_TRIES = 5
_DECLINE = Answer(b'{"action":"decline"}')
_CANCEL = Answer(b'{"action":"cancel"}')


async def read_line(prompt: str) -> str | None:
    """Show `prompt` and read one line from standard input, so that Ctrl-C still ends the wait."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(sys.stdin, wake)
    except NotImplementedError:  # Windows: a thread waits, and Ctrl-C after the next line
        return await asyncio.to_thread(sys.stdin.readline) or None
    try:
        await ready
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline() or None


class TerminalCaller:
    """Fulfils `model.ports.Caller` for a person.

    `interactive` says whether questions can be answered, `log_level` from which level on log messages
    are printed (None: none). Use as a context manager: it takes the progress bar down.
    """

    def __init__(
        self,
        *,
        interactive: bool,
        log_level: str | None = "info",
        read: ReadLine = read_line,
    ) -> None:
        self.log_level = log_level
        self._interactive = interactive
        self._read = read
        self._bar: Bar | None = None
        self._progress = float("-inf")
        self._lock = asyncio.Lock()

    def __enter__(self) -> TerminalCaller:
        """Do nothing yet: the bar comes with the first progress."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar down."""
        self._stop_bar()

    async def emit(self, event: Progress | LogEvent) -> None:
        """Show progress that grows, print a log message that is loud enough to standard error."""
        if isinstance(event, LogEvent):
            if not is_loud_enough(event.level, self.log_level):
                return
            source = f"{event.logger}: " if event.logger else ""
            note(f"[{event.level}] {source}{_text_of(event.data)}")
        elif event.progress > self._progress and sys.stderr.isatty():
            self._progress = event.progress
            self._show(event)

    async def ask(self, question: Question) -> Answer:
        """Ask the person one question after the other."""
        params = json.loads(question.params)
        if question.method != "elicitation/create":
            return Answer(None, jsonrpc.METHOD_NOT_FOUND, "not available in a terminal")
        self._stop_bar()
        if not self._interactive:
            note(f"the server asks: {params.get('message', '')}")
            note("declined: nobody is at a terminal to answer; run the command in one")
            return _DECLINE
        async with self._lock:
            if params.get("mode") == "url":
                return await self._ask_url(params)
            return await self._ask_form(params)

    async def close_stream(self) -> None:
        """Do nothing: a terminal has no stream of its own."""

    # --- questions

    async def _ask_url(self, params: Mapping[str, Any]) -> Answer:
        """Show where to go, and wait for a yes."""
        url = str(params.get("url", ""))
        note(f"The server asks: {params.get('message', '')}")
        note(f"  Visit, if you trust {urlsplit(url).hostname or 'nobody'}: {url}")
        return await self._confirm("Done? [y = yes, n = decline, c = cancel] ") or _accept(None)

    async def _ask_form(self, params: Mapping[str, Any]) -> Answer:
        """Ask field by field."""
        note(f"The server asks: {params.get('message', '')}")
        schema = params.get("requestedSchema")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        fields = properties if isinstance(properties, dict) else {}
        required = set(schema.get("required") or ()) if isinstance(schema, dict) else set()
        refusal = await self._confirm("Answer? [y = yes, n = decline, c = cancel] ")
        if refusal is not None:
            return refusal
        content: dict[str, Any] = {}
        for name, field in fields.items():
            given = await self._ask_field(
                name, field if isinstance(field, dict) else {}, is_required=name in required
            )
            if given is _NO_ANSWER:
                return _CANCEL
            if given is not _SKIPPED:
                content[name] = given
        return _accept(content)

    async def _confirm(self, prompt: str) -> Answer | None:
        """Ask whether to answer at all; None means yes."""
        for _ in range(_MAX_TRIES):
            line = await self._read(prompt)
            word = "c" if line is None else line.strip().lower()
            if word in ("y", "yes", ""):
                return None
            if word in ("n", "no"):
                return _DECLINE
            if word in ("c", "cancel"):
                return _CANCEL
        return _CANCEL

    async def _ask_field(self, name: str, field: Mapping[str, Any], *, is_required: bool) -> Any:
        """Ask one field until the answer fits; empty means the default, or nothing."""
        label = escape_line(str(field.get("title") or name))
        if field.get("description"):
            note(f"  {field['description']}")
        choices = _choices(field)
        for number, (_, title) in enumerate(choices, start=1):
            note(f"    {number}. {title}")
        default = field.get("default")
        shown = "" if default is None else f" [{escape_line(json.dumps(default))}]"
        mark = "" if is_required or default is not None else " (optional)"
        for _ in range(_MAX_TRIES):
            line = await self._read(f"  {label}{mark}{shown}: ")
            if line is None:
                return _NO_ANSWER
            text = line.rstrip("\r\n")
            if not text and default is not None:
                return default
            if not text and not is_required:
                return _SKIPPED
            try:
                return _read_value(text, field, choices)
            except ValueError as exc:
                note(f"    {exc}")
        return _NO_ANSWER

    # --- progress

    def _show(self, event: Progress) -> None:
        """Draw or move the bar."""
        if self._bar is None:
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task("", total=event.total)
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0],
            completed=event.progress,
            total=event.total,
            description=escape_line(event.message or "working")[:60],
        )

    def _stop_bar(self) -> None:
        """Take the bar down, so that what follows is not drawn over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


_SKIPPED = object()
_NO_ANSWER = object()


def _accept(content: Mapping[str, Any] | None) -> Answer:
    """Write an acceptance; a URL has no content."""
    result: dict[str, Any] = {"action": "accept"}
    if content is not None:
        result["content"] = content
    return Answer(jsonrpc.encode_json(result))


def _text_of(data: bytes) -> str:
    """Give a log message's data as text."""
    value = json.loads(data)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choices(field: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """Collect the values a field may have, with their titles, in every revision's form."""
    source = field.get("items") if field.get("type") == "array" else field
    if not isinstance(source, dict):
        return []
    for word in ("oneOf", "anyOf"):
        titled = source.get(word)
        if isinstance(titled, list):
            return [
                (one["const"], escape_line(str(one.get("title", one["const"]))))
                for one in titled
                if isinstance(one, dict) and "const" in one
            ]
    values = source.get("enum")
    if not isinstance(values, list):
        return []
    names = source.get("enumNames")
    titles = names if isinstance(names, list) and len(names) == len(values) else values
    return [(value, escape_line(str(title))) for value, title in zip(values, titles, strict=True)]


def _read_value(text: str, field: Mapping[str, Any], choices: list[tuple[Any, str]]) -> Any:
    """Read what was typed as the field's type.

    Raises:
        ValueError: it does not fit; the text says what would.
    """
    kind = field.get("type")
    if kind == "array":
        words = [one.strip() for one in text.split(",") if one.strip()]
        return [_choose(one, choices) for one in words]
    if choices:
        return _choose(text, choices)
    if kind == "boolean":
        return _read_boolean(text)
    if kind in ("integer", "number"):
        return _read_number(text, field)
    _check_length(text, field)
    return text


def _choose(text: str, choices: list[tuple[Any, str]]) -> Any:
    """Find a choice by its number, value or title."""
    for value, title in choices:
        if text in (str(value), title):
            return value
    with suppress(ValueError):
        number = int(text)
        if 1 <= number <= len(choices):
            return choices[number - 1][0]
    raise ValueError("choose one of the numbers")


def _read_boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in ("y", "yes", "true", "1"):
        return True
    if word in ("n", "no", "false", "0"):
        return False
    raise ValueError("answer y or n")


def _read_number(text: str, field: Mapping[str, Any]) -> int | float:
    """Read a number within its bounds."""
    try:
        value = int(text) if field.get("type") == "integer" else float(text)
    except ValueError:
        raise ValueError(
            f"expected {'a whole number' if field.get('type') == 'integer' else 'a number'}"
        ) from None
    least, most = field.get("minimum"), field.get("maximum")
    if isinstance(least, int | float) and value < least:
        raise ValueError(f"must be at least {least}")
    if isinstance(most, int | float) and value > most:
        raise ValueError(f"must be at most {most}")
    return value


def _check_length(text: str, field: Mapping[str, Any]) -> None:
    """Check the length a text must have."""
    least, most = field.get("minLength"), field.get("maxLength")
    if isinstance(least, int) and len(text) < least:
        raise ValueError(f"must have at least {least} characters")
    if isinstance(most, int) and len(text) > most:
        raise ValueError(f"must have at most {most} characters")
