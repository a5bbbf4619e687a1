"""What is said of a Redis that cannot be used, and under which names it keeps what it counts."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions

from waygate_mcp.policy import redis_link
from waygate_mcp.policy.redis_link import RedisLink, key_of

URL = "redis://someone:a-secret@redis.example.org:6380/3"
MASTER = b"m" * 40


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (exceptions.AuthenticationError("WRONGPASS"), "refuses the password; mend"),
        (exceptions.NoPermissionError("NOPERM"), "allow it EVAL"),
        (exceptions.TimeoutError("a-secret"), "does not answer in time"),
        (TimeoutError(), "does not answer in time"),
        (exceptions.ConnectionError("a-secret"), "cannot be reached"),
        (OSError("a-secret"), "cannot be reached"),
        (exceptions.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]"), "names another authority"),
        (exceptions.OutOfMemoryError("OOM"), "refuses to count: OutOfMemoryError: OOM"),
        (exceptions.RedisError("a-secret"), "cannot be used: RedisError"),
    ],
)
def test_a_failure_names_its_mend_and_no_secret(failure: Exception, words: str) -> None:
    said = str(RedisLink(URL, MASTER, 1)._lost(failure))
    assert words in said
    assert "redis.example.org:6380/3" in said
    assert "a-secret" not in said
    assert "someone" not in said


def test_a_socket_is_shown_by_its_path() -> None:
    assert (
        RedisLink("unix:///run/redis.sock?password=a-secret", MASTER, 1).shown == "/run/redis.sock"
    )


def test_certificates_and_names_are_checked() -> None:
    link = RedisLink("rediss://redis.example.org", MASTER, 1)
    make: Any = link._client.connection_pool.make_connection  # opens nothing
    made = make()
    assert made.ssl_context.check_hostname
    assert made.ssl_context.cert_reqs.name == "CERT_REQUIRED"


def test_keys_are_bounded_and_differ_by_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "MAX_KEYS", 1)
    one, other = RedisLink(URL, MASTER, 1), RedisLink(URL, b"o" * 40, 1)
    long = "x" * 100_000
    assert len(one.name(long)) < 80
    assert one.name(long) == one.name(long) != other.name(long)
    assert one.name("y") != one.name(long)
    assert key_of("y") in one.name("y")
