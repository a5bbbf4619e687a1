"""What a record says, and that nothing secret and no flood gets into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import KEYS, lines_in, open_trail
from waygate_mcp.audit import trail as trail_module
from waygate_mcp.audit.trail import Trail, TrailRules
from waygate_mcp.audit.verify import verify
from waygate_mcp.errors import StorageError
from waygate_mcp.model.call import Call
from waygate_mcp.model.principal import Principal
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.testing.fakes import call_of

ADA = Principal("key:ada", "Ada", frozenset({"*"}))


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    with open_trail(tmp_path) as opened:
        yield opened


def recorded(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_in(tmp_path)]


def a_call(arguments: str = '{"name":"Ada"}', **more: Any) -> Call:
    body = '{"jsonrpc":"2.0","id":1,"params":{"name":"greet","arguments":' + arguments + "}}"
    params = {"arguments": json.loads(arguments)}
    return call_of("tools/call", "greet", params, body=body.encode(), principal=ADA, **more)


def break_writing(patch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    patch.setattr("os.write", fail)


def test_a_call_leaves_its_beginning_and_its_end(trail: Trail, tmp_path: Path) -> None:
    call = a_call(request_id="req-1")
    trail.begin(call)
    call.provider = "greeter"  # the router found it meanwhile
    trail.end(call, "ok", 0.0125)
    start, end = recorded(tmp_path)
    for key in ("chain", "sequence", "at", "previous", "mac"):
        assert start.pop(key) != end.pop(key) or key in ("chain", "at")
    about = {
        "principal": "key:ada",
        "endpoint": "default",
        "method": "tools/call",
        "name": "greet",
        "request_id": "req-1",
    }
    digest = KEYS.digest(b'{"name":"Ada"}')
    assert start == about | {"kind": "start", "upstream": "", "arguments_digest": digest}
    ended = {"kind": "outcome", "start": 1, "outcome": "ok", "duration_ms": 12.5}
    assert end == about | ended | {"upstream": "greeter"}


def test_a_refused_call_leaves_one_record(trail: Trail, tmp_path: Path) -> None:
    trail.refuse(a_call(), "forbidden", 0.001)
    (record,) = recorded(tmp_path)
    assert (record["kind"], record["outcome"]) == ("refusal", "forbidden")
    assert record["arguments_digest"] == KEYS.digest(b'{"name":"Ada"}')


@pytest.mark.parametrize(
    ("call", "raw"),
    [
        (a_call('{"a": 1 }'), b'{"a": 1 }'),
        (call_of("tools/call", "greet", {"arguments": {"a": 1}}), b'{"a":1}'),
        (call_of("tools/call", "greet", {"arguments": {"a": 1}}, body=b"{"), b'{"a":1}'),
        (call_of("tools/call", "greet", {}), b"null"),
        (call_of("prompts/get", "greet", body=b'{"params":{}}'), b""),
        (
            call_of("completion/complete", "x", body=b'{"params":{"argument":{"name":"n"}}}'),
            b'{"name":"n"}',
        ),
    ],
    ids=["as-sent", "no-message", "no-json", "nothing", "no-arguments", "completion"],
)
def test_arguments_are_a_digest_of_what_was_sent(
    trail: Trail, tmp_path: Path, call: Call, raw: bytes
) -> None:
    trail.begin(call)
    (record,) = recorded(tmp_path)
    assert record["arguments_digest"] == KEYS.digest(raw)
    assert "arguments" not in record


def test_what_has_no_arguments_has_no_digest(trail: Trail, tmp_path: Path) -> None:
    trail.begin(call_of("resources/read", "file:///a"))
    assert "arguments_digest" not in recorded(tmp_path)[0]


def test_arguments_are_in_clear_only_where_a_rule_asks_and_without_secrets(
    trail: Trail, tmp_path: Path
) -> None:
    trail.begin(a_call())
    trail.rules = TrailRules(clear=("gr*",))
    trail.begin(a_call('{"name":"Ada","password":"hunter2hunter2","note":"wg_abcdefghij"}'))
    trail.rules = TrailRules(clear=("other",))
    trail.begin(a_call())
    records = recorded(tmp_path)
    assert [record.get("arguments") for record in records] == [
        None,
        {"name": "Ada", "password": "***", "note": "wg_***"},
        None,
    ]
    assert all("arguments_digest" in record for record in records)


def test_large_arguments_in_clear_are_told_by_their_size(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "MAX_CLEAR_BYTES", 10)
    trail.rules = TrailRules(clear=("*",))
    trail.begin(a_call())
    assert recorded(tmp_path)[0]["arguments"] == "14 bytes, more than 10"


def test_names_from_outside_cannot_break_a_line_or_hide_anything(
    trail: Trail, tmp_path: Path
) -> None:
    name = 'a"\n{"mac":"x"}\u202e wg_0123456789abcdef' + "x" * 2000
    trail.begin(call_of("tools/call", name, request_id='r"\n'))
    (record,) = recorded(tmp_path)
    assert record["request_id"] == 'r"\n'
    assert "0123456789" not in record["name"]
    assert "\u202e" not in record["name"]
    assert len(record["name"]) < 600
    assert verify(tmp_path, KEYS).is_whole


def test_what_is_known_of_calls_is_bounded(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "_MAX_KNOWN", 3)
    for number in range(10):
        trail.begin(call_of("tools/call", f"t{number}"))
    assert len(trail._known) <= 3


def test_a_flood_at_the_door_is_counted_and_summed(tmp_path: Path) -> None:
    now = 0.0
    with open_trail(tmp_path) as opened:
        trail = Trail(opened.journal, Redactor(), lambda: 0.0, lambda: now)
        trail.rules = TrailRules(refusals_per_s=2)
        for reason in ("missing", "invalid", "invalid", "invalid", "expired"):
            trail.refuse_at_door(reason)
        assert len(recorded(tmp_path)) == 2
        now = 1.0
        trail.refuse_at_door("missing")
        trail.sum_refusals()  # nothing more to tell
    records = recorded(tmp_path)
    assert [record["outcome"] for record in records] == ["missing", "invalid", "summed", "missing"]
    assert records[2]["counts"] == {"invalid": 2, "expired": 1}


def test_administration_is_recorded_without_secrets(trail: Trail, tmp_path: Path) -> None:
    details = {"key": "4f2a", "secret": "s" * 30}
    trail.record("keys.revoke", principal="key:admin", details=details, request_id="r")
    (record,) = recorded(tmp_path)
    assert (record["kind"], record["name"], record["principal"]) == (
        "administration",
        "keys.revoke",
        "key:admin",
    )
    assert record["details"] == {"key": "4f2a", "secret": "***"}


def test_without_a_journal_nothing_begins_and_ends_wait_for_it(
    trail: Trail, tmp_path: Path
) -> None:
    call = a_call()
    trail.begin(call)
    with pytest.MonkeyPatch.context() as patch:
        break_writing(patch)
        with pytest.raises(StorageError):
            trail.begin(a_call())
        with pytest.raises(StorageError):
            trail.record("keys.create", principal="local")
        trail.end(call, "ok", 0.1)
        trail.refuse(a_call(), "forbidden", 0.1)
        trail.retry()
        assert (len(trail.waiting), trail.lost) == (1, 1)
    trail.retry()
    assert not trail.waiting
    records = recorded(tmp_path)
    assert [record["kind"] for record in records] == ["start", "outcome", "lifecycle"]
    assert records[1]["start"] == 1
    assert records[2]["name"] == "healed"
    trail.retry()  # all is well, nothing to write
    assert len(recorded(tmp_path)) == 3


def test_ends_that_wait_are_bounded(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "MAX_WAITING", 2)
    call = a_call()
    trail.begin(call)
    with monkeypatch.context() as patch:
        break_writing(patch)
        for _ in range(3):
            trail.end(call, "ok", 0.1)
    assert (len(trail.waiting), trail.lost) == (2, 1)


def test_while_the_disk_fails_nothing_begins(trail: Trail) -> None:
    trail.begin(a_call())
    trail.journal.sync_problem = "Input/output error"
    with pytest.raises(StorageError, match="Input/output error"):
        trail.begin(a_call())


async def test_the_beginning_can_be_waited_for(trail: Trail) -> None:
    call = a_call()
    trail.begin(call)
    await trail.wait_begun(call)
    assert trail.journal.durable.sequence == call.audit_sequence
