"""Claims in a file: whole or not at all, the owner's alone, shared, begun anew where it is unreadable."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from pathlib import Path

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.gateway import name_file
from waygate_mcp.gateway.name_file import NameFile
from waygate_mcp.model.catalog import NameClaim


def claim(name: str, provider: str = "one") -> NameClaim:
    return NameClaim("default", "tool", name, provider, name)


async def test_what_is_claimed_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    assert await NameFile(path).load() == ()
    assert not path.exists()
    in_force = await NameFile(path).claim({claim("b"): None, claim("a"): None})
    assert in_force == [claim("b"), claim("a")]
    assert await NameFile(path).load() == (claim("b"), claim("a"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["names.json", "names.json.lock"]


async def test_two_processes_agree_on_the_first(tmp_path: Path) -> None:
    files = [NameFile(tmp_path / "names.json") for _ in range(8)]
    found = await asyncio.gather(
        *(file.claim({claim("a", f"p{n}"): None, claim(f"own{n}", f"p{n}"): None}) for n, file in enumerate(files))
    )  # fmt: skip
    owners = {answer[0].provider for answer in found}
    assert len(owners) == 1
    kept = await files[0].load()
    assert {one.name for one in kept} == {"a", *(f"own{n}" for n in range(8))}


async def test_only_the_void_claim_is_replaced(tmp_path: Path) -> None:
    file = NameFile(tmp_path / "names.json")
    await file.claim({claim("a", "one"): None})
    assert await file.claim({claim("a", "two"): claim("a", "three")}) == [claim("a", "one")]
    assert await file.claim({claim("a", "two"): claim("a", "one")}) == [claim("a", "two")]
    assert await file.load() == (claim("a", "two"),)


async def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    file = NameFile(tmp_path / "names.json")
    await file.claim({claim("a"): None})
    inode = (tmp_path / "names.json").stat().st_ino
    await file.claim({claim("a", "two"): None})
    assert (tmp_path / "names.json").stat().st_ino == inode


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"version":2,"claims":[]}',
        b'{"version":1,"claims":[["default","tool"]]}',
        b'{"version":1,"claims":[["default","tool","a",7,"a"]]}',
        b'{"version":1,"claims":[["default","tool","\xff","one","a"]]}',
        b"[" * 100_000,
    ],
)
async def test_a_file_that_cannot_be_read_is_put_aside_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert await NameFile(path).load() == ()
    assert "is begun anew, the old one is names.json.unreadable" in caplog.text
    assert (tmp_path / "names.json.unreadable").read_bytes() == content
    await NameFile(path).claim({claim("a"): None})
    assert await NameFile(path).load() == (claim("a"),)


async def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_file, "MAX_BYTES", 100)
    (tmp_path / "names.json").write_bytes(b" " * 101)
    assert await NameFile(tmp_path / "names.json").load() == ()


async def test_a_file_that_may_not_be_read_or_written_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "names.json"
    path.mkdir()
    assert await NameFile(path).load() == ()
    assert "cannot be read" in caplog.text
    with pytest.raises(StorageError, match="cannot write"):
        await NameFile(path).claim({claim("a"): None})
    with pytest.raises(StorageError):
        await NameFile(tmp_path / "no" / "folder" / "names.json").claim({claim("a"): None})


async def test_a_write_that_breaks_off_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = NameFile(tmp_path / "names.json")
    await file.claim({claim("a"): None})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        await file.claim({claim("b"): None})
    assert await file.load() == (claim("a"),)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["names.json", "names.json.lock"]


async def test_a_lock_nobody_gives_back_is_waited_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_file, "LOCK_WAIT_S", 0.05)
    with (tmp_path / "names.json.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError):
            await NameFile(tmp_path / "names.json").claim({claim("a"): None})
    await NameFile(tmp_path / "names.json").claim({claim("a"): None})


async def test_too_many_claims_push_out_who_is_known_for_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_file, "MAX_CLAIMS", 3)
    file = NameFile(tmp_path / "names.json")
    await file.claim({claim("a", "old"): None, claim("b", "old"): None})
    await file.claim({claim("c", "new"): None, claim("d", "new"): None})
    assert await file.load() == (claim("c", "new"), claim("d", "new"))
    written = json.loads((tmp_path / "names.json").read_bytes())
    assert written == {
        "version": 1,
        "claims": [["default", "tool", "c", "new", "c"], ["default", "tool", "d", "new", "d"]],
    }
