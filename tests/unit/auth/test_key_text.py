from __future__ import annotations

import re

import pytest

from waygate_mcp.auth.key_text import ID_CHARS, KeyHash, find_public_id, has_key_form, make_key

FIXED = make_key(lambda count: bytes(range(count)))


def test_a_key_has_prefix_public_id_secret_and_checksum() -> None:
    assert re.fullmatch(r"wg_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", make_key())


def test_two_keys_have_nothing_in_common() -> None:
    first, second = make_key(), make_key()
    assert first[3:15] != second[3:15]
    assert first[16:] != second[16:]


def test_the_secret_holds_all_256_bits() -> None:
    highest = make_key(lambda count: b"\xff" * count)
    assert has_key_form(highest)
    assert len(highest) == 3 + ID_CHARS + 1 + 43 + 6


def test_the_public_id_of_a_key_is_found() -> None:
    assert find_public_id(FIXED) == FIXED[3:15]


@pytest.mark.parametrize("place", [3, 16, 40, len(FIXED) - 1])
def test_a_mistyped_character_is_noticed_by_the_checksum(place: int) -> None:
    other = "x" if FIXED[place] != "x" else "y"
    mistyped = FIXED[:place] + other + FIXED[place + 1 :]
    assert has_key_form(mistyped)
    assert find_public_id(mistyped) is None


@pytest.mark.parametrize(
    "text", ["", "wg_", FIXED[:-1], FIXED + "0", FIXED.upper()[:5], " " + FIXED, FIXED + "\n"]
)
def test_other_texts_have_no_key_form(text: str) -> None:
    assert not has_key_form(text)
    assert find_public_id(text) is None


def test_a_hash_depends_on_the_master_key() -> None:
    one, other = KeyHash(b"a" * 32), KeyHash(b"b" * 32)
    assert one.digest(b"key") == KeyHash(b"a" * 32).digest(b"key")
    assert one.digest(b"key") != other.digest(b"key")
    assert len(one.digest(b"key")) == 32
