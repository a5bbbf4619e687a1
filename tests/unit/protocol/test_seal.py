from __future__ import annotations

import base64
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.protocol.seal import MAX_PAYLOAD_BYTES, KeyRing, SealError, derive_key

MASTER = bytes(range(32))
RING = KeyRing.from_master(MASTER)
WORDS = st.text(max_size=20)


def decoded(text: str) -> bytes:
    """The bytes of a sealed text."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(raw: bytes) -> str:
    """The text of sealed bytes."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refuse(text: str, purpose: str = "session", ring: KeyRing = RING) -> None:
    """Assert that a text is refused, in the one way there is."""
    with pytest.raises(SealError) as caught:
        ring.open(text, purpose)
    assert str(caught.value) == "not a sealed text of ours"
    assert caught.value.__cause__ is None


@given(st.binary(max_size=200), WORDS)
def test_what_was_sealed_is_opened_for_the_same_purpose(payload: bytes, purpose: str) -> None:
    text = RING.seal(payload, purpose)
    assert RING.open(text, purpose) == payload


@given(st.binary(max_size=100))
def test_a_sealed_text_is_visible_ascii_without_padding(payload: bytes) -> None:
    # 2025-11-25 basic/transports, "Session Management": 0x21 to 0x7E only.
    text = RING.seal(payload, "session")
    assert all(0x21 <= ord(character) <= 0x7E for character in text)
    assert "=" not in text


def test_two_sealed_texts_of_one_payload_differ() -> None:
    assert RING.seal(b"x", "session") != RING.seal(b"x", "session")


@given(st.binary(max_size=60), st.data())
def test_any_flipped_bit_is_refused(payload: bytes, data: st.DataObject) -> None:
    raw = bytearray(decoded(RING.seal(payload, "session")))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    refuse(encoded(bytes(raw)))


def test_each_single_flipped_bit_of_one_text_is_refused() -> None:
    raw = decoded(RING.seal(b"payload", "session"))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        refuse(encoded(bytes(changed)))


@given(st.binary(max_size=60), WORDS, WORDS)
def test_a_text_for_another_purpose_is_refused(payload: bytes, purpose: str, other: str) -> None:
    if purpose != other:
        refuse(RING.seal(payload, purpose), other)


@given(st.binary(max_size=60), st.binary(min_size=32, max_size=32))
def test_a_text_of_another_key_is_refused(payload: bytes, key: bytes) -> None:
    other = KeyRing({0: key}, 0)
    refuse(other.seal(payload, "session"))
    refuse(RING.seal(payload, "session"), ring=other)


def not_canonical(text: str) -> Iterator[str]:
    """Other texts that a lenient decoder reads as the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    yield text + "="
    yield text + "=" * (-len(text) % 4 or 4)
    yield text.replace("-", "+").replace("_", "/") if set("-_") & set(text) else text + "\n"
    yield text + "\n"
    yield " " + text
    yield text[:8] + "\n" + text[8:]
    yield text[:8] + "*" + text[8:]
    if len(text) % 4:
        last = alphabet.index(text[-1])
        yield text[:-1] + alphabet[last ^ 1]


@given(st.binary(max_size=60))
def test_only_the_canonical_form_is_opened(payload: bytes) -> None:
    text = RING.seal(payload, "session")
    for other in not_canonical(text):
        assert other != text
        refuse(other)


@given(st.text(max_size=100) | st.text("ABab01-_=", max_size=100))
def test_any_other_text_is_refused(text: str) -> None:
    refuse(text)


@given(st.binary(max_size=80))
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    refuse(encoded(raw))
    refuse(encoded(b"\x01\x00" + raw))


@pytest.mark.parametrize(
    "text", ["", "A", "é", "\0", "AQA", "\ud800", "A" * 98_305, "A" * 10_000_000]
)
def test_texts_too_short_or_long_or_no_text_at_all_are_refused(text: str) -> None:
    refuse(text)


def test_a_truncated_text_is_refused_at_every_length() -> None:
    text = RING.seal(b"a payload", "session")
    for length in range(len(text)):
        refuse(text[:length])


def test_keys_are_rotated_by_adding_activating_and_dropping() -> None:
    old, new = derive_key(MASTER, "old"), derive_key(MASTER, "new")
    before = KeyRing({1: old}, 1).seal(b"x", "session")
    both = KeyRing({1: old, 2: new}, 2)
    assert both.open(before, "session") == b"x"
    after = both.seal(b"y", "session")
    dropped = KeyRing({2: new}, 2)
    assert dropped.open(after, "session") == b"y"
    refuse(before, ring=dropped)


def test_the_key_id_is_bound_to_the_payload() -> None:
    ring = KeyRing({1: MASTER, 2: MASTER}, 1)
    raw = bytearray(decoded(ring.seal(b"x", "session")))
    raw[1] = 2
    refuse(encoded(bytes(raw)), ring=ring)


def test_a_payload_that_could_not_be_opened_again_is_not_sealed() -> None:
    largest = os.urandom(MAX_PAYLOAD_BYTES)
    assert RING.open(RING.seal(largest, "state"), "state") == largest
    with pytest.raises(ValueError, match="at most"):
        RING.seal(largest + b"x", "state")


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_keys_have_the_full_size(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing({0: b"k" * size}, 0)


def test_each_label_derives_a_key_of_its_own() -> None:
    keys = {derive_key(MASTER, label) for label in ("a", "b", "seal")}
    keys |= {derive_key(b"x" * 32, "a")}
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 4
    assert derive_key(MASTER, "a") in keys


def test_the_nonce_comes_from_the_given_source() -> None:
    ring = KeyRing({0: MASTER}, 0, random=lambda size: b"n" * size)
    assert decoded(ring.seal(b"", "x"))[2:14] == b"n" * 12
