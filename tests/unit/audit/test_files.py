"""Files of the journal: their names, what stands beside them, and who holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.audit import KEYS, open_journal, write_journal
from waygate_mcp.audit.files import (
    Head,
    Segment,
    Tombstone,
    chains_in,
    is_live,
    new_chain,
    read_head,
    read_tombstone,
    segments_of,
    write_beside,
)
from waygate_mcp.errors import StorageError

CHAIN = "20260728T120000Z-0123456789ab"


def test_ids_of_chains_sort_by_time_and_are_not_the_same() -> None:
    first, second = new_chain(0), new_chain(86_400)
    assert first < second
    assert new_chain(0) != first


def test_files_come_in_their_order_and_others_are_left_out(tmp_path: Path) -> None:
    for name in (f"{CHAIN}.000010.jsonl", f"{CHAIN}.000002.jsonl", "notes.jsonl", "settle.lock"):
        (tmp_path / name).touch()
    numbers = [segment.number for segment in segments_of(tmp_path)]
    assert numbers == [2, 10]
    assert segments_of(tmp_path, "other") == []
    assert segments_of(tmp_path / "nowhere") == []
    assert segments_of(tmp_path)[0] == Segment(CHAIN, 2, tmp_path / f"{CHAIN}.000002.jsonl")


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()
    with pytest.raises(StorageError, match="cannot read the audit folder"):
        chains_in(tmp_path / "audit")


@pytest.mark.parametrize(
    "what",
    [
        Head(CHAIN, 3, "m", "2026-07-28T12:00:00.000Z", is_closed=True),
        Tombstone(CHAIN, 3, "m", 3, "2026-07-28T12:00:00.000Z"),
    ],
    ids=["head", "tombstone"],
)
def test_what_is_written_beside_is_read_again_and_signed(
    tmp_path: Path, what: Head | Tombstone
) -> None:
    signed = what.signed(KEYS)
    write_beside(tmp_path, signed)
    read = read_head if isinstance(what, Head) else read_tombstone
    assert read(tmp_path, CHAIN) == signed
    assert KEYS.is_signed(what.text(), signed.signature)
    assert chains_in(tmp_path) == [CHAIN]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_in_the_place_of_a_head_is_not_followed(tmp_path: Path) -> None:
    write_journal(tmp_path, 1)
    (head,) = tmp_path.glob("*.head")
    head.rename(tmp_path / "elsewhere")
    head.symlink_to(tmp_path / "elsewhere")
    assert read_head(tmp_path, head.stem) is None


def test_what_cannot_be_written_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / f"{CHAIN}.head").mkdir()
    with pytest.raises(OSError, match=r".+"):
        write_beside(tmp_path, Head(CHAIN, 1, "m", "t"))
    assert [path.name for path in tmp_path.iterdir()] == [f"{CHAIN}.head"]


def test_a_chain_is_live_while_its_process_writes_it(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        assert not is_live(tmp_path, journal.chain)
        journal.append(b'"kind":"start"')
        assert is_live(tmp_path, journal.chain)
    assert not is_live(tmp_path, journal.chain)
