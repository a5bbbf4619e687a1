from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.providers import FakeCaller
from waygate_mcp.cli import gateway_client
from waygate_mcp.cli.gateway_client import Where, ask_gateway, open_gateway, read_key
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import (
    CallTimeoutError,
    ConfigError,
    RpcError,
    UpstreamUnavailableError,
)
from waygate_mcp.model.call import Answer, Call, InputRequired, Outcome, Question, Reply
from waygate_mcp.upstreams.detect import CredentialsWantedError


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "more", "expected"),
    [
        ({}, {}, "http://127.0.0.1:8000/mcp"),
        ({"host": "0.0.0.0", "port": 9}, {}, "http://127.0.0.1:9/mcp"),
        ({"host": "::"}, {}, "http://[::1]:8000/mcp"),
        ({"host": "example.org"}, {"endpoint": "dev"}, "http://example.org:8000/servers/dev/mcp"),
        ({}, {"url": "https://a.example"}, "https://a.example/mcp"),
        ({}, {"url": "https://a.example/x/mcp"}, "https://a.example/x/mcp"),
    ],
)
def test_the_address_of_a_gateway(
    values: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    assert Where(settings(**values), **more).address == expected


def test_a_key_comes_from_the_option_first_then_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("wg_file\n")
    assert read_key(Where(settings())) is None
    assert read_key(Where(settings(api_key="wg_env"))) == "wg_env"
    assert read_key(Where(settings(api_key_file=file))) == "wg_file"
    assert read_key(Where(settings(api_key="wg_env"), key_file=file)) == "wg_file"


@pytest.mark.parametrize(
    "content", [b"", b"two words", b"line\nline", b"\xff", "schlüssel".encode()]
)
def test_a_file_that_holds_no_key_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_key(Where(settings(), key_file=file))
    assert "schl" not in str(caught.value)
    with pytest.raises(ConfigError):
        read_key(Where(settings(), key_file=tmp_path / "missing"))


class Scripted:
    """A gateway that gives prepared outcomes; keeps how it was called."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[tuple[Any, Any]] = []

    async def entries(self, kind: Any) -> tuple[Any, ...]:
        return ()

    async def call(self, call: Call) -> Outcome:
        self.seen.append((call.input_responses, call.request_state))
        return self.outcomes.pop(0)


ACCEPT = Answer(b'{"action":"accept"}')
QUESTION = Question("elicitation/create", b"{}", "k")


async def test_rounds_of_questions_are_answered_to_the_reply() -> None:
    gateway = Scripted(
        InputRequired({"k": QUESTION}, "one"), InputRequired({}, "two"), Reply(b"{}")
    )
    caller = FakeCaller(lambda _: ACCEPT)
    where = Where(settings())
    assert await ask_gateway(gateway, where, "tools/call", {"name": "t"}, caller) == Reply(b"{}")
    assert gateway.seen == [(None, None), ({"k": ACCEPT.result}, "one"), (None, "two")]


async def test_a_refused_question_and_endless_questions_end_the_call() -> None:
    where = Where(settings())
    refusing = FakeCaller(lambda _: Answer(None, -32601, "no"))
    gateway = Scripted(InputRequired({"k": QUESTION}))
    with pytest.raises(RpcError) as caught:
        await ask_gateway(gateway, where, "tools/call", {"name": "t"}, refusing)
    assert caught.value.rpc_code == -32601
    endless = Scripted(*[InputRequired({"k": QUESTION}) for _ in range(20)])
    with pytest.raises(RpcError, match="rounds"):
        await ask_gateway(endless, where, "tools/call", {"name": "t"}, FakeCaller(lambda _: ACCEPT))


async def test_a_call_without_an_answer_is_given_up() -> None:
    class Silent(Scripted):
        async def call(self, call: Call) -> Outcome:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(CallTimeoutError):
        await ask_gateway(
            Silent(), Where(settings(), timeout_s=0.0), "tools/call", {}, FakeCaller()
        )


class Places:
    """Replaces both ways of opening a gateway; `failure` is what the far one meets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: Exception | None) -> None:
        @asynccontextmanager
        async def remote(_: Where) -> AsyncIterator[str]:
            if failure is not None:
                raise failure
            yield "far"

        @asynccontextmanager
        async def here(_: Where) -> AsyncIterator[str]:
            yield "near"

        monkeypatch.setattr(gateway_client, "_open_remote", remote)
        monkeypatch.setattr(gateway_client, "_open_here", here)

    async def open(self, **more: Any) -> Any:
        async with open_gateway(Where(settings(), **more)) as gateway:
            return gateway


async def test_a_running_gateway_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(monkeypatch, None)
    assert await places.open() == "far"
    assert await places.open(in_process=True) == "near"


async def test_where_none_runs_one_is_started_here_unless_a_url_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Places(monkeypatch, UpstreamUnavailableError("gateway", "refused"))
    assert await places.open() == "near"
    assert "in this process" in capsys.readouterr().err
    with pytest.raises(UpstreamUnavailableError):
        await places.open(url="http://127.0.0.1:1/mcp")


async def test_a_gateway_that_wants_a_key_is_not_gone_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = Places(monkeypatch, CredentialsWantedError("gateway", "401"))
    with pytest.raises(CredentialsWantedError):
        await places.open()
