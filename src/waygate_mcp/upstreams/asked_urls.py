"""The URLs clients were sent to in one upstream session, by their elicitation ids.

Knows whose call each id was given to, so that its completion is told to that session at our door and to
nobody else. Refuses to guess: an id given to two sessions is nobody's.
Spec: 2025-11-25 client/elicitation, "Completion Notifications for URL Mode Elicitation" and "URL
Elicitation Required Error"; threat model rules 11 and 12.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from waygate_mcp.errors import WaygateError
from waygate_mcp.model.call import Call, Question
from waygate_mcp.upstreams.calls import URL_REQUIRED_LEGACY
from waygate_mcp.upstreams.channel import Incoming, RemoteError

__all__ = ["COMPLETED", "AskedUrls"]

COMPLETED = "notifications/elicitation/complete"
_MAX_IDS = 1_000
_MAX_ID_CHARS = 1_024


class _Named(msgspec.Struct, rename="camel"):
    elicitation_id: str


class _Asked(msgspec.Struct, rename="camel"):
    mode: str
    elicitation_id: str


class _Required(msgspec.Struct):
    elicitations: list[_Named]


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_required = msgspec.json.Decoder(_Required).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class AskedUrls:
    """Elicitation ids and the sessions at our door that know them, the oldest forgotten beyond 1,000."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, str | None] = OrderedDict()

    def __len__(self) -> int:
        """The number of ids."""
        return len(self._sessions)

    @contextmanager
    def asking(self, call: Call, question: Question) -> Iterator[bool]:
        """Note the id of a URL question while and after it is asked; gives whether it is one.

        A question that fails was not shown to the client, which then does not know the id.
        """
        identifier = None
        if question.method == "elicitation/create" and _can_be_told(call):
            try:
                asked = _decode_asked(question.params)
            except _UNREADABLE:
                pass  # a form, or a URL without an id, which the gateway then makes up
            else:
                identifier = asked.elicitation_id if asked.mode == "url" else None
        is_noted = identifier is not None and self._note(call, identifier)
        try:
            yield is_noted
        except WaygateError:
            if is_noted:
                self._sessions.pop(identifier or "", None)
            raise

    def note_error(self, call: Call, error: RemoteError) -> bool:
        """Note the ids in an error that sends the client to URLs; True where there are any."""
        if error.code != URL_REQUIRED_LEGACY or not _can_be_told(call):
            return False
        try:
            named = _decode_required(bytes(error.data) or b"{}").elicitations
        except _UNREADABLE:
            return False
        noted = [self._note(call, one.elicitation_id) for one in named[:_MAX_IDS]]
        return any(noted)

    def complete(self, incoming: Incoming) -> tuple[str, str] | None:
        """Give session and id a completion is about, once; None where nobody is to be told."""
        try:
            identifier = _decode_named(bytes(incoming.params) or b"{}").elicitation_id
        except _UNREADABLE:
            return None
        session_id = self._sessions.pop(identifier, None)
        return None if session_id is None else (session_id, identifier)

    def _note(self, call: Call, identifier: str) -> bool:
        """Note whose an id is; False for one that is too long to be kept."""
        if len(identifier) > _MAX_ID_CHARS:
            return False
        known = self._sessions.setdefault(identifier, call.session_id)
        if known != call.session_id:
            self._sessions[identifier] = None
        if len(self._sessions) > _MAX_IDS:
            self._sessions.popitem(last=False)
        return True


def _can_be_told(call: Call) -> bool:
    """Tell whether the caller's revision has completions, and a session they can be told to."""
    has_them = call.revision.has_url_elicitation and not call.revision.is_modern
    return has_them and call.session_id is not None
