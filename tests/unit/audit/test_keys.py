"""Keys of the journal: one for each use, and none without the master key."""

from __future__ import annotations

from tests.support.audit import KEYS, MASTER
from waygate_mcp.audit.keys import MAC_BYTES, NO_MAC, AuditKeys


def test_each_use_has_a_key_of_its_own() -> None:
    said = {KEYS.mac(b"x").decode(), KEYS.sign(b"x"), KEYS.digest(b"x")}
    assert len(said) == 3
    assert {len(text) for text in said} == {2 * MAC_BYTES} == {len(NO_MAC)}


def test_the_same_master_key_gives_the_same_macs_and_another_gives_others() -> None:
    assert AuditKeys(MASTER).mac(b"record") == KEYS.mac(b"record")
    other = AuditKeys(MASTER[::-1])
    assert other.mac(b"record") != KEYS.mac(b"record")
    assert other.digest(b"{}") != KEYS.digest(b"{}")


def test_a_signature_fits_its_text_and_its_key() -> None:
    signature = KEYS.sign(b"head")
    assert KEYS.is_signed(b"head", signature)
    assert not KEYS.is_signed(b"heat", signature)
    assert not AuditKeys(MASTER[::-1]).is_signed(b"head", signature)
    assert not KEYS.is_signed(b"head", "ä")
