"""Envelope encryption: what opens, what does not, and what a new master key changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.envelope import Envelope, SealedSecret

OLD, NEW = b"o" * 40, b"n" * 40
TEXT = "canary-of-the-envelope"


def changed(sealed: SealedSecret, part: str, data: object) -> SealedSecret:
    """The same but for one part."""
    more: dict[str, Any] = {part: data}
    return replace(sealed, **more)


@pytest.fixture
def sealed() -> SealedSecret:
    return Envelope(OLD).seal("TOKEN", 7, TEXT)


def test_what_was_sealed_opens_again(sealed: SealedSecret) -> None:
    assert Envelope(OLD).open(sealed) == TEXT


def test_nothing_stored_holds_the_text_or_shows_in_a_repr(sealed: SealedSecret) -> None:
    assert TEXT.encode() not in sealed.ciphertext + sealed.wrapped_key + sealed.nonce
    assert "ciphertext" not in repr(sealed)


def test_the_same_text_is_never_stored_alike(sealed: SealedSecret) -> None:
    again = Envelope(OLD).seal("TOKEN", 7, TEXT)
    assert again.ciphertext != sealed.ciphertext
    assert again.wrapped_key != sealed.wrapped_key


@pytest.mark.parametrize("change", [{"name": "OTHER"}, {"version": 8}, {"version": 6}])
def test_moved_to_another_name_or_version_it_does_not_open(
    sealed: SealedSecret, change: dict[str, object]
) -> None:
    with pytest.raises(StorageError, match="damaged, or another's"):
        Envelope(OLD).open(replace(sealed, **change))  # type: ignore[arg-type]  # one of its fields


def test_the_ciphertext_of_another_version_does_not_open_under_this_ones_key(
    sealed: SealedSecret,
) -> None:
    older = Envelope(OLD).seal("TOKEN", 6, "older")
    mixed = replace(sealed, ciphertext=older.ciphertext, nonce=older.nonce)
    with pytest.raises(StorageError, match="damaged"):
        Envelope(OLD).open(mixed)


@pytest.mark.parametrize("part", ["ciphertext", "wrapped_key", "nonce"])
def test_each_changed_byte_is_noticed(sealed: SealedSecret, part: str) -> None:
    good = getattr(sealed, part)
    for index in range(len(good)):
        bad = bytes([*good[:index], good[index] ^ 1, *good[index + 1 :]])
        with pytest.raises(StorageError, match="damaged"):
            Envelope(OLD).open(changed(sealed, part, bad))
    with pytest.raises(StorageError, match="damaged"):
        Envelope(OLD).open(changed(sealed, part, b""))


def test_under_another_master_key_it_says_what_to_do(sealed: SealedSecret) -> None:
    with pytest.raises(StorageError, match="WAYGATE_SECRET_KEY_PREVIOUS_FILE") as caught:
        Envelope(NEW).open(sealed)
    assert "waygate secrets set TOKEN" in str(caught.value)


def test_a_foreign_key_id_does_not_help(sealed: SealedSecret) -> None:
    with pytest.raises(StorageError, match="damaged"):
        Envelope(NEW).open(replace(sealed, key_id=Envelope(NEW).key_id))


def test_both_keys_open_while_the_key_changes_and_the_new_one_seals(sealed: SealedSecret) -> None:
    both = Envelope(NEW, OLD)
    assert both.open(sealed) == TEXT
    fresh = both.seal("OTHER", 1, "x")
    assert Envelope(NEW).open(fresh) == "x"


def test_wrapped_anew_it_needs_the_old_key_no_more_and_its_ciphertext_stays(
    sealed: SealedSecret,
) -> None:
    new = Envelope(NEW, OLD).rewrap(sealed)
    assert Envelope(NEW).open(new) == TEXT
    assert new.ciphertext == sealed.ciphertext
    with pytest.raises(StorageError, match="another secret key"):
        Envelope(OLD).open(new)


def test_the_same_key_named_twice_is_one_key(sealed: SealedSecret) -> None:
    assert Envelope(OLD, OLD).open(sealed) == TEXT
