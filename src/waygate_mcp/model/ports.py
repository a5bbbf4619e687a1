"""Our verbs: the Protocols by which rooms know each other without importing each other.

Knows signatures. Refuses to know any class that fulfils them; `runtime/builders.py` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datetime import datetime

if TYPE_CHECKING:  # annotations only: call.py needs Caller, and Caller names what call.py holds
    from waygate_mcp.errors import WaygateError
    from waygate_mcp.model.call import Answer, Call, LogEvent, Outcome, Progress, Question
    from waygate_mcp.model.catalog import Features, Kind, Listing, NameClaim, Viewer
    from waygate_mcp.model.event import Event
    from waygate_mcp.model.facts import Facts
    from waygate_mcp.model.keys import StoredKey
    from waygate_mcp.model.pins import Approval, Pin, Sighting
    from waygate_mcp.model.principal import Principal

__all__ = [
    "Announce",
    "AuditTrail",
    "Authenticator",
    "Bucket",
    "CallLog",
    "CallRecorder",
    "Caller",
    "CounterStore",
    "FactStore",
    "FarCounterStore",
    "Handler",
    "KeyStore",
    "NameStore",
    "PinStore",
    "Provider",
    "Refreshable",
    "Screening",
    "Shortage",
    "Step",
    "Supervisor",
    "TaskTeller",
]


class Caller(Protocol):
    """The client's side of one call, as a provider sees it."""

    @property
    def log_level(self) -> str | None:
        """The least severe level the client wants of this call's log, None for no messages."""

    async def emit(self, event: Progress | LogEvent) -> None:
        """Send progress or a log message to the client, in order.

        What the client did not ask for (no progress token, a level below its own, progress that
        does not grow) is dropped here, so that providers need not know.
        """

    async def ask(self, question: Question) -> Answer:
        """Ask the client and wait for its answer, whatever way the question has to travel.

        Several may be asked at once. For modern clients the call is parked meanwhile.

        Raises:
            CapabilityMissingError: the client did not declare that it can answer.
            LimitError: too many parked calls.
            InterruptedCallError: the client or the server went away.
        Spec: 2026-07-28 basic/patterns/mrtr; 2025-11-25 client/elicitation.
        """

    async def close_stream(self) -> None:
        """End the client's event stream while the call goes on, where the revision can resume it.

        Spec: 2025-11-25 basic/transports, "Resumability and Redelivery". Elsewhere a no-op.
        """


class Provider(Protocol):
    """Who offers entries and answers calls: Python functions, or an upstream server."""

    @property
    def name(self) -> str:
        """The name in the document, the prefix of its entries."""

    @property
    def features(self) -> Features:
        """What it can do, answered from memory."""

    @property
    def instructions(self) -> str | None:
        """Its advice to models, if any."""

    async def listing(self, kind: Kind, viewer: Viewer) -> Listing:
        """Give all entries of `kind` that exist for `viewer`."""

    def call(self, call: Call) -> Awaitable[Outcome]:
        """Answer one call; `call.target` is this provider's own name of the entry.

        `call.method` is one of tools/call, prompts/get, resources/read, completion/complete,
        resources/subscribe, resources/unsubscribe; and, of a task it handed out (`Reply.task_id`),
        tasks/get, tasks/result, tasks/update, tasks/cancel, where `call.target` is the task's id.
        Interim messages go to `call.caller`. A tool's own failure is a Reply with `is_error`.

        Raises:
            UnknownNameError: there is no such entry.
            InvalidArgumentsError: prompts and completions only; tools answer with `is_error`.
            RpcError: an error that reaches the client as it is.
            UpstreamError: see errors.py.
        """


@runtime_checkable
class TaskTeller(Protocol):
    """A provider that can tell how tasks are without being asked."""

    def tell_of_tasks(
        self,
        ids: tuple[str, ...],
        on_task: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> AbstractAsyncContextManager[frozenset[str]]:
        """Tell of these tasks, by its own ids, until the context is left; gives those it agreed to.

        `on_task` is given the raw parameters of each `notifications/tasks`, `on_end` called when no
        more will come. Neither blocks nor raises.

        Raises:
            UpstreamError: nothing can be heard.
        """


@runtime_checkable
class Refreshable(Protocol):
    """A provider that keeps copies of its lists and can be told that one is out of date."""

    async def refresh(self, kind: Kind, viewer: Viewer) -> None:
        """Read a list again, however fresh the copy is taken to be. Waits as `listing` does.

        Never raises for what an upstream does.
        """


class NameStore(Protocol):
    """Where claims of public names outlive the process."""

    async def load(self) -> Sequence[NameClaim]:
        """Give all claims, oldest first."""

    async def claim(self, wanted: Mapping[NameClaim, NameClaim | None]) -> Sequence[NameClaim]:
        """Store claims whose names are free, and give those in force for the same names.

        A name is free where nobody claims it, or where the claim is the one that `wanted` says is
        void. Another process may have been first.

        Raises:
            StorageError: nothing was stored.
        """


class KeyStore(Protocol):
    """Where API keys are kept. A change is durable once its method has returned."""

    async def changed_since(self, version: int) -> Sequence[StoredKey]:
        """Give the keys that changed after a version, in the order they did; all for 0.

        Raises:
            StorageError: the store does not answer; so do all methods here.
        """

    async def find(self, id_: str) -> StoredKey | None:
        """Give one key by its public id."""

    async def add(self, key: StoredKey) -> StoredKey:
        """Keep a new key; gives it with its version."""

    async def rotate(
        self, id_: str, digest: bytes, previous_until: datetime, now: datetime
    ) -> StoredKey | None:
        """Give a key a new text; the one before is good until `previous_until`.

        None where there is no such key that is not revoked.
        """

    async def revoke(self, id_: str, now: datetime) -> StoredKey | None:
        """Take a key back, both texts of it. None where there is no such key that is not revoked."""

    async def note_use(self, used: Mapping[str, datetime]) -> None:
        """Keep when keys were last used; changes no version."""


Handler = Callable[["Call"], Awaitable["Outcome"]]

Announce = Callable[["Event"], None]
"""How a provider tells of changes; never blocks, never raises."""


@runtime_checkable
class Screening(Protocol):
    """A provider that holds entries back until somebody approves them."""

    def held_names(self, kind: Kind) -> Sequence[str]:
        """Give the entries that are known and held back, by the provider's own names."""


class Step(Protocol):
    """One ring around every call."""

    def __call__(self, call: Call, call_next: Handler) -> Awaitable[Outcome]:
        """Do something before, call `call_next`, do something after; or answer or raise instead."""


class Authenticator(Protocol):
    """Turns the credential headers of a request into a principal."""

    def authenticate(self, headers: Mapping[bytes, bytes]) -> Principal:
        """Decide who is calling, from `authorization` and `x-api-key` alone.

        Raises:
            UnauthenticatedError: no credential, or not a valid one.
            RemoteProtocolError: two different credentials in one request.
            UnverifiedError: the decision takes waiting; see `model/unverified.py`.
            UpstreamUnavailableError: nobody can decide now.
        """


class CallLog(Protocol):
    """Keeps a record of calls that were answered."""

    def note(self, call: Call, result: str, seconds: float, failure: WaygateError | None) -> None:
        """Note how a call ended: one of `CallResult`. Never blocks, never raises."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One counter: `window_s / interval_s` are free when it is whole, one more every `interval_s`.

    `key` tells it from all others, `scope` is one word for the metric.
    """

    key: str
    scope: str
    count: int
    interval_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Shortage:
    """Which bucket was empty, the seconds until it has one, and until it is whole."""

    bucket: Bucket
    retry_after_s: float
    reset_s: float


class CounterStore(Protocol):
    """Counts calls against rates."""

    def take(self, buckets: Sequence[Bucket]) -> Shortage | None:
        """Take one out of every bucket; where one of them is empty, take none and say which.

        Never blocks for longer than a few microseconds, never raises. A clock that does not go back
        measures the time.
        """


class FarCounterStore(Protocol):
    """Counts calls against rates, and may have to ask somebody else. Every CounterStore is one."""

    def take(self, buckets: Sequence[Bucket]) -> Shortage | Awaitable[Shortage | None] | None:
        """Do as `CounterStore.take`, or give what is to be awaited first, which never raises.

        The wait is bounded by a few tenths of a second.
        """


class FactStore(Protocol):
    """Remembers what upstreams can do. `key` tells what is configured under a name from what was."""

    def recall(self, name: str, key: str) -> Facts | None:
        """Give what was last kept of an upstream, from memory."""

    def keep(self, name: str, key: str, facts: Facts) -> None:
        """Remember what an upstream said. Never blocks, never raises."""


class PinStore(Protocol):
    """Where pins of definitions are kept, for all processes. How pins change is `model/pins.py`'s."""

    async def load(self, after: int = 0) -> Sequence[Pin]:
        """Give all pins whose version is greater than `after`, in the order of their versions.

        Raises:
            StorageError: they cannot be read.
        """

    async def see(self, sightings: Sequence[Sighting]) -> Sequence[Pin]:
        """Store what was seen, all or nothing, and give the pins in force for all of it.

        Another process may have been first: then its sighting counts, and this one may be a change.

        Raises:
            StorageError: nothing was stored.
        """

    async def approve(self, approvals: Sequence[Approval], by: str) -> Sequence[Pin]:
        """Approve what waits under exactly these digests, and give those pins; others stay.

        Raises:
            StorageError: nothing was stored.
        """

    async def reject(self, approvals: Sequence[Approval]) -> Sequence[Pin]:
        """Drop changes that wait under exactly these digests, and give those pins; others stay.

        Raises:
            StorageError: nothing was stored.
        """


class Supervisor(Protocol):
    """Owns every task that no request owns."""

    def start(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> Any:
        """Run `coroutine` as a named task; its failure is logged, its end awaited at close.

        Returns the task, to be cancelled by whoever started it.
        """


class AuditTrail(Protocol):
    """Where acts of administration are recorded, so that nobody can change them afterwards."""

    def record(
        self,
        action: str,
        *,
        principal: str,
        outcome: str = "done",
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> None:
        """Write one record: before an act, and again after it where it can fail.

        `action` is a word such as `keys.revoke`, `principal` the id of who acts. `details` are plain
        JSON; secrets are taken out. Blocks for one small `write`, never for the disk.

        Raises:
            StorageError: it cannot be written; the act must not be done.
        """


class CallRecorder(Protocol):
    """Where calls are recorded, before their effect and after it. Called by the event loop only."""

    def begin(self, call: Call) -> None:
        """Record that a call is allowed and begins; its number goes into `call.audit_sequence`.

        Raises:
            StorageError: it cannot be written; the call must not be made.
        """

    async def wait_begun(self, call: Call) -> None:
        """Wait until the record of its beginning is on the disk.

        Raises:
            StorageError: it is not, and the call must not be made.
        """

    def end(self, call: Call, outcome: str, seconds: float) -> None:
        """Record how a call ended that had begun. Never raises: what cannot be written waits."""

    def refuse(self, call: Call, code: str, seconds: float) -> None:
        """Record that a call was refused before it began. Never raises."""
