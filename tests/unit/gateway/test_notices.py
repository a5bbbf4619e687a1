"""What a legacy client says without awaiting an answer: what of it means something."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dialogues import person
from waygate_mcp.gateway.hub import Hub
from waygate_mcp.gateway.notices import take_quietly
from waygate_mcp.gateway.sessions import Session, Sessions
from waygate_mcp.protocol.capabilities import ClientCapabilities
from waygate_mcp.protocol.handshake import Hello
from waygate_mcp.protocol.jsonrpc import Message, MessageShape
from waygate_mcp.protocol.seal import KeyRing
from waygate_mcp.protocol.versions import LATEST_LEGACY

CHANGED = Message(MessageShape.NOTIFICATION, method="notifications/roots/list_changed")


def desk(declared: dict[str, Any]) -> tuple[Sessions, Session, list[Session]]:
    heard: list[Session] = []
    sessions = Sessions(KeyRing.from_master(b"m" * 32), Hub(), lambda: 0.0, lambda: 0.0)
    sessions.on_roots_changed = heard.append
    capabilities = ClientCapabilities.parse(declared, LATEST_LEGACY)
    hello = Hello(LATEST_LEGACY, capabilities, "a client")
    return sessions, sessions.open(hello, "default", person("alice")), heard


def test_changed_roots_are_told_of_the_session_whose_client_says_so() -> None:
    sessions, session, heard = desk({"roots": {"listChanged": True}})
    other = sessions.open(
        Hello(LATEST_LEGACY, session.capabilities, "another"), "default", person("bob")
    )
    take_quietly(sessions, session, CHANGED, b"{}")
    assert heard == [session]
    take_quietly(sessions, other, CHANGED, b"{}")
    assert heard == [session, other]


@pytest.mark.parametrize("declared", [{}, {"roots": {}}, {"roots": {"listChanged": False}}])
def test_a_client_that_did_not_say_it_would_tell_is_not_heard(declared: dict[str, Any]) -> None:
    sessions, session, heard = desk(declared)
    take_quietly(sessions, session, CHANGED, b"{}")
    assert not heard


def test_other_notifications_mean_nothing() -> None:
    sessions, session, heard = desk({"roots": {"listChanged": True}})
    for method in ("notifications/initialized", "notifications/progress", "vendor/told"):
        take_quietly(sessions, session, Message(MessageShape.NOTIFICATION, method=method), b"{}")
    assert not heard


def test_sessions_nobody_listens_to_may_change_their_roots() -> None:
    _, session, _ = desk({"roots": {"listChanged": True}})
    other = Sessions(KeyRing.from_master(b"m" * 32), Hub(), lambda: 0.0, lambda: 0.0)
    take_quietly(other, session, CHANGED, b"{}")
