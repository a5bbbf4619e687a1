"""What a legacy client says without awaiting an answer: responses and notifications.

Knows which of them mean something here, at whatever door they came in. Refuses to know what upstreams
make of them.
Spec: 2025-11-25 basic/utilities/cancellation; client/roots, "Root List Changes".
"""

from __future__ import annotations

from waygate_mcp.gateway.sessions import Session, Sessions
from waygate_mcp.protocol.jsonrpc import Message, MessageShape

__all__ = ["take_quietly"]

_ROOTS_CHANGED = "notifications/roots/list_changed"


def take_quietly(sessions: Sessions, session: Session, message: Message, body: bytes) -> None:
    """Take a notification or a response of a session; `body` is the message as it was written.

    1. A response goes to whoever asked.
    2. A cancellation ends the call it names.
    3. Changed roots are told to whoever keeps something for the session, if it said it would tell.
    4. The rest means nothing here.
    """
    if message.shape == MessageShape.RESPONSE:
        session.answer(message, body)
    elif message.method == "notifications/cancelled":
        session.cancel_call(message.params.get("requestId"), "cancelled by the client")
    elif message.method == _ROOTS_CHANGED and session.capabilities.roots_changed:
        sessions.on_roots_changed(session)
