"""Frames between workers and the host of processes: calls, errors, limits."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.support.dialogues import person
from waygate_mcp.config.secrets import SecretText
from waygate_mcp.errors import (
    CapabilityMissingError,
    ConfigError,
    InvalidArgumentsError,
    RpcError,
    TooLargeError,
    UnknownNameError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    WaygateError,
)
from waygate_mcp.model.call import Call, Question
from waygate_mcp.model.catalog import Kind
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams import host_frames as frames
from waygate_mcp.upstreams.host_frames import Failure, FrameStream, call_of, frame_of, viewer_of
from waygate_mcp.upstreams.legacy import NotLegacyError
from waygate_mcp.upstreams.opening import UpstreamConfig
from waygate_mcp.upstreams.process import ProcessLimits

_decode = msgspec.msgpack.Decoder(frames.FromWorker | frames.FromHost).decode


class Caller:
    """A client's side of which only the level is asked."""

    log_level = "warning"


def call_with(**members: Any) -> Call:
    given: dict[str, Any] = {
        "request_id": "r-1",
        "endpoint": "dev",
        "method": "tools/call",
        "name": "box__ask",
        "params": {"name": "box__ask", "arguments": {"a": 1}},
        "body": b'{"method":"tools/call","params":{"name":"box__ask","arguments":{"a": 1}}}',
        "principal": person("alice", "tools:call"),
        "revision": MODERN,
        "capabilities": ClientCapabilities(16, ("x/y",)),
        "caller": Caller(),
        "deadline_s": 12.5,
        "target": "ask",
        "provider": "box",
        "progress_token": "t",
        "input_responses": {"w1": b'{"action":"accept"}'},
        "request_state": "state",
        "session_id": "s-1",
        "client_name": "test",
    }
    return Call(**(given | members))


def crossed(call: Call, caller: Any = None) -> Call:
    """A call as the host sees it."""
    begin = _decode(msgspec.msgpack.encode(frame_of(call, 7)))
    assert begin.number == 7
    return call_of(begin, call.provider, caller or call.caller)


def test_a_call_arrives_as_it_was_sent() -> None:
    call = call_with()
    there = crossed(call)
    for name in Call.__struct_fields__:
        assert getattr(there, name) == getattr(call, name), name
    assert there.principal.fingerprint == call.principal.fingerprint


def test_every_member_of_a_call_crosses_over_or_stays_for_a_reason() -> None:
    """A new member of Call has to travel as well; this test is where that is noticed."""
    # The record, the gate and what is tried in shadow are the worker's, which asks before it sends.
    stays = {"caller", "headers", "provider", "audit_sequence", "gate", "shadowed"}
    sent = set(frames.Begin.__struct_fields__) - {"number", "person", "log_level"} | {"principal"}
    assert sent | stays == set(Call.__struct_fields__)


@pytest.mark.parametrize(
    "body", [b"", b'[{"method":"tools/call"}]', b'{"method":"prompts/get","params":{}}', b"{"]
)
def test_where_the_bytes_are_not_the_call_its_parameters_travel(body: bytes) -> None:
    call = call_with(body=body, params={"name": "box__ask", "arguments": {"a": 2}})
    there = crossed(call)
    assert (there.params, there.body) == (call.params, b"")


def test_who_looks_at_a_list_arrives() -> None:
    viewer = person("alice")
    capabilities = ClientCapabilities(8)
    there = viewer_of(frames.List(1, Kind.TOOL, frames.Person.of(viewer), capabilities))
    assert (there.principal, there.capabilities) == (viewer, capabilities)


def test_a_configuration_arrives_equal_so_that_it_is_shared() -> None:
    config = UpstreamConfig(
        command="npx",
        args=("-y", "x"),
        env={"A": "b"},
        process_limits=ProcessLimits(memory_bytes=5),
        sessions="principal",
    )
    there = _decode(msgspec.msgpack.encode(frames.Open(b"k", "files", config)))
    assert there.config == config


def test_text_of_a_reference_arrives_as_text() -> None:
    config = UpstreamConfig(command="npx", env={"KEY": SecretText("abc")})
    there = _decode(frames._encode(frames.Open(b"k", "files", config, ("abc",))))
    assert (there.config, there.secrets) == (config, ("abc",))
    assert type(there.config.env["KEY"]) is str


def test_what_has_no_form_on_the_wire_is_a_bug() -> None:
    with pytest.raises(NotImplementedError, match="object does not travel"):
        frames._encode(object())


# --- errors


@pytest.mark.parametrize(
    "error",
    [
        RpcError(-32099, "no", b'{"a":1}'),
        UnknownNameError("tool", "x", safe_message="Unknown"),
        InvalidArgumentsError(["a is missing", "b is no number"]),
        CapabilityMissingError({"elicitation": {"form": {}}}),
        TooLargeError(5),
        UpstreamTimeoutError("box", "late", safe_message="It is late."),
        WaygateError("inner"),
    ],
)
def test_an_error_is_raised_as_it_was(error: WaygateError) -> None:
    failure = Failure.of(error)
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure).error()
    assert type(there) is type(error)
    assert (str(there), vars(there)) == (str(error), vars(error))


def test_an_error_of_a_room_becomes_the_one_it_refines() -> None:
    there = Failure.of(NotLegacyError("box", "wrong era")).error()
    assert type(there) is UpstreamProtocolError
    assert (there.upstream, str(there)) == ("box", "wrong era")


def test_facts_that_are_no_plain_values_stay_behind() -> None:
    failure = Failure.of(ConfigError("no such program", path="command"))
    assert failure.facts["path"] == "command"
    assert "problems" not in failure.facts
    assert isinstance(failure.error(), ConfigError)


def test_a_class_nobody_knows_is_the_root_of_all() -> None:
    for kind in ("NoSuchError", "leaf_errors"):
        there = Failure(kind, "m", "s", {}).error()
        assert type(there) is WaygateError


# --- the stream


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[FrameStream, FrameStream]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    ends = []
    for sock, kind in ((ours, frames.FromHost), (theirs, frames.FromWorker)):
        reader, writer = await asyncio.open_connection(sock=sock)
        ends.append(FrameStream(reader, writer, "box", kind))
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()
        await asyncio.sleep(0)


async def test_frames_arrive_in_order_and_then_the_end() -> None:
    async with pair() as (worker, host):
        await worker.send(frames.Cancel(1))
        worker.put(frames.Cancel(2))
        assert [await host.receive(), await host.receive()] == [frames.Cancel(1), frames.Cancel(2)]
        question = Question("roots/list", b"{}", "k")
        await host.send(frames.Asked(1, 1, question))
        assert (await worker.receive()).what == question
        worker.close()
        assert await host.receive() is None


async def test_what_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    async with pair() as (worker, _host):
        with pytest.raises(TooLargeError):
            await worker.send(frames.frame_of(call_with(), 1))
        assert worker.unwritten_bytes == 0


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x02{}"])
async def test_what_is_no_frame_ends_the_conversation(data: bytes) -> None:
    async with pair() as (worker, host):
        worker._writer.write(data)
        with pytest.raises(UpstreamProtocolError):
            await host.receive()


async def test_a_frame_that_breaks_off_is_the_end() -> None:
    async with pair() as (worker, host):
        worker._writer.write(b"\0\0\0\x10abc")
        await worker._writer.drain()
        worker._writer.close()
        assert await host.receive() is None


async def test_who_is_gone_cannot_be_told() -> None:
    async with pair() as (worker, host):
        host.close()
        await asyncio.sleep(0)
        large = frames.frame_of(call_with(body=json.dumps("x" * 100_000).encode()), 1)

        async def tell_for_long() -> None:
            for _ in range(100):
                await worker.send(large)
                await asyncio.sleep(0)

        with pytest.raises(UpstreamProtocolError, match="broke off"):
            await tell_for_long()
