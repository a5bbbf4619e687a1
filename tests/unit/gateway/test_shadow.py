"""Whom roles in shadow would refuse: counted, logged within bounds, noted on the call, never refused."""

from __future__ import annotations

import logging

import pytest

from tests.support.providers import make_call
from waygate_mcp.config.roles import roles_of
from waygate_mcp.gateway.shadow import LOG_EVERY_S, judge_in_shadow
from waygate_mcp.model.call import Call
from waygate_mcp.model.principal import Principal, principal_of
from waygate_mcp.model.shadow import ShadowRoles

ROLES = roles_of({"agent": ["session:open", "tools:list", "tools:call"]})
AGENT = principal_of("key:a", "a", ROLES["agent"], roles=("agent",))


def a_call(name: str, principal: Principal = AGENT) -> Call:
    call = make_call("tools/call", {"name": name}, principal=principal)
    call.name, call.provider = name, "files"
    return call


def test_whom_it_would_refuse_is_noted_and_served(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    now_s = 100.0
    roles = ShadowRoles(
        ROLES, roles_of({"agent": ["tools:list", "tools:call:read*"]}, built_in=False)
    )
    judge = judge_in_shadow(roles, counted.append, lambda: now_s)
    with caplog.at_level(logging.WARNING):
        for name in ("read_it", "write_it", "write_more", "write_most"):
            call = a_call(name)
            judge(call)
            assert call.shadowed == (() if name == "read_it" else ("agent",))
        assert counted == ["agent"] * 3
        assert len(caplog.messages) == 1
        assert "agent in shadow would refuse tools/call write_it to key:a (0 more" in caplog.text
        now_s += LOG_EVERY_S
        judge(a_call("write_it"))
    assert len(caplog.messages) == 2
    assert "(2 more" in caplog.messages[1]
