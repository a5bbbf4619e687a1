"""Fakes for plugin authors: a client that records, calls made by hand, a provider of one box.

    provider = provider_of(box)
    reply = await call_tool(provider, "add", {"a": 1, "b": 2})
    assert text_of(reply) == "3"

Knows the ports of `waygate_mcp.model`. Refuses to know doors and gateways: nothing here is sent, and
names are the provider's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from waygate_mcp.errors import CapabilityMissingError
from waygate_mcp.model.call import Answer, Call, InputRequired, LogEvent, Progress, Question, Reply
from waygate_mcp.model.event import Event
from waygate_mcp.model.ports import Provider
from waygate_mcp.model.principal import LOCAL, Principal
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.log_levels import is_loud_enough
from waygate_mcp.protocol.versions import MODERN, Revision
from waygate_mcp.toolkit.provider import ToolboxProvider
from waygate_mcp.toolkit.toolbox import Toolbox

__all__ = [
    "ALL_CAPABILITIES",
    "Announcements",
    "RecordingCaller",
    "accepted",
    "call_of",
    "call_tool",
    "provider_of",
    "sampled",
    "text_of",
]

DEADLINE_S = 30.0

ALL_CAPABILITIES = ClientCapabilities.parse(
    {"sampling": {"tools": {}}, "roots": {}, "elicitation": {"form": {}, "url": {}}}, MODERN
)
"""A client that can answer every question."""

Respond = Callable[[Question], Answer | Awaitable[Answer]]


class RecordingCaller:
    """A client that remembers what it was sent and answers questions from a list.

    `answers` are results (any value that can be JSON), Answers, or functions of the Question, used
    up in order. As a real one, it refuses questions `capabilities` do not allow, and drops log
    messages below `log_level`.
    """

    def __init__(
        self,
        answers: Sequence[Any] = (),
        *,
        capabilities: ClientCapabilities = ALL_CAPABILITIES,
        log_level: str | None = "debug",
    ) -> None:
        self.capabilities = capabilities
        self.events: list[Progress | LogEvent] = []
        self.questions: list[Question] = []
        self.streams_closed = 0
        self._log_level = log_level
        self._answers = list(answers)

    @property
    def log_level(self) -> str | None:
        """The least severe level it wants."""
        return self._log_level

    @property
    def progress(self) -> list[Progress]:
        """The progress it was told, in order."""
        return [event for event in self.events if isinstance(event, Progress)]

    @property
    def logs(self) -> list[tuple[str, Any]]:
        """The log messages it was sent, in order: level and data."""
        return [
            (event.level, json.loads(event.data))
            for event in self.events
            if isinstance(event, LogEvent)
        ]

    async def emit(self, event: Progress | LogEvent) -> None:
        """Remember an event."""
        if isinstance(event, Progress) or is_loud_enough(event.level, self._log_level):
            self.events.append(event)

    async def ask(self, question: Question) -> Answer:
        """Remember a question and give the next answer.

        Raises:
            CapabilityMissingError: the client cannot answer such a question.
            AssertionError: there is no answer left.
        """
        missing = self.capabilities.missing_for(question.method, json.loads(question.params))
        if missing is not None:
            raise CapabilityMissingError(missing)
        self.questions.append(question)
        if not self._answers:
            raise AssertionError(f"no answer is left for {question.method}")
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(question)
            if isinstance(answer, Awaitable):
                answer = await answer
        if isinstance(answer, Answer):
            return answer
        return Answer(json.dumps(answer).encode())

    async def close_stream(self) -> None:
        """Count how often its stream was closed."""
        self.streams_closed += 1


class Announcements(list[Event]):
    """An Announce that remembers: pass it where a provider wants one."""

    def __call__(self, event: Event) -> None:
        """Remember an event."""
        self.append(event)


def accepted(content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make the result of an elicitation the user accepted."""
    result: dict[str, Any] = {"action": "accept"}
    if content is not None:
        result["content"] = dict(content)
    return result


def sampled(text: str, *, model: str = "fake-model") -> dict[str, Any]:
    """Make the result of a sampling that wrote `text`."""
    content = {"type": "text", "text": text}
    return {"role": "assistant", "content": content, "model": model, "stopReason": "endTurn"}


def provider_of(
    box: Toolbox, *, name: str = "plugin", config: Any = None, lifespan: Any = None
) -> ToolboxProvider:
    """Make a provider of a box, as the house would with this config and lifespan."""
    return ToolboxProvider(name, box, Announcements(), config=config, lifespan=lifespan)


def call_of(
    method: str,
    name: str = "",
    params: Mapping[str, Any] | None = None,
    *,
    caller: RecordingCaller | None = None,
    revision: Revision = MODERN,
    principal: Principal = LOCAL,
    **more: Any,
) -> Call:
    """Make a call by hand, as the router gives it to a provider.

    `params` lack nothing but the name, which is put in. `more` are further fields of Call
    (`input_responses`, `request_state`, `progress_token`, …). Without a caller the client can answer
    nothing.
    """
    member = "uri" if method.startswith("resources/") else "name"
    named = {} if method == "completion/complete" else {member: name}
    caller = caller or RecordingCaller(capabilities=NO_CAPABILITIES)
    fields: dict[str, Any] = {
        "request_id": "test-request",
        "endpoint": "default",
        "client_name": "test-client",
        "body": b"",
        "deadline_s": time.monotonic() + DEADLINE_S,
        **more,
    }
    return Call(
        method=method,
        name=name,
        target=name,
        params={**named, **(params or {})},
        principal=principal,
        revision=revision,
        capabilities=caller.capabilities,
        caller=caller,
        **fields,
    )


async def call_tool(
    provider: Provider,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    caller: RecordingCaller | None = None,
    **more: Any,
) -> Reply | InputRequired:
    """Call a tool of a provider; see `call_of` for the rest."""
    params = {} if arguments is None else {"arguments": dict(arguments)}
    return await provider.call(call_of("tools/call", name, params, caller=caller, **more))


def text_of(outcome: Reply | InputRequired) -> str:
    """Give the text blocks of a tool's reply, joined by line ends.

    Raises:
        AssertionError: the outcome is no reply.
    """
    assert isinstance(outcome, Reply), f"expected a reply, got {outcome}"
    blocks = json.loads(outcome.result)["content"]
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")
