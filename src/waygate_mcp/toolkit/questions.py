"""What a function may ask the client, and how the answers read.

Knows the four questions (form, URL, sampling, roots), their parameters in JSON and the shapes of
their answers. Refuses to know how they travel, and whether this client can answer: the Caller
checks its capabilities and raises CapabilityMissingError.
Spec: 2026-07-28 client/elicitation, client/sampling, client/roots, basic/patterns/mrtr.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
from pydantic import BaseModel, ValidationError

from waygate_mcp.model.call import Answer, Question
from waygate_mcp.toolkit.content import ContentBlock, Message, Text
from waygate_mcp.toolkit.encoding import decode_json, encode_json
from waygate_mcp.toolkit.failures import QuestionRefusedError, RegistrationError, ToolError

__all__ = [
    "Elicit",
    "ElicitUrl",
    "Elicitation",
    "InputRequired",
    "ListRoots",
    "Root",
    "Sample",
    "SamplingResult",
    "form_schema",
    "read_elicitation",
    "read_roots",
    "read_sampling",
]

DataT = TypeVar("DataT")
FormSchema = type[BaseModel] | Mapping[str, Any]


class Elicit(msgspec.Struct, frozen=True):
    """Ask the user to fill in a form.

    `schema` is a flat Pydantic model, or a JSON schema sent as it stands.
    """

    message: str
    schema: Any

    def to_question(self, key: str | None = None, *, is_modern: bool = True) -> Question:
        """Write it as a request to a client of this era."""
        params = {"message": self.message, "requestedSchema": form_schema(self.schema)}
        return Question("elicitation/create", encode_json(params), key)


class ElicitUrl(msgspec.Struct, frozen=True):
    """Ask the user to open `url`, for what must not pass through the client (2025-11-25 and later).

    `elicitation_id` is sent to clients of 2025-11-25 only, which need one; left out, it is made up.
    """

    message: str
    url: str
    elicitation_id: str | None = None

    def to_question(self, key: str | None = None, *, is_modern: bool = True) -> Question:
        """Write it as a request to a client of this era."""
        params = {"mode": "url", "message": self.message, "url": self.url}
        if not is_modern:
            params["elicitationId"] = self.elicitation_id or secrets.token_hex(8)
        return Question("elicitation/create", encode_json(params), key)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the client's model for a message.

    `messages` are texts (from the user) or Messages; `max_tokens` bounds the answer. `extra` are
    further members of the request (`modelPreferences`, `tools`, `toolChoice`, …), sent as they are.
    """

    messages: Sequence[Message | str]
    max_tokens: int
    system_prompt: str | None = None
    temperature: float | None = None
    stop_sequences: Sequence[str] | None = None
    extra: Mapping[str, Any] | None = None

    def to_question(self, key: str | None = None, *, is_modern: bool = True) -> Question:
        """Write it as a request to a client of this era."""
        params: dict[str, Any] = {
            "messages": [message_json(one) for one in self.messages],
            "maxTokens": self.max_tokens,
        }
        optional = {
            "systemPrompt": self.system_prompt,
            "temperature": self.temperature,
            "stopSequences": self.stop_sequences,
        }
        params.update((name, value) for name, value in optional.items() if value is not None)
        params.update(self.extra or {})
        return Question("sampling/createMessage", encode_json(params), key)


class ListRoots(msgspec.Struct, frozen=True):
    """Ask the client for the folders it works in."""

    def to_question(self, key: str | None = None, *, is_modern: bool = True) -> Question:
        """Write it as a request to a client of this era."""
        return Question("roots/list", b"{}", key)


class InputRequired(msgspec.Struct, frozen=True):
    """Returned by a tool, prompt or resource instead of a result: these answers are needed first.

    The function is called again with the answers in `ctx.input_responses` under the same keys, and
    with `ctx.state` the `state` given here. Nothing is kept in between, so any process can go on;
    `state` reaches the client sealed and cannot be read or altered there.
    """

    requests: Mapping[str, Elicit | ElicitUrl | Sample | ListRoots]
    state: str | None = None


class Elicitation(msgspec.Struct, Generic[DataT], frozen=True):
    """A user's answer to a form or a URL.

    `action` is `accept`, `decline` (the user said no) or `cancel` (the user went away). `content` is
    the form as it came; `data` is the Pydantic model made of it, where the form was one. Both are
    None unless accepted.
    """

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] | None = None
    data: DataT | None = None

    @property
    def is_accepted(self) -> bool:
        """Tell whether the user agreed."""
        return self.action == "accept"


class SamplingResult(msgspec.Struct, frozen=True):
    """A message the client's model wrote; `content` are its blocks as parsed JSON."""

    role: str
    content: tuple[Mapping[str, Any], ...]
    model: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The text blocks, joined by line ends."""
        return "\n".join(
            str(one.get("text", "")) for one in self.content if one.get("type") == "text"
        )


class Root(msgspec.Struct, frozen=True):
    """A folder the client works in; `uri` begins with `file://`."""

    uri: str
    name: str | None = None


def message_json(message: Message | str | ContentBlock) -> dict[str, Any]:
    """Give a message as `PromptMessage` and `SamplingMessage` have it, ready to be encoded."""
    if not isinstance(message, Message):
        message = Message(message)
    content = message.content
    return {"role": message.role, "content": Text(content) if isinstance(content, str) else content}


def form_schema(schema: FormSchema) -> Mapping[str, Any]:
    """Give the `requestedSchema` of a form.

    Raises:
        RegistrationError: the model nests, which forms cannot.
    Spec: 2026-07-28 client/elicitation, "Requested Schema".
    """
    return schema if isinstance(schema, Mapping) else _model_form(schema)


@functools.lru_cache(maxsize=256)
def _model_form(model: type[BaseModel]) -> Mapping[str, Any]:
    """Flatten a model's schema; definitions of enumerations are put in their places."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    properties = {
        name: _flat_field(model, name, field, definitions)
        for name, field in schema.get("properties", {}).items()
    }
    form: dict[str, Any] = {"type": "object", "properties": properties}
    if schema.get("required"):
        form["required"] = schema["required"]
    return form


def _flat_field(
    model: type[BaseModel], name: str, field: Mapping[str, Any], definitions: Mapping[str, Any]
) -> dict[str, Any]:
    """Reduce one field to what a form may hold: a primitive, an enumeration, a list of choices."""
    flat = dict(field)
    if "$ref" in flat:
        target = definitions[flat.pop("$ref").rpartition("/")[2]]
        flat = {**target, **flat}
    # `X | None` is an optional field: forms have no null.
    choices = [one for one in flat.get("anyOf", ()) if one.get("type") != "null"]
    if len(choices) == 1 and len(choices) < len(flat["anyOf"]):
        del flat["anyOf"]
        flat = {**_flat_field(model, name, choices[0], definitions), **flat}
        if flat.get("default", ...) is None:
            del flat["default"]
    items = flat.get("items")
    if isinstance(items, Mapping) and "$ref" in items:
        target = definitions[items["$ref"].rpartition("/")[2]]
        flat["items"] = {key: target[key] for key in ("type", "enum") if key in target}
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    is_choice_list = flat.get("type") == "array" and "enum" in flat.get("items", {})
    if not is_choice_list and flat.get("type") not in {"string", "integer", "number", "boolean"}:
        raise RegistrationError(
            f"{model.__name__}.{name} cannot stand in a form: only texts, numbers, booleans, "
            "enumerations and lists of enumerations can"
        )
    return flat


def _result_of(answer: Answer) -> Any:
    """Give the parsed result of an answer, or raise what the client said instead."""
    if answer.result is None:
        raise QuestionRefusedError(answer.error_code, answer.error_message)
    return decode_json(answer.result)


def parse_answer(answer: Answer) -> Mapping[str, Any]:
    """Give the result object of an answer.

    Raises:
        QuestionRefusedError: the client sent an error.
        ToolError: the answer is no object.
    """
    result = _result_of(answer)
    if not isinstance(result, dict):
        raise ToolError("The client's answer cannot be read: it is not an object.")
    return result


def read_elicitation(result: Any, schema: FormSchema | None = None) -> Elicitation[Any] | None:
    """Read an `ElicitResult`, None where it is not one.

    Raises:
        ToolError: the content does not fit the Pydantic model `schema`.
    """
    action = result.get("action") if isinstance(result, Mapping) else None
    if action not in {"accept", "decline", "cancel"}:
        return None
    if action != "accept":
        return Elicitation(action)
    content = result.get("content")
    if content is not None and not isinstance(content, Mapping):
        return None
    if schema is None or isinstance(schema, Mapping):
        return Elicitation(action, content, cast("Any", content))
    try:
        return Elicitation(action, content, schema.model_validate(content or {}))
    except ValidationError as exc:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'answer'}: {fault['msg']}"
            for fault in exc.errors(include_url=False, include_input=False)
        )
        raise ToolError(f"The answer does not fit the form: {faults}") from exc


def read_sampling(result: Any) -> SamplingResult | None:
    """Read a `CreateMessageResult`, None where it is not one."""
    if not isinstance(result, Mapping) or not isinstance(result.get("model"), str):
        return None
    content = result.get("content")
    blocks: list[Any] = content if isinstance(content, list) else [content]
    if not all(isinstance(block, Mapping) for block in blocks):
        return None
    reason = result.get("stopReason")
    return SamplingResult(
        role=str(result.get("role", "assistant")),
        content=tuple(blocks),
        model=result["model"],
        stop_reason=reason if isinstance(reason, str) else None,
    )


def read_roots(result: Any) -> list[Root] | None:
    """Read a `ListRootsResult`, None where it is not one."""
    roots = result.get("roots") if isinstance(result, Mapping) else None
    if not isinstance(roots, list):
        return None
    return [
        Root(root["uri"], root["name"] if isinstance(root.get("name"), str) else None)
        for root in roots
        if isinstance(root, Mapping) and isinstance(root.get("uri"), str)
    ]
