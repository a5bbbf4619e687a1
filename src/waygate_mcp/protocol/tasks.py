"""Tasks: calls that answer with a handle, whose result is fetched later.

Knows the messages of both eras: `tasks` of 2025-11-25, where the client wants a task, and the extension
of 2026-07-28, where the server decides. Refuses to know who runs a task and how its id is sealed. What
upstreams wrote is read leniently and never raises, but for the id without which there is no task.
Spec: 2025-11-25 basic/utilities/tasks; io.modelcontextprotocol/tasks 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from waygate_mcp.protocol.jsonrpc import encode_json
from waygate_mcp.protocol.versions import LATEST_LEGACY, Revision

__all__ = [
    "BRIDGED_EXTENSIONS",
    "RELATED_TASK_KEY",
    "REQUIRED_CAPABILITY",
    "TASKS_EXTENSION",
    "TASK_METHODS",
    "LegacyTasks",
    "TaskState",
    "bridged_extensions",
    "has_legacy_tasks",
    "hide_task_support",
    "legacy_tasks",
    "name_related_task",
    "name_task",
    "read_task",
    "related_task",
    "task_support",
]

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"
RELATED_TASK_KEY = "io.modelcontextprotocol/related-task"
BRIDGED_EXTENSIONS = frozenset({TASKS_EXTENSION})
"""Extensions the gateway carries between the sides; no other is announced."""
REQUIRED_CAPABILITY: Mapping[str, Any] = {"extensions": {TASKS_EXTENSION: {}}}
"""What a modern client has to declare for tasks, as `data.requiredCapabilities` says it."""
TASK_METHODS = frozenset({"tasks/get", "tasks/result", "tasks/update", "tasks/cancel"})

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]
_MAX_ID_CHARS = 1_024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class LegacyTasks(msgspec.Struct, frozen=True):
    """What a server of 2025-11-25 can do: take `tools/call` as a task, and cancel tasks."""

    calls: bool = False
    cancels: bool = False


class TaskState(msgspec.Struct, frozen=True):
    """How a task is, in no era's words. The times are milliseconds, None where unlimited or unsaid."""

    id: str
    status: TaskStatus
    message: str = ""
    ttl_ms: float | None = None
    poll_ms: float | None = None


class _Task(msgspec.Struct, rename="camel"):
    """A task as it is written; only id and status have to be right."""

    task_id: str
    status: TaskStatus
    status_message: Any = None
    ttl_ms: Any = None
    ttl: Any = None
    poll_interval_ms: Any = None
    poll_interval: Any = None


class _Related(msgspec.Struct, rename="camel"):
    task_id: str


class _Execution(msgspec.Struct, frozen=True, rename="camel"):
    task_support: str = "forbidden"


class _Definition(msgspec.Struct):
    execution: _Execution = _Execution()


_read_task = msgspec.json.Decoder(_Task).decode
_read_related = msgspec.json.Decoder(_Related).decode
_read_definition = msgspec.json.Decoder(_Definition).decode


def has_legacy_tasks(revision: Revision) -> bool:
    """Tell whether clients of a revision may augment calls with `task`; only 2025-11-25 has that."""
    return revision is LATEST_LEGACY


def legacy_tasks(declared: Mapping[str, Any]) -> LegacyTasks:
    """Read the `tasks` capability of a server of 2025-11-25."""
    tasks = _object_at(declared, "tasks")
    tools = _object_at(_object_at(tasks, "requests"), "tools")
    is_taken = isinstance(tools.get("call"), dict)
    return LegacyTasks(is_taken, is_taken and isinstance(tasks.get("cancel"), dict))


def _object_at(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def bridged_extensions(declared: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the extensions of a server's `capabilities` that are carried here, sorted."""
    extensions = _object_at(declared, "extensions")
    return tuple(sorted(BRIDGED_EXTENSIONS & {k for k, v in extensions.items() if v is not None}))


def read_task(raw: bytes | msgspec.Raw) -> TaskState:
    """Read a task: the result of `tasks/get`, a created task, or the one inside of `task`.

    Raises:
        ValueError: it has no usable id, or a status nobody knows.
    """
    try:
        task = _read_task(raw)
    except _UNREADABLE as exc:
        raise ValueError(f"the task is malformed: {exc}") from exc
    if not 0 < len(task.task_id) <= _MAX_ID_CHARS:
        raise ValueError(f"the task has an id of {len(task.task_id)} characters")
    message = task.status_message if isinstance(task.status_message, str) else ""
    ttl_ms = _milliseconds(task.ttl_ms if task.ttl_ms is not None else task.ttl)
    poll_ms = task.poll_interval_ms if task.poll_interval_ms is not None else task.poll_interval
    return TaskState(task.task_id, task.status, message, ttl_ms, _milliseconds(poll_ms))


def _milliseconds(value: Any) -> float | None:
    """Read a length of time; None for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 2**53 else None


def _members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    try:
        return _read_object(raw)
    except _UNREADABLE:
        return None


def name_task(result: bytes, task_id: str) -> bytes:
    """Write another id into a result that is a task, or that holds one in `task`.

    A result that is neither stays as it is, and so does every other member.
    """
    members = _members(result)
    if members is None:
        return result
    if "taskId" in members:
        members["taskId"] = msgspec.Raw(encode_json(task_id))
    elif "task" in members:
        members["task"] = msgspec.Raw(name_task(bytes(members["task"]), task_id))
    else:
        return result
    return encode_json(members)


def related_task(params: bytes | msgspec.Raw) -> str | None:
    """Read which task a legacy message says it belongs to, None where it says nothing."""
    if RELATED_TASK_KEY.encode() not in bytes(params):
        return None
    meta = _members((_members(params) or {}).get("_meta", msgspec.Raw(b"{}"))) or {}
    try:
        return _read_related(meta[RELATED_TASK_KEY]).task_id if RELATED_TASK_KEY in meta else None
    except _UNREADABLE:
        return None


def name_related_task(meta: bytes, task_id: str) -> bytes:
    """Write another id into the `_meta` of a legacy message, where it names a task at all."""
    if RELATED_TASK_KEY.encode() not in meta:
        return meta
    members = _members(meta)
    if members is None or RELATED_TASK_KEY not in members:
        return meta
    members[RELATED_TASK_KEY] = msgspec.Raw(encode_json({"taskId": task_id}))
    return encode_json(members)


def task_support(definition: bytes) -> str:
    """Read whether a tool of 2025-11-25 is called as a task: required, optional or forbidden."""
    if b'"taskSupport"' not in definition:
        return "forbidden"
    try:
        return _read_definition(definition).execution.task_support
    except _UNREADABLE:
        return "forbidden"


def hide_task_support(definition: bytes) -> bytes:
    """Take `execution.taskSupport` out of a tool's definition, for readers it would mislead."""
    members = _members(definition) if b'"taskSupport"' in definition else None
    execution = _members(members["execution"]) if members and "execution" in members else None
    if members is None or execution is None or "taskSupport" not in execution:
        return definition
    del execution["taskSupport"]
    if execution:
        members["execution"] = msgspec.Raw(encode_json(execution))
    else:
        del members["execution"]
    return encode_json(members)
