"""What is said about tasks on the two sides: an upstream's own ids there, the client's handles here.

Knows where ids of tasks stand in results, questions and answers. Refuses to send anything.
Spec: 2025-11-25 basic/utilities/tasks, "Related Task Metadata"; io.modelcontextprotocol/tasks 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from waygate_mcp.model.call import Answer, Call, Outcome, Question, Reply
from waygate_mcp.model.catalog import Listing
from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.tasks import (
    RELATED_TASK_KEY,
    TASK_METHODS,
    TASKS_EXTENSION,
    hide_task_support,
    name_related_task,
    name_task,
    related_task,
)
from waygate_mcp.upstreams.slices import Members, NotAnObjectError, cut, join

__all__ = [
    "answer_of_task",
    "names_tasks",
    "question_of_task",
    "readdressed",
    "task_param",
    "without_related",
    "without_task_support",
]

_TASK_ID_MEMBER = b'"taskId"'


class _Required(msgspec.Struct, rename="camel"):
    required_capabilities: dict[str, dict[str, object]] = {}


_decode_required = msgspec.json.Decoder(_Required).decode


def readdressed(reply: Reply, call: Call) -> Reply:
    """Give the reply to a request about a task with the client's handle in place of the id."""
    has_id = _TASK_ID_MEMBER in reply.result
    return msgspec.structs.replace(
        reply,
        result=name_task(reply.result, call.name) if has_id else reply.result,
        meta=None if reply.meta is None else name_related_task(reply.meta, call.name),
    )


def without_related(outcome: Outcome) -> Outcome:
    """Give the result of a task that was awaited: its reader knows of no task."""
    if not isinstance(outcome, Reply) or outcome.meta is None:
        return outcome
    try:
        meta = cut(outcome.meta)
    except NotAnObjectError:
        return outcome
    meta.pop(RELATED_TASK_KEY, None)
    return msgspec.structs.replace(outcome, meta=join(meta) if meta else None)


def question_of_task(question: Question, call: Call, task_id: str | None) -> Question:
    """Say a question about a task to the client: with its handle, or, if it knows of no task, without."""
    if task_id is None or related_task(question.params) is None:
        return question
    members = cut(question.params)
    meta = cut(members["_meta"])
    if call.method in TASK_METHODS:
        members["_meta"] = msgspec.Raw(name_related_task(bytes(members["_meta"]), call.name))
    else:
        del meta[RELATED_TASK_KEY]
        _put_meta(members, meta)
    return msgspec.structs.replace(question, params=join(members))


def answer_of_task(answer: Answer, task_id: str | None) -> Answer:
    """Say a client's answer to the upstream: it names the task it belongs to, by its own id."""
    if task_id is None or answer.result is None:
        return answer
    try:
        members = cut(answer.result)
        meta = cut(members.get("_meta", msgspec.Raw(b"{}")))
    except NotAnObjectError:
        return answer
    meta[RELATED_TASK_KEY] = msgspec.Raw(encode_json({"taskId": task_id}))
    _put_meta(members, meta)
    return msgspec.structs.replace(answer, result=join(members))


def _put_meta(members: Members, meta: Mapping[str, msgspec.Raw]) -> None:
    if meta:
        members["_meta"] = msgspec.Raw(join(meta))
    else:
        del members["_meta"]


def task_param(call: Call) -> bytes | None:
    """Give the `task` a client wants its call augmented with, None where it wants none."""
    task = call.params.get("task")
    return encode_json(task) if isinstance(task, dict) else None


def names_tasks(data: bytes) -> bool:
    """Tell whether the `data` of an error says that the tasks extension is needed."""
    try:
        required = _decode_required(data or b"{}").required_capabilities
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return TASKS_EXTENSION in required.get("extensions", {})


def without_task_support(listing: Listing) -> Listing:
    """Give tools without `execution.taskSupport`, for upstreams where it promises nothing."""
    entries = tuple(
        msgspec.structs.replace(entry, definition=hide_task_support(entry.definition))
        for entry in listing.entries
    )
    return msgspec.structs.replace(listing, entries=entries)
