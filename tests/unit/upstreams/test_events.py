from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from waygate_mcp.model.call import LogEvent, Progress
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.event import ListChanged, ResourceUpdated
from waygate_mcp.upstreams.channel import Incoming
from waygate_mcp.upstreams.events import changes_of, log_event, progress_event


def said(method: str, params: Any) -> Incoming:
    return Incoming(method=method, params=msgspec.Raw(json.dumps(params).encode()))


def test_progress_is_the_calls_that_has_the_token() -> None:
    incoming = said("notifications/progress", {"progressToken": "t", "progress": 1, "total": 2})
    event = progress_event(incoming, "t")
    assert event == Progress(1, 2)
    assert event is not None
    assert type(event.progress) is int  # written back as it came
    assert progress_event(incoming, "other") is None
    assert progress_event(incoming, None) is None


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"progressToken": "t"},
        {"progressToken": "t", "progress": "x"},
        [],
        {"progressToken": ["t"]},
    ],
)
def test_malformed_progress_is_dropped(params: Any) -> None:
    assert progress_event(said("notifications/progress", params), "t") is None


def test_a_log_message_keeps_its_data_raw_and_in_one_line() -> None:
    raw = msgspec.Raw(b'{"level":"info","logger":"l","data":{\n"n":1.50}}')
    event = log_event(Incoming(method="notifications/message", params=raw))
    assert event == LogEvent("info", b'{ "n":1.50}', "l")


@pytest.mark.parametrize("params", [{}, {"level": "loud"}, {"level": 3, "data": 1}, [1]])
def test_a_malformed_log_message_is_dropped(params: Any) -> None:
    assert log_event(said("notifications/message", params)) is None
    assert log_event(said("notifications/other", {"level": "info"})) is None


def test_changes_name_the_provider() -> None:
    assert changes_of(said("notifications/tools/list_changed", {}), "p") == (
        ListChanged("p", Kind.TOOL),
    )
    assert changes_of(said("notifications/resources/list_changed", {}), "p") == (
        ListChanged("p", Kind.RESOURCE), ListChanged("p", Kind.TEMPLATE)
    )  # fmt: skip
    updated = said("notifications/resources/updated", {"uri": "a://b"})
    assert changes_of(updated, "p") == (ResourceUpdated("p", "a://b"),)
    assert changes_of(said("notifications/resources/updated", {}), "p") == ()
    assert changes_of(said("notifications/message", {}), "p") == ()
    assert changes_of(Incoming(id=1), "p") == ()
