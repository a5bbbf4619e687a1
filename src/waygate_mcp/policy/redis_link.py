"""The way to Redis: one script for all buckets of many calls, and who else counts there.

Knows the library, the scripts and the names of keys. Refuses to know what happens to a call meanwhile;
`redis_counters.py` does. The password stands in no message: an address is shown as host, port and number.

A bucket's number is the moment at which it is whole again, as in `counters.py`, on the clock of the Redis server.
That clock may be set: a moment further away than a spent bucket's is taken for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoAnswerError

from waygate_mcp.errors import StorageError
from waygate_mcp.protocol.seal import derive_key

__all__ = ["RedisLink", "key_of"]

MEMBER_S = 30
"""A process that was not heard of for so long counts no longer."""

MAX_KEYS = 100_000
DIGEST_BYTES = 16

TAKE = """
local clock = redis.call('TIME')
local now = clock[1] - 1750000000 + clock[2] / 1000000
local answers, key, at = {}, 0, 1
while ARGV[at] do
  local count, after, short = tonumber(ARGV[at]), {}, false
  for i = 1, count do
    local name = KEYS[key + i]
    local interval, window = tonumber(ARGV[at + 2 * i - 1]), tonumber(ARGV[at + 2 * i])
    local whole = after[name] or tonumber(redis.call('GET', name) or now)
    whole = math.max(now, math.min(whole, now + window))
    local missing = whole + interval - now - window
    if missing > interval / 100 then
      short = string.format('%d %.6f %.6f', i - 1, missing, whole - now)
      break
    end
    after[name] = whole + interval
  end
  if not short then
    for name, whole in pairs(after) do
      redis.call('SET', name, string.format('%.17g', whole), 'PX', math.ceil((whole - now) * 1000) + 1000)
    end
  end
  answers[#answers + 1] = short or ''
  key, at = key + count, at + 2 * count + 1
end
return answers
"""

BEAT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[2] * 2)
return redis.call('ZCARD', KEYS[1])
"""

_TAKE_SHA = hashlib.sha1(TAKE.encode()).hexdigest()  # noqa: S324 - Redis names scripts so


class RedisLink:
    """A `redis_counters.Link`. `master` parts the keys of one installation from another's."""

    def __init__(self, url: str, master: bytes, lanes: int) -> None:
        """Store.

        Raises:
            ValueError: `url` is no address of a Redis.
        """
        self.shown = _shown(url)
        self._base = f"{{waygate:{derive_key(master, 'redis-namespace')[:6].hex()}}}"
        self._client: Redis = Redis.from_url(
            url,
            max_connections=lanes + 2,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            socket_timeout=2.0,
            socket_connect_timeout=2.0,
            client_name="waygate",
        )
        self._keys: dict[str, str] = {}

    def name(self, key: str) -> str:
        """Give the name of a bucket's key: of bounded length, and without the names it is made of."""
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) >= MAX_KEYS:
                self._keys.clear()
            found = self._keys[key] = f"{self._base}:rate:{key_of(key)}"
        return found

    async def take(self, keys: Sequence[str], numbers: Sequence[int | float]) -> Sequence[bytes]:
        """See Link."""
        words = (*map(self.name, keys), *numbers)
        try:
            try:
                said: Sequence[bytes] = await self._client.evalsha(_TAKE_SHA, len(keys), *words)
            except NoScriptError:  # it began anew
                said = await self._client.eval(TAKE, len(keys), *words)
        except (RedisError, OSError) as exc:
            raise self._lost(exc) from exc
        return said

    async def beat(self, member: str) -> int:
        """See Link."""
        try:
            said = await self._client.eval(BEAT, 1, f"{self._base}:members", member, MEMBER_S)
        except (RedisError, OSError) as exc:
            raise self._lost(exc) from exc
        return int(said)

    async def warm(self, lanes: int) -> None:
        """See Link."""
        pool = self._client.connection_pool
        held: list[Any] = []
        get: Any = pool.get_connection  # connected, and let in
        try:
            for _ in range(lanes):
                held.append(await get())  # noqa: PERF401 - each is given back, whatever the next one does
        except (RedisError, OSError) as exc:
            raise self._lost(exc) from exc
        finally:
            for connection in held:
                await pool.release(connection)

    async def leave(self, member: str) -> None:
        """See Link."""
        try:
            await self._client.zrem(f"{self._base}:members", member)
        except (RedisError, OSError) as exc:
            raise self._lost(exc) from exc

    async def reset(self) -> None:
        """See Link."""
        await self._client.connection_pool.disconnect()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _lost(self, exc: Exception) -> StorageError:
        """Word a failure with its mend, and without what the library says of the address."""
        if isinstance(exc, AuthenticationError | AuthorizationError):
            mend = "refuses the password; mend user and password in WAYGATE_REDIS_URL"
        elif isinstance(exc, NoPermissionError):
            mend = "lets this user run no scripts; allow it EVAL, EVALSHA, GET, SET, ZADD, ZREM and EXPIRE"
        elif isinstance(exc, NoAnswerError | TimeoutError):
            mend = "does not answer in time; is it busy, or the way to it slow?"
        elif "CERTIFICATE_VERIFY_FAILED" in str(exc):
            mend = (
                "cannot be reached: its certificate is not one this machine trusts for that name; "
                "`?ssl_ca_certs=FILE` at the end of WAYGATE_REDIS_URL names another authority"
            )
        elif isinstance(exc, NoConnectionError | OSError):
            mend = "cannot be reached; does it run, and is the address in WAYGATE_REDIS_URL right?"
        elif isinstance(exc, ResponseError):
            mend = f"refuses to count: {type(exc).__name__}: {str(exc)[:100]}"
        else:
            mend = f"cannot be used: {type(exc).__name__}"
        return StorageError(f"the Redis at {self.shown} {mend}")


def key_of(text: str) -> str:
    """Give what stands for a text of any length."""
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _shown(url: str) -> str:
    """Give an address without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}{parts.path}"
