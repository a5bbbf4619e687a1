"""Tokens at the MCP door: in at once, in after waiting, sent away with what to ask for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import HOST, KEY, Answer
from tests.support.oauth_house import META, Doors, Issuer, open_doors
from tests.support.tokens import AUDIENCE, token
from waygate_mcp.auth.oauth import TokenPrincipal
from waygate_mcp.web.visit import Visit

METADATA = 'resource_metadata="https://mcp.example.org/.well-known/oauth-protected-resource'


def challenge(answer: Answer) -> str:
    return answer.header("www-authenticate") or ""


async def warmed(doors: Doors) -> None:
    """Let the first fetch, which begins with the house, come as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert doors.issuer.fetches == 1


async def test_a_token_calls_and_is_recorded_as_its_principal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        records: list[Any] = []
        doors.house.request_log.write = records.append  # type: ignore[method-assign,assignment]
        answer = await doors.post(token(), "tools/call", name="greet", arguments={"name": "Ada"})
        assert answer.json()["result"]["content"][0]["text"] == "Hello, Ada!"
        assert records[0].principal == "oauth:https://login.example.org|alice|app"
        assert token().decode() not in repr(records)


async def test_a_stranger_is_told_where_tokens_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        answer = await doors.post(None, "tools/list")
        assert answer.status == 401
        assert challenge(answer) == (
            f'Bearer realm="waygate", {METADATA}/mcp", scope="mcp:read mcp:call"'
        )
        there = await doors.post(None, "tools/list", "dev")
        assert f'{METADATA}/servers/dev/mcp"' in challenge(there)
        unknown = await doors.post(None, "tools/list", "no-such")
        assert unknown.status == 401, "nobody learns here which endpoints there are"


@pytest.mark.parametrize(
    "bad", [token(aud="https://else.example"), token(exp=1), token("ES384"), b"ey.ey.ey"]
)
async def test_a_bad_token_is_called_invalid_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes
) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        answer = await doors.post(bad, "tools/list")
        assert answer.status == 401
        assert 'error="invalid_token"' in challenge(answer)
        error = answer.json()["error"]
        assert error == {
            "code": 4401,
            "message": "The access token expired, or is not valid here.",
        }


async def test_what_a_token_lacks_is_named_with_all_that_the_request_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oauth = {"scopes_required": ["mcp:read"]}
    async with open_doors(tmp_path, monkeypatch, oauth=oauth) as doors:
        reader = token(scope="mcp:read")
        assert (await doors.post(reader, "tools/list")).status == 200
        answer = await doors.post(reader, "tools/call", name="greet", arguments={})
        assert answer.status == 403
        assert challenge(answer) == (
            'Bearer error="insufficient_scope", '
            'error_description="The access token lacks a scope for this.", '
            f'scope="mcp:read mcp:call", {METADATA}/mcp"'
        )
        assert (answer.json()["id"], answer.json()["error"]["code"]) == (1, 4403)
        nobody = await doors.post(token(scope="mcp:call"), "tools/list")
        assert nobody.status == 403
        assert 'scope="mcp:read"' in challenge(nobody)


async def test_where_no_scope_would_help_nobody_is_sent_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = {"reader": ["session:open", "tools:list"]}
    async with open_doors(tmp_path, monkeypatch, claim="roles", grants=grants) as doors:
        text = token(roles=["reader"])
        assert (await doors.post(text, "tools/list")).status == 200
        answer = await doors.post(text, "tools/call", name="greet", arguments={})
        assert (answer.status, answer.json()["error"]["code"]) == (200, 4403)
        assert challenge(answer) == ""


async def test_an_older_client_is_told_as_well_before_its_session_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = (
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
    )
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "greet"}}
    batch = [call, {"jsonrpc": "2.0", "method": "notifications/initialized"}]
    async with open_doors(tmp_path, monkeypatch) as doors:
        for message, identifier in ((call, 7), (batch, 7), ([call, {**call, "id": 8}], None)):
            body = json.dumps(message).encode()
            answer = await doors.raw(token(scope="mcp:read"), body, "default", HOST, *headers)
            if answer.status == 400:  # a batch outside of the one revision that has them
                assert isinstance(message, list)
                continue
            assert answer.status == 403
            assert 'scope="mcp:call"' in challenge(answer)
            if not isinstance(message, list):
                assert answer.json()["id"] == identifier


async def test_a_token_is_good_at_the_endpoint_it_was_issued_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = token(aud="https://mcp.example.org/servers/dev/mcp")
    both = token(aud="https://mcp.example.org")
    async with open_doors(tmp_path, monkeypatch) as doors:
        found = {
            (name, endpoint): (await doors.post(text, "tools/list", endpoint)).status
            for name, text in (("own", token()), ("dev", dev), ("both", both))
            for endpoint in ("default", "dev")
        }
    assert found == {
        ("own", "default"): 200,
        ("own", "dev"): 401,
        ("dev", "default"): 401,
        ("dev", "dev"): 200,
        ("both", "default"): 200,
        ("both", "dev"): 200,
    }


async def test_keys_let_in_only_where_the_mode_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (b"x-api-key", KEY.encode())
    async with open_doors(tmp_path, monkeypatch) as doors:
        assert (await doors.post(None, "tools/list", "default", key)).status == 401
        assert doors.house.bootstrap is None, "and none is made"
    async with open_doors(tmp_path, monkeypatch, mode="keys+oauth") as doors:
        assert (await doors.post(None, "tools/list", "default", key)).status == 200
        assert (await doors.post(KEY.encode(), "tools/list")).status == 200
        assert (await doors.post(token(), "tools/list")).status == 200
        assert (await doors.post(token(), "tools/list", "default", key)).status == 400


async def test_a_new_token_waits_for_its_issuers_keys_and_its_body_is_not_read_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer()
    issuer.gate.clear()
    async with open_doors(tmp_path, monkeypatch, mode="keys+oauth", issuer=issuer) as doors:
        read: list[int] = []
        whole = Visit.whole_body

        def noted(visit: Visit, limit: int) -> bytes | None:
            read.append(limit)
            return whole(visit, limit)

        monkeypatch.setattr(Visit, "whole_body", noted)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(doors.post(token(), "tools/list")) for _ in range(20)]
            await warmed(doors)
            key = (b"x-api-key", KEY.encode())
            assert (await doors.post(None, "tools/list", "default", key)).status == 200
            assert len(read) == 1, "who has a key waits for nobody"
            assert not any(task.done() for task in waiting)
            issuer.gate.set()
        assert {task.result().status for task in waiting} == {200}
        assert issuer.fetches == 1


async def test_while_nobody_can_judge_a_token_it_is_503_and_not_called_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer()
    issuer.is_down = True
    async with open_doors(tmp_path, monkeypatch, issuer=issuer) as doors:
        await warmed(doors)
        answers = [await doors.post(token(), "tools/list") for _ in range(3)]
        for answer in answers:
            assert answer.status == 503
            assert answer.header("retry-after") == "5"
            assert challenge(answer) == ""
            assert answer.json()["error"]["code"] == 4503
            assert "login.example.org" not in answer.body.decode()
        assert issuer.fetches == 1, "and it is not asked for each of them"
        assert (await doors.post(None, "tools/list")).status == 401


async def test_keys_outlive_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_doors(tmp_path, monkeypatch) as doors:
        assert (await doors.post(token(), "tools/list")).status == 200
        doors.issuer.is_down = True
        report = await doors.house.reload("a test")
        assert report.problems == ()
        assert (await doors.post(token(jti="2"), "tools/list")).status == 200
        assert doors.issuer.fetches == 1


async def test_a_waiting_page_reads_why_it_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = (b"origin", b"https://mcp.example.org")
    issuer = Issuer()
    issuer.gate.clear()
    async with open_doors(tmp_path, monkeypatch, issuer=issuer) as doors:
        async with asyncio.TaskGroup() as group:
            text = token(aud="https://else.example")
            bad = group.create_task(doors.post(text, "tools/list", "default", origin))
            good = group.create_task(doors.post(token(), "tools/list", "default", origin))
            await warmed(doors)
            issuer.gate.set()
        assert (bad.result().status, good.result().status) == (401, 200)


async def test_notifications_are_not_asked_for_scopes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": META}}
    headers = (
        HOST,
        (b"content-type", b"application/json"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"notifications/cancelled"),
    )
    async with open_doors(tmp_path, monkeypatch) as doors:
        answer = await doors.raw(token(scope=""), json.dumps(note).encode(), "default", *headers)
        assert answer.status == 202


def test_a_principal_of_a_token_knows_its_audience() -> None:
    principal = TokenPrincipal(
        "oauth:a|b|c", "b", issuer="a", scopes=frozenset(), endpoints=None, expires_at_s=1.0
    )
    assert principal.may_enter("anything")
    assert AUDIENCE.endswith("/mcp")
