"""The keys that are known now, in memory, kept up to date with the store.

Knows which keys there are and how they were when the store was last asked. Refuses to know how a
request carries one. The store is asked for what changed every `POLL_S`: a key that is revoked anywhere
stops here within two seconds, whichever process or machine it was revoked by (threat model rule 7).
Where the store does not answer, what is known stays in force, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from waygate_mcp.errors import StorageError
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.ports import KeyStore

__all__ = ["KeyBook"]

_log = logging.getLogger(__name__)

POLL_S = 0.5
KEEP_USE_EVERY_S = 30.0
"""How often the store learns when keys were last used."""


class KeyBook:
    """All keys by their public id.

    `now` gives seconds of the wall clock. `on_end` is told the id of each key that is good no more, so
    that what it holds open can be closed.
    """

    def __init__(
        self,
        store: KeyStore,
        now: Callable[[], float],
        on_end: Callable[[str], None],
    ) -> None:
        self.now = now
        self._store = store
        self._on_end = on_end
        self._keys: dict[str, StoredKey] = {}
        self._version = 0
        self._good: set[str] = set()
        self._used: dict[str, float] = {}
        self._kept_use_s = 0.0
        self._is_silent = False
        self._stopping = asyncio.Event()

    def find(self, id_: str) -> StoredKey | None:
        """Give a key, whatever its state, from memory."""
        return self._keys.get(id_)

    def note_use(self, id_: str) -> None:
        """Remember that a key is in use. The store learns of it in the background."""
        self._used[id_] = self.now()

    async def refresh(self) -> None:
        """Take over what changed in the store.

        Raises:
            StorageError: it does not answer.
        """
        for key in await self._store.changed_since(self._version):
            self._keys[key.id] = key
            self._version = key.version
        self._tell_of_ended()

    async def watch(self) -> None:
        """Follow the store until `stop`."""
        while not await self._is_stopped(POLL_S):
            try:
                await self.refresh()
                if self.now() - self._kept_use_s > KEEP_USE_EVERY_S:
                    await self.keep_use()
            except StorageError as exc:
                if not self._is_silent:
                    _log.warning("keys stay as they were known: %s", exc)
                self._is_silent = True
                self._tell_of_ended()  # time passes all the same
            else:
                if self._is_silent:
                    _log.warning("keys are up to date again")
                self._is_silent = False

    def stop(self) -> None:
        """Let `watch` end once it has looked."""
        self._stopping.set()

    async def _is_stopped(self, within_s: float) -> bool:
        """Wait for the end, for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), within_s)
        return self._stopping.is_set()

    async def keep_use(self) -> None:
        """Let the store know when keys were last used.

        Raises:
            StorageError: it does not answer; nothing is lost.
        """
        used, self._used = self._used, {}
        self._kept_use_s = self.now()
        if not used:
            return
        try:
            await self._store.note_use(
                {id_: datetime.fromtimestamp(at_s, UTC) for id_, at_s in used.items()}
            )
        except StorageError:
            self._used = used | self._used
            raise

    def _tell_of_ended(self) -> None:
        now = datetime.fromtimestamp(self.now(), UTC)
        good = {key.id for key in self._keys.values() if key.state(now) in ("active", "rotating")}
        ended, self._good = self._good - good, good
        for id_ in ended:
            self._on_end(id_)
