"""What is recorded: calls before and after, refusals, administration, the journal's own life.

Knows what a record says. Refuses to know how it is kept. Fulfils `model.ports.AuditTrail` and
`CallRecorder`. Texts from outside are clipped, escaped and redacted once, then remembered, since the
same callers call the same names: a record costs one look-up, one MAC and one `write`.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from waygate_mcp.audit.journal import REFUSAL, Journal
from waygate_mcp.errors import StorageError
from waygate_mcp.model.call import Call
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.telemetry.timestamps import Stamp

__all__ = ["KINDS", "Trail", "TrailRules"]

KINDS = ("start", "outcome", "refusal", "administration", "lifecycle")
"""What a record can be of. `start` is the decision to allow a call, and its beginning."""

MAX_NAME_CHARS = 512
MAX_CLEAR_BYTES = 8 * 1024
MAX_WAITING = 10_000
"""Ends of calls that wait for a journal that cannot be written."""

_MAX_KNOWN = 4096
_HAVE_ARGUMENTS = frozenset({"tools/call", "prompts/get", "completion/complete"})
_json = msgspec.json.Encoder().encode
_is_plain = re.compile(r"[A-Za-z0-9._-]*").fullmatch


class TrailRules(msgspec.Struct, frozen=True):
    """What the document wants. `clear` are patterns of public names whose arguments are written in clear."""

    clear: Sequence[str] = ()
    refusals_per_s: int = 10


class _Params(msgspec.Struct):
    arguments: msgspec.Raw = msgspec.Raw()
    argument: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    params: _Params | None = None


_cut = msgspec.json.Decoder(_Message).decode


class Trail:
    """Writes the records of one process. `rules` may be replaced at any time.

    `last_s` is when the last record was written (seconds since 1970), 0 before that. `waiting` are
    bodies of records that could not be written yet, oldest first; `lost` counts those beyond the bound.
    """

    def __init__(
        self,
        journal: Journal,
        redactor: Redactor,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.journal = journal
        self.last_s = 0.0
        self.waiting: deque[bytes] = deque()
        self.lost = 0
        self._append = journal.append
        self._digest = journal.keys.digest
        self._redactor = redactor
        self._now = now
        self._monotonic = monotonic
        self._stamp = Stamp(now).now
        self._rules = TrailRules()
        self._known: dict[tuple[str, ...], tuple[bytes, bool]] = {}
        self._refused: Counter[str] = Counter()
        self._second = 0
        self._in_second = 0

    @property
    def rules(self) -> TrailRules:
        """What the document in force wants."""
        return self._rules

    @rules.setter
    def rules(self, rules: TrailRules) -> None:
        if rules != self._rules:
            self._rules = rules
            self._known.clear()

    def begin(self, call: Call) -> None:
        """Record that a call is allowed and begins; see `CallRecorder`."""
        if self.journal.sync_problem is not None:
            raise StorageError(
                f"the audit journal: {self.journal.sync_problem}", safe_message=REFUSAL
            )
        about, is_clear = self._about(call)
        arguments = self._arguments(call, is_clear)
        call.audit_sequence = self._write(
            b'"at":"%b","kind":"start",%b%b' % (self._stamp().encode(), about, arguments)
        )

    async def wait_begun(self, call: Call) -> None:
        """Wait until the record of its beginning is on the disk; see `CallRecorder`."""
        await self.journal.wait_durable(call.audit_sequence)

    def end(self, call: Call, outcome: str, seconds: float) -> None:
        """Record how a call ended that had begun; see `CallRecorder`."""
        self._write_or_wait(
            b'"at":"%b","kind":"outcome",%b,"start":%d,"outcome":"%b",%b"duration_ms":%.3f'
            % (
                self._stamp().encode(),
                self._about(call)[0],
                call.audit_sequence,
                outcome.encode(),
                b'"shadow":%b,' % _json(call.shadowed) if call.shadowed else b"",
                seconds * 1000,
            )
        )

    def refuse(self, call: Call, code: str, seconds: float) -> None:
        """Record that a call was refused before it began; see `CallRecorder`."""
        about, is_clear = self._about(call)
        self._write_or_drop(
            b'"at":"%b","kind":"refusal",%b%b,"outcome":"%b","duration_ms":%.3f'
            % (
                self._stamp().encode(),
                about,
                self._arguments(call, is_clear),
                code.encode(),
                seconds * 1000,
            )
        )

    def refuse_at_door(self, reason: str) -> None:
        """Record a credential that was refused; beyond so many a second they are only counted."""
        second = int(self._monotonic())
        if second != self._second:
            self.sum_refusals()
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > self._rules.refusals_per_s:
            self._refused[reason] += 1
            return
        self._write_or_drop(self._body({"kind": "refusal", "name": "door", "outcome": reason}))

    def sum_refusals(self) -> None:
        """Write how many refusals at the door were counted and not recorded one by one."""
        if self._refused:
            counts, self._refused = dict(self._refused), Counter()
            body = {"kind": "refusal", "name": "door", "outcome": "summed", "counts": counts}
            self._write_or_drop(self._body(body))

    def record(
        self,
        action: str,
        *,
        principal: str,
        outcome: str = "done",
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> None:
        """Record an act of administration; see `AuditTrail`."""
        self._write(
            self._body(
                {
                    "kind": "administration",
                    "principal": self._text(principal),
                    "name": self._text(action),
                    "outcome": self._text(outcome),
                    "details": self._redactor.value(dict(details or {})),
                    "request_id": self._text(request_id),
                }
            )
        )

    def note(self, name: str, **details: Any) -> None:
        """Record something of the journal's own life.

        Raises:
            StorageError: it cannot be written.
        """
        self._write(self._body({"kind": "lifecycle", "name": name, "details": details}))

    def mark_unknown(self, chain: str, start: int, record: Mapping[str, Any]) -> None:
        """Record that a call which a process left open when it died ended nobody knows how.

        Raises:
            StorageError: it cannot be written.
        """
        kept = ("principal", "endpoint", "method", "name", "request_id")
        body = {key: record[key] for key in kept if key in record}
        of = {"kind": "outcome", "of": chain, "start": start, "outcome": "unknown"}
        self._write(self._body({**of, **body}))

    def retry(self) -> None:
        """Write what waits, and so find out whether the journal can be written again. Never raises."""
        problem = self.journal.problem
        try:
            if problem is not None:
                failures = self.journal.failures
                self.note("healed", problem=problem, failures=failures, lost=self.lost)
            else:
                self._write_waiting()
        except StorageError:
            return

    def _write(self, body: bytes) -> int:
        if self.waiting:
            self._write_waiting()
        sequence = self._append(body)
        self.last_s = self._now()
        return sequence

    def _write_waiting(self) -> None:
        while self.waiting:
            self._append(self.waiting[0])
            self.waiting.popleft()

    def _write_or_wait(self, body: bytes) -> None:
        try:
            self._write(body)
        except StorageError:
            if len(self.waiting) < MAX_WAITING:
                self.waiting.append(body)
            else:
                self.lost += 1

    def _write_or_drop(self, body: bytes) -> None:
        try:
            self._write(body)
        except StorageError:  # what did not happen needs no record to be made up later
            self.lost += 1

    def _body(self, fields: Mapping[str, Any]) -> bytes:
        return _json({"at": self._stamp(), **fields})[1:-1]

    def _about(self, call: Call) -> tuple[bytes, bool]:
        """Give who calls what, as members of an object, and whether arguments are written in clear."""
        key = (call.principal.id, call.endpoint, call.method, call.name, call.provider)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            fields = {
                "principal": self._text(call.principal.id),
                "endpoint": call.endpoint,
                "method": call.method,
                "upstream": call.provider,
                "name": self._text(call.name),
            }
            is_clear = call.method in _HAVE_ARGUMENTS and any(
                fnmatchcase(call.name, pattern) for pattern in self._rules.clear
            )
            known = self._known[key] = _json(fields)[1:-1], is_clear
        about, is_clear = known
        request_id = call.request_id
        plain = request_id.encode() if _is_plain(request_id) else _json(request_id)[1:-1]
        return b'%b,"request_id":"%b"' % (about, plain), is_clear

    def _arguments(self, call: Call, is_clear: bool) -> bytes:
        """Give the members about the arguments, each with a comma before it."""
        if call.method not in _HAVE_ARGUMENTS:
            return b""
        raw = _raw_arguments(call)
        digest = b',"arguments_digest":"%b"' % self._digest(raw).encode()
        if not is_clear:
            return digest
        clear = _json(self._redactor.value(dict(call.arguments)))
        if len(clear) > MAX_CLEAR_BYTES:
            clear = _json(f"{len(clear)} bytes, more than {MAX_CLEAR_BYTES}")
        return b'%b,"arguments":%b' % (digest, clear)

    def _text(self, text: str) -> str:
        return self._redactor.text(text, MAX_NAME_CHARS)


def _raw_arguments(call: Call) -> bytes | msgspec.Raw:
    """Give the arguments as they came in; encoded anew where the call did not come in as one message."""
    try:
        params = _cut(call.body).params
    except (msgspec.DecodeError, RecursionError):
        params = None
    if params is None:
        return _json(call.params.get("arguments"))
    return params.arguments or params.argument
