"""Tasks as data: what is read of them, and where ids stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from waygate_mcp.protocol.tasks import (
    RELATED_TASK_KEY,
    TASKS_EXTENSION,
    LegacyTasks,
    TaskState,
    bridged_extensions,
    has_legacy_tasks,
    hide_task_support,
    legacy_tasks,
    name_related_task,
    name_task,
    read_task,
    related_task,
    task_support,
)
from waygate_mcp.protocol.versions import REVISIONS


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- who has tasks


def test_only_the_last_legacy_revision_lets_clients_ask_for_tasks() -> None:
    assert [text for text, one in REVISIONS.items() if has_legacy_tasks(one)] == ["2025-11-25"]


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({}, LegacyTasks()),
        ({"tasks": {}}, LegacyTasks()),
        ({"tasks": True}, LegacyTasks()),
        ({"tasks": {"cancel": {}, "requests": {"tools": {}}}}, LegacyTasks()),
        ({"tasks": {"requests": {"tools": {"call": {}}}}}, LegacyTasks(calls=True)),
        (
            {"tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}},
            LegacyTasks(calls=True, cancels=True),
        ),
        ({"tasks": {"cancel": {}, "requests": {"tools": {"call": None}}}}, LegacyTasks()),
    ],
)
def test_what_a_legacy_server_can_do_is_what_it_declared(
    declared: dict[str, Any], found: LegacyTasks
) -> None:
    assert legacy_tasks(declared) == found


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({}, ()),
        ({"extensions": []}, ()),
        ({"extensions": {TASKS_EXTENSION: {}, "x.example/y": {}}}, (TASKS_EXTENSION,)),
        ({"extensions": {TASKS_EXTENSION: None}}, ()),
        ({"extensions": {"io.modelcontextprotocol/ui": {}}}, ()),
    ],
)
def test_only_extensions_that_are_carried_count(
    declared: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert bridged_extensions(declared) == found


# --- a task


def test_a_task_of_either_era_is_read() -> None:
    modern = {"taskId": "1", "status": "working", "ttlMs": 60_000, "pollIntervalMs": 50}
    assert read_task(raw(modern)) == TaskState("1", "working", "", 60_000, 50)
    legacy = {
        "taskId": "1",
        "status": "failed",
        "ttl": 1.5,
        "pollInterval": 0,
        "statusMessage": "x",
    }
    assert read_task(raw(legacy)) == TaskState("1", "failed", "x", 1.5, 0)


@pytest.mark.parametrize("nonsense", [None, -1, "5", True, [], 2**60])
def test_times_and_messages_nobody_understands_are_left_out(nonsense: Any) -> None:
    task = {"taskId": "1", "status": "completed", "ttl": nonsense, "pollIntervalMs": nonsense}
    assert read_task(raw({**task, "statusMessage": 7})) == TaskState("1", "completed")


@pytest.mark.parametrize(
    "task",
    [
        b"",
        b"[]",
        b"{}",
        raw({"taskId": "1"}),
        raw({"taskId": 1, "status": "working"}),
        raw({"taskId": "", "status": "working"}),
        raw({"taskId": "x" * 1_025, "status": "working"}),
        raw({"taskId": "1", "status": "dreaming"}),
        b'{"taskId":"\xff","status":"working"}',
    ],
)
def test_a_task_without_an_id_or_a_known_status_is_none(task: bytes) -> None:
    with pytest.raises(ValueError, match="task"):
        read_task(task)


# --- ids


def test_another_id_is_written_and_the_rest_keeps_its_bytes() -> None:
    task = b'{"a":1.50,"taskId":"theirs","b":{"taskId":"not this"}}'
    assert name_task(task, "ours") == b'{"a":1.50,"taskId":"ours","b":{"taskId":"not this"}}'
    assert name_task(b'{"task":{"taskId":"theirs"},"z":1.0}', "o") == (
        b'{"task":{"taskId":"o"},"z":1.0}'
    )


@pytest.mark.parametrize("other", [b"{}", b'{"content": []}', b"[1]", b"nonsense", b"\xff"])
def test_what_is_no_task_stays_as_it_is(other: bytes) -> None:
    assert name_task(other, "ours") == other


def test_a_legacy_message_says_which_task_it_belongs_to() -> None:
    related = {"_meta": {RELATED_TASK_KEY: {"taskId": "1"}, "x": 1}}
    assert related_task(raw(related)) == "1"
    assert related_task(b"") is None
    assert related_task(raw({"message": RELATED_TASK_KEY})) is None
    assert related_task(raw({"_meta": RELATED_TASK_KEY})) is None
    assert related_task(raw({"_meta": {RELATED_TASK_KEY: "1"}})) is None
    assert related_task(raw([RELATED_TASK_KEY])) is None


def test_another_id_is_written_into_the_metadata_of_a_legacy_message() -> None:
    meta = b'{"x":1.0,"%b":{"taskId":"theirs"}}' % RELATED_TASK_KEY.encode()
    assert name_related_task(meta, "ours") == meta.replace(b"theirs", b"ours")
    for other in (b'{"x":1}', raw({"x": RELATED_TASK_KEY}), raw([RELATED_TASK_KEY])):
        assert name_related_task(other, "ours") == other


# --- tools


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ({"name": "t"}, "forbidden"),
        ({"name": "t", "execution": {"taskSupport": "required"}}, "required"),
        ({"name": "t", "execution": {"taskSupport": "optional"}}, "optional"),
        ({"name": "t", "execution": {"taskSupport": 1}}, "forbidden"),
        ({"name": "t", "annotations": {"taskSupport": "required"}}, "forbidden"),
    ],
)
def test_a_tool_says_whether_it_is_called_as_a_task(definition: dict[str, Any], found: str) -> None:
    assert task_support(raw(definition)) == found


def test_how_a_tool_is_called_as_a_task_is_hidden_and_nothing_else() -> None:
    assert hide_task_support(b'{"a":1.0,"execution":{"taskSupport":"required"},"b":2}') == (
        b'{"a":1.0,"b":2}'
    )
    assert hide_task_support(b'{"execution":{"taskSupport":"optional","x":1.0}}') == (
        b'{"execution":{"x":1.0}}'
    )


@pytest.mark.parametrize(
    "definition",
    [
        b'{"name": "t"}',
        b'{"name": "taskSupport", "annotations": {"taskSupport": 1}}',
        b'{"execution": "taskSupport", "x": {"taskSupport": 1}}',
        b'{"execution": {"x": {"taskSupport": 1}}}',
        b'["taskSupport"]',
    ],
)
def test_a_definition_that_says_nothing_of_tasks_keeps_its_bytes(definition: bytes) -> None:
    assert hide_task_support(definition) == definition
