"""Secrets for a generation: fetched before its references are resolved, and watched while it serves.

Knows the places that have to be waited for, the encrypted store and Vault, and asks them for those names
alone that lie nowhere near. What Vault gave is kept in memory as long as its lease and the document allow;
while it cannot be reached, `keep_s` longer. A text that changed anywhere asks for a reload, so that a
rotated secret is in use within seconds and without a restart. Refuses to know what a secret is for.
Spec: threat model rules 32, 33, 39 and 42; decision record 0115.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from waygate_mcp.config.document import Document
from waygate_mcp.config.references import (
    NOTHING_KNOWN,
    KnownSecrets,
    SecretPlace,
    is_secret_name,
    names_in,
    near_places,
)
from waygate_mcp.config.secret_sources import SecretsSection, VaultSection
from waygate_mcp.config.secrets import (
    load_or_create_secret_key,
    load_previous_secret_key,
    read_secret_file,
)
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError, StorageError, UpstreamError, WaygateError
from waygate_mcp.net.vault import Vault, VaultText
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.storage.engine import Database, database_url
from waygate_mcp.storage.envelope import Envelope
from waygate_mcp.storage.secrets import SecretStore, StoredSecret
from waygate_mcp.telemetry.logs import get_logger

__all__ = ["SecretHouse", "fetch_for_command", "open_house", "open_store", "secret_uses"]

LOOK_S = 2.0
"""How often texts in use are looked at, in seconds."""

REST_S = 10.0
"""Seconds for which the watch leaves Vault alone after it could not answer, or had no such text."""

STORE = "the encrypted store"

_log = get_logger("runtime.secrets")


@dataclass(frozen=True, slots=True)
class _Kept:
    """What Vault gave, and until when it is fresh and of use."""

    text: str
    fresh_until_s: float
    usable_until_s: float


def open_store(settings: Settings, database: Database, now: Callable[[], float]) -> SecretStore:
    """Give the store of a database, under the master key of the settings and the one before it.

    Raises:
        ConfigError: a master key cannot be read.
    """
    envelope = Envelope(load_or_create_secret_key(settings), load_previous_secret_key(settings))
    return SecretStore(database, envelope, now)


@asynccontextmanager
async def open_house(
    settings: Settings, *, remember: Callable[[str], None] = lambda _: None
) -> AsyncIterator[SecretHouse]:
    """Open what a command needs to look for secrets, beside a server that may run or not.

    A database that is not there yet is not made.

    Raises:
        StorageError: the database cannot be opened.
        ConfigError: its address or a master key is not usable.
    """
    clock = Clock()
    async with AsyncExitStack() as stack:
        given = settings.db_url.get_secret_value() if settings.db_url is not None else None
        database = Database(database_url(given, settings.data_dir))
        store = None
        if database.path is None or database.path.exists():
            stack.push_async_callback(database.close)
            await database.open(upgrade_tables=False)
            if await database.revision() is not None:
                store = open_store(settings, database, clock.now)
        yield SecretHouse(settings.data_dir, store, remember=remember, monotonic=clock.monotonic)


async def fetch_for_command(
    settings: Settings,
    names: Iterable[str],
    section: SecretsSection,
    *,
    remember: Callable[[str], None] = lambda _: None,
) -> KnownSecrets:
    """Fetch secrets for a command that resolves references once. See `SecretHouse.fetch`."""
    wanted = tuple(names)
    if not wanted:  # usually: nothing is opened
        return KnownSecrets(tuple(map(Path, section.folders)))
    try:
        async with open_house(settings, remember=remember) as house:
            return await house.fetch(wanted, section)
    except StorageError as exc:
        problems = dict.fromkeys(wanted, str(exc))
        return KnownSecrets(tuple(map(Path, section.folders)), {}, problems, (STORE,))


def secret_uses(document: Document, *, enabled_only: bool = True) -> dict[str, list[str]]:
    """Give the secrets a document refers to, each with the key paths where it does."""
    plugins = document.enabled_plugins() if enabled_only else document.plugins
    upstreams = document.enabled_upstreams() if enabled_only else document.upstreams
    uses: dict[str, list[str]] = {}
    for name, plugin in plugins.items():
        for secret, path in names_in(plugin.config, f"plugins.{name}.config"):
            uses.setdefault(secret, []).append(path)
    for name, upstream in upstreams.items():
        for secret, path in names_in(upstream.referring, f"upstreams.{name}"):
            uses.setdefault(secret, []).append(path)
    return uses


class SecretHouse:
    """Owns what is known of secrets for the life of the process.

    `store` is None where there is no database to ask. `remember` is told of texts that must not be logged.
    """

    def __init__(
        self,
        data_dir: Path,
        store: SecretStore | None,
        *,
        remember: Callable[[str], None],
        monotonic: Callable[[], float],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._store = store
        self._remember = remember
        self._monotonic = monotonic
        self._environ = os.environ if environ is None else environ
        self._vault: Vault | None = None
        self._kept: dict[str, _Kept] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        self._outage: str | None = None
        self._rests_until_s = 0.0
        self._document: Document | None = None
        self._marks: dict[str, bytes] = {}

    async def gather(self, document: Document, *, is_patient: bool = False) -> KnownSecrets:
        """Fetch what a document's enabled parts refer to and is not near.

        Nothing raises here: what could not be fetched stands in `problems`, and is an error where it is
        resolved. Who `is_patient` takes the answer of a few seconds ago for Vault's.
        """
        return await self.fetch(secret_uses(document), document.secrets, is_patient=is_patient)

    async def fetch(
        self, names: Iterable[str], section: SecretsSection, *, is_patient: bool = False
    ) -> KnownSecrets:
        """Fetch those of `names` that are not near from the store, and the rest of them from Vault."""
        folders = tuple(map(Path, section.folders))
        far = await asyncio.to_thread(self._far, tuple(names), folders)
        if not far:
            return KnownSecrets(folders)
        texts: dict[str, str] = {}
        problems: dict[str, str] = {}
        asked: list[str] = []
        if self._store is not None:
            asked.append(STORE)
            try:
                fetched = await self._store.fetch(far)
            except StorageError as exc:
                # It may be there, so that Vault must not answer in its place.
                return KnownSecrets(folders, {}, dict.fromkeys(far, str(exc)), tuple(asked))
            texts.update(fetched.texts)
            problems.update(fetched.problems)
        left = [name for name in far if name not in texts and name not in problems]
        if section.vault is not None and left:
            asked.append("Vault")
            if not is_patient:
                self._refused.clear()
                self._rests_until_s = 0.0
            await self._ask_vault(section.vault, left, texts, problems)
        for text in texts.values():
            self._remember(text)
        return KnownSecrets(folders, texts, problems, tuple(asked))

    async def stored(self) -> list[StoredSecret]:
        """Give what is in the store, without a text; nothing where there is no database.

        Raises:
            StorageError: the database did not answer.
        """
        return [] if self._store is None else await self._store.stored()

    def places(self, name: str, section: SecretsSection) -> list[SecretPlace]:
        """Give the places near at hand for a secret, in the order in which they count."""
        folders = tuple(map(Path, section.folders))
        near = near_places(name, data_dir=self._data_dir, folders=folders, environ=self._environ)
        return list(near)

    def in_force(self, document: Document, known: KnownSecrets) -> None:
        """Note what a generation that now serves was made of, for `watch` to compare with."""
        self._document = document
        self._marks = self._marks_of(document, known)

    async def watch(self, reload: Callable[[str], None]) -> None:
        """Ask for a reload whenever a text in use has become another, until cancelled.

        A text that cannot be read is no change: what serves goes on with the one it has.
        """
        told: str | None = None
        while True:
            await asyncio.sleep(LOOK_S)
            document = self._document
            if document is None or not secret_uses(document):
                continue
            try:
                known = await self.gather(document, is_patient=True)
                marks = await asyncio.to_thread(self._marks_of, document, known)
            except WaygateError as exc:
                known, marks = NOTHING_KNOWN, {}
                problem: str | None = str(exc)
            else:
                problem = "; ".join(known.problems.values()) or None
            if problem != told:
                if problem is not None:
                    _log.warning("secrets_not_read", problem=problem)
                told = problem
            changed = [one for one, mark in marks.items() if self._marks.get(one) != mark]
            if changed and document is self._document:
                _log.info("secrets_changed", names=changed)
                self._marks = {**self._marks, **marks}
                reload("secret changed")

    def _far(self, names: Iterable[str], folders: tuple[Path, ...]) -> list[str]:
        """Give those that lie in no place near at hand, once each."""
        return [
            name
            for name in dict.fromkeys(names)
            if is_secret_name(name)
            and not any(
                place.has_it
                for place in near_places(
                    name, data_dir=self._data_dir, folders=folders, environ=self._environ
                )
            )
        ]

    def _marks_of(self, document: Document, known: KnownSecrets) -> dict[str, bytes]:
        """Give what tells one text of a secret from another; of those that can be read."""
        marks: dict[str, bytes] = {}
        for name in secret_uses(document):
            text = known.texts.get(name) or self._near_text(name, known.folders)
            if text is not None:
                marks[name] = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return marks

    def _near_text(self, name: str, folders: tuple[Path, ...]) -> str | None:
        if not is_secret_name(name):
            return None
        near = near_places(name, data_dir=self._data_dir, folders=folders, environ=self._environ)
        place = next((one for one in near if one.has_it), None)
        if place is None:
            return None
        if place.file is None:
            return self._environ[name]
        try:
            return read_secret_file(place.file, path=name)
        except ConfigError:
            return None

    async def _ask_vault(
        self,
        section: VaultSection,
        names: Iterable[str],
        texts: dict[str, str],
        problems: dict[str, str],
    ) -> None:
        """Fetch from Vault, or from what it gave before.

        Once it cannot be reached, it is not asked again in the same round: each wait would be added to
        a start.
        """
        if self._vault is None or self._vault.section != section:
            self._kept.clear()
            self._vault = Vault(
                section,
                data_dir=self._data_dir,
                on_secret=self._remember,
                monotonic=self._monotonic,
            )
        for name in names:
            kept, now = self._kept.get(name), self._monotonic()
            if kept is not None and now < kept.fresh_until_s:
                texts[name] = kept.text
                continue
            refused_until_s, refusal = self._refused.get(name, (0.0, ""))
            if now < refused_until_s:
                problems[name] = refusal
                continue
            try:
                if now >= self._rests_until_s:
                    texts[name] = self._keep(section, name, await self._vault.read(name))
                    self._outage = None
                    continue
            except ConfigError as exc:
                self._kept.pop(name, None)  # Vault is there, and says no
                problems[name] = "; ".join(problem.message for problem in exc.problems)
                self._refused[name] = (self._monotonic() + REST_S, problems[name])
                continue
            except UpstreamError as exc:
                self._note_outage(str(exc))
            if kept is not None and self._monotonic() < kept.usable_until_s:
                texts[name] = kept.text
            else:
                problems[name] = f"{self._outage}; it is asked again at the next reload or start"

    def _note_outage(self, problem: str) -> None:
        """Leave Vault alone for a while, and say so once."""
        if problem != self._outage:
            _log.warning("vault_not_reached", problem=problem)
        self._outage = problem
        self._rests_until_s = self._monotonic() + REST_S

    def _keep(self, section: VaultSection, name: str, found: VaultText) -> str:
        now = self._monotonic()
        fresh_s = min(section.refresh_s, found.lease_s or section.refresh_s)
        self._kept[name] = _Kept(found.text, now + fresh_s, now + fresh_s + section.keep_s)
        return found.text
