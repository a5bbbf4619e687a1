"""A document that was put in force, and the digest it is known by."""

from __future__ import annotations

from datetime import UTC, datetime

from waygate_mcp.model.applied import AppliedDocument, digest_of


def test_the_digest_is_that_of_the_bytes() -> None:
    assert digest_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    entry = AppliedDocument(
        1, digest_of("ü".encode()), "ü", datetime(2026, 7, 28, tzinfo=UTC), "file", ""
    )
    assert not entry.is_masked
