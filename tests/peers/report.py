"""What every Python client program shares: its orders on standard input, its outcome on standard output.

Knows neither an SDK nor pytest, since it runs in several environments. A program is given one JSON object:

    {"transport": "http", "url": …, "headers": {…}, "era": "modern"}
    {"transport": "stdio", "command": …, "arguments": […], "environment": {…}, "folder": …, "era": "legacy"}

and prints one: {"client": …, "features": {feature: {"value": …} | {"error": …} | {"cannot": …}}}. The value of a
feature has the same shape in every program; tests/integration/peers says what it must be.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FEATURE_WITHIN_S = 12.0

ANSWER = {"username": "ada", "email": "ada@example.com"}
"""How every client answers `test_elicitation`."""

STORY = "Once upon a time."
"""What every client's model says."""

ROOT_URI = "file:///srv/peer"
"""The one root every client has."""


@dataclass(frozen=True)
class Orders:
    """Where to connect and how."""

    era: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def is_http(self) -> bool:
        """Streamable HTTP, or standard input and output of a process the client starts."""
        return bool(self.url)

    @property
    def is_modern(self) -> bool:
        """The stateless revision, or the handshake revisions."""
        return self.era == "modern"


def read_orders() -> Orders:
    """The orders on standard input."""
    given = json.load(sys.stdin)
    given.pop("transport")
    return Orders(**{**given, "arguments": tuple(given.get("arguments", ()))})


def answer_form(message: str, properties: Mapping[str, Any]) -> dict[str, Any] | None:
    """A person's answer to a form; None declines, which a message that says "decline" asks for."""
    if "decline" in message:
        return None
    known = {**ANSWER, "name": "Ada", "color": "blue", "context": "tea", "ok": True}
    return {name: known[name] for name in properties if name in known}


class Seen:
    """What the server asked and told this client, in order, since the last `clear`."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.logged: list[Any] = []
        self.told: list[str] = []
        self._changed = asyncio.Event()

    def clear(self) -> None:
        """Forget everything."""
        self.asked.clear()
        self.logged.clear()
        self.told.clear()

    def tell(self, what: str) -> None:
        """Note a notification; `what` is its method and, after a blank, the address it names."""
        self.told.append(what)
        self._changed.set()

    def log(self, data: Any) -> None:
        """Note a log message."""
        self.logged.append(data)
        self._changed.set()

    async def until(self, is_seen: Callable[[], bool], within_s: float = 5.0) -> None:
        """Wait until `is_seen`.

        Raises:
            TimeoutError: it was not; the text says what was seen instead.
        """
        try:
            async with asyncio.timeout(within_s):
                while not is_seen():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"waited {within_s} s; seen: {self.told} {self.logged}") from None


class Report:
    """Collects the outcome of each feature and prints it."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.features: dict[str, dict[str, Any]] = {}

    async def feature(self, name: str, run: Callable[[], Awaitable[Any]]) -> None:
        """Run one feature in bounded time and keep its value or its failure."""
        try:
            async with asyncio.timeout(FEATURE_WITHIN_S):
                self.features[name] = {"value": await run()}
        except Exception as error:  # noqa: BLE001 - the outcome is the product of this program
            trace = "".join(traceback.format_exception(error))
            self.features[name] = {"error": f"{error!r}\n{trace[-3000:]}"}

    def cannot(self, name: str, reason: str) -> None:
        """Say why this client has no such feature in this era."""
        self.features[name] = {"cannot": reason}

    def print(self) -> None:
        """Print the report as one line of JSON."""
        print(json.dumps({"client": self.client, "features": self.features}))
