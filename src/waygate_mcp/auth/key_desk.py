"""Making, rotating and revoking keys: the rules, whoever asks for it.

Knows what a key may be and that nobody makes one that may more than he may himself (threat model rule
7). Refuses to know who asks how: the command line and the admin API both come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from waygate_mcp.auth.key_text import KeyHash, find_public_id, make_key
from waygate_mcp.config.suggest import nearest
from waygate_mcp.errors import (
    ForbiddenError,
    InvalidArgumentsError,
    StorageError,
    UnknownNameError,
)
from waygate_mcp.model.keys import StoredKey
from waygate_mcp.model.permissions import ALL, Grant, Narrowing
from waygate_mcp.model.ports import AuditTrail, KeyStore
from waygate_mcp.model.principal import Principal
from waygate_mcp.model.rate import parse_rate

__all__ = ["KeyDesk", "parse_span"]

OVERLAP = timedelta(hours=24)
"""How long both texts of a rotated key are good, where nothing else is said."""
MAX_OVERLAP = timedelta(days=30)
MAX_NAME_CHARS = 100
MAX_PATTERN_CHARS = 256
_SPAN = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta:
    """Read a span of time such as `90d`, `12h` or `30m`.

    Raises:
        InvalidArgumentsError: it is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise InvalidArgumentsError([f"{text!r} is no span of time; 30m, 12h, 90d and 52w are"])
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


class KeyDesk:
    """Changes keys.

    `roles` are those of the document in force; `now` gives seconds of the wall clock. `trail` records each
    change before it is made and how it ended, None where the document wants no record.
    """

    def __init__(
        self,
        store: KeyStore,
        key_hash: KeyHash,
        roles: Mapping[str, Sequence[Grant]],
        now: Callable[[], float],
        trail: AuditTrail | None = None,
    ) -> None:
        self._trail = trail
        self._store = store
        self._hash = key_hash
        self._roles = roles
        self._now_s = now

    def now(self) -> datetime:
        """Give the moment, in UTC."""
        return datetime.fromtimestamp(self._now_s(), UTC)

    async def list(self) -> list[StoredKey]:
        """Give all keys, those made last first."""
        return sorted(
            await self._store.changed_since(0), key=lambda key: key.created_at, reverse=True
        )

    async def show(self, id_: str) -> StoredKey:
        """Give one key by its public id.

        Raises:
            UnknownNameError: there is none.
        """
        key = await self._store.find(id_)
        if key is None:
            raise UnknownNameError("key", id_)
        return key

    async def create(
        self,
        maker: Principal,
        name: str,
        roles: Sequence[str],
        *,
        narrowing: Narrowing | None = None,
        limits: Sequence[str] = (),
        expires_in: timedelta | None = None,
    ) -> tuple[StoredKey, str]:
        """Make a key; gives it and its text, which is shown once and nowhere kept.

        Raises:
            InvalidArgumentsError: name, role, narrowing or a rate cannot be.
            ForbiddenError: it would be stronger than its maker.
        """
        narrowed = narrowing or Narrowing()
        self._check(name, roles, narrowed)
        _check_rates(limits)
        self._check_strength(maker, roles, narrowed)
        now = self.now()
        expires_at = None if expires_in is None else now + expires_in
        await self._check_bounds(maker, expires_at, limits)
        text, id_ = _new_text()
        key = StoredKey(
            id=id_,
            digest=self._hash.digest(text.encode()),
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            narrowing=narrowed,
            limits=tuple(limits),
            created_at=now,
            created_by=maker.id,
            expires_at=expires_at,
        )
        with self._recorded("keys.create", maker, key):
            return await self._store.add(key), text

    async def rotate(
        self, maker: Principal, id_: str, overlap: timedelta = OVERLAP
    ) -> tuple[StoredKey, str]:
        """Give a key a new text; the old one is good for as long as `overlap`.

        Raises:
            UnknownNameError: there is no such key.
            InvalidArgumentsError: it is revoked or expired, or the overlap is too long.
            ForbiddenError: it is stronger than who asks.
        """
        if overlap > MAX_OVERLAP:
            raise InvalidArgumentsError([f"the overlap is at most {MAX_OVERLAP.days}d"])
        known = await self.show(id_)
        self._check_strength(maker, known.roles, known.narrowing)
        if maker.id != f"key:{id_}":
            await self._check_bounds(maker, known.expires_at, known.limits)
        now = self.now()
        state = known.state(now)
        if state in ("revoked", "expired"):
            raise InvalidArgumentsError([f"the key is {state}; make a new one"])
        text, _ = _new_text(id_)
        digest = self._hash.digest(text.encode())
        with self._recorded("keys.rotate", maker, known):
            key = await self._store.rotate(id_, digest, now + overlap, now)
            if key is None:
                raise InvalidArgumentsError(["the key is revoked; make a new one"])
        return key, text

    async def revoke(self, maker: Principal, id_: str) -> StoredKey:
        """Take a key back. One that is revoked already stays so.

        Raises:
            UnknownNameError: there is no such key.
            ForbiddenError: it is stronger than who asks.
        """
        known = await self.show(id_)
        self._check_strength(maker, known.roles, known.narrowing)
        with self._recorded("keys.revoke", maker, known):
            return await self._store.revoke(id_, self.now()) or await self.show(id_)

    @contextmanager
    def _recorded(self, action: str, maker: Principal, key: StoredKey) -> Iterator[None]:
        """Record an act before it is done, and how it ended (threat model rule 37).

        Raises:
            StorageError: it cannot be recorded; nothing was done.
        """
        details = {"id": key.id, "name": key.name, "roles": list(key.roles)}

        def note(outcome: str) -> None:
            if self._trail is not None:
                self._trail.record(action, principal=maker.id, outcome=outcome, details=details)

        note("begun")
        try:
            yield
        except BaseException:
            note("failed")
            raise
        note("done")

    def _check(self, name: str, roles: Sequence[str], narrowing: Narrowing) -> None:
        problems = []
        if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
            problems.append(f"the name needs 1 to {MAX_NAME_CHARS} visible characters")
        if not roles:
            problems.append(f"the key needs a role: {', '.join(self._roles)}")
        for role in roles:
            if role not in self._roles:
                near = nearest(role, self._roles)
                hint = f"did you mean {near}?" if near else f"there are {', '.join(self._roles)}"
                problems.append(f"there is no role {role!r}; {hint}")
        narrowed = (narrowing.endpoints, narrowing.upstreams, narrowing.names)
        if not all(
            patterns and all(0 < len(one) <= MAX_PATTERN_CHARS for one in patterns)
            for patterns in narrowed
        ):
            problems.append(f"a narrowing needs patterns of 1 to {MAX_PATTERN_CHARS} characters")
        if problems:
            raise InvalidArgumentsError(problems)

    def _check_strength(self, maker: Principal, roles: Sequence[str], narrowing: Narrowing) -> None:
        """Refuse what the maker may not do himself.

        Raises:
            ForbiddenError: naming the first permission that is missing.
        """
        own = maker.narrowing or Narrowing()
        for mine, wanted in (
            (own.endpoints, narrowing.endpoints),
            (own.upstreams, narrowing.upstreams),
            (own.names, narrowing.names),
        ):
            if ALL not in mine and not set(wanted) <= set(mine):
                raise ForbiddenError(permission="admin:keys", safe_message=_STRONGER)
        if ALL not in maker.permissions and not set(roles) <= self._roles.keys():
            # What a role that is gone for now granted cannot be compared; it may come back.
            raise ForbiddenError(permission="admin:keys", safe_message=_STRONGER)
        for role in roles:
            for grant in self._roles.get(role, ()):
                if not _covers(maker, grant):
                    raise ForbiddenError(permission=str(grant), safe_message=_STRONGER)

    async def _check_bounds(
        self, maker: Principal, expires_at: datetime | None, limits: Sequence[str]
    ) -> None:
        """Refuse a key that would outlive its maker, or be free of a limit of his.

        Raises:
            ForbiddenError: it would.
        """
        own = await self._store.find(maker.id.removeprefix("key:"))
        end = None if own is None else own.expires_at
        outlives = end is not None and (expires_at is None or expires_at > end)
        if outlives or not set(maker.limits) <= set(limits):
            raise ForbiddenError(permission="admin:keys", safe_message=_STRONGER)


_STRONGER = "That key may do more than the one that asks for it."


def _covers(maker: Principal, grant: Grant) -> bool:
    if maker.grants is None:
        return maker.may(grant.permission) or ALL in maker.permissions
    return any(
        one.permission in (grant.permission, ALL) and one.names in (grant.names, ALL)
        for one in maker.grants
    )


def _new_text(id_: str | None = None) -> tuple[str, str]:
    text = make_key(public_id=id_)
    found = find_public_id(text)
    if found is None:  # the checksum is ours
        raise StorageError("a key that was just made cannot be read")
    return text, found


def _check_rates(texts: Sequence[str]) -> None:
    """Refuse a key whose rates nobody could count by."""
    for text in texts:
        try:
            parse_rate(text)
        except ValueError as exc:
            raise InvalidArgumentsError([f"{text!r} is no rate: {exc}"]) from None
