"""Records in their order: filters for people, following a journal, and the formats of other tools.

Knows JSON Lines and CEF. Refuses to judge whether a record is true; `verify.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from waygate_mcp.audit.files import Segment, is_live, read_tombstone, segments_of
from waygate_mcp.audit.verify import MAX_LINE_BYTES, lines_of, unmoved
from waygate_mcp.errors import StorageError

__all__ = ["Filters", "Follower", "as_cef", "parse", "records"]

_MAX_READ_BYTES = 4 * 1024 * 1024
_SEVERITIES = {"refusal": 6, "administration": 5, "outcome": 3, "start": 2, "lifecycle": 2}
_CEF_NAMES = (
    ("principal", "suser"),
    ("endpoint", "dhost"),
    ("method", "act"),
    ("name", "fname"),
    ("outcome", "outcome"),
    ("request_id", "externalId"),
)
_decode = msgspec.json.Decoder(dict[str, Any]).decode

Record = Mapping[str, Any]


class Filters(msgspec.Struct, frozen=True):
    """Which records are wanted; None wants all. `since` and `until` are RFC 3339 in UTC."""

    kind: str | None = None
    principal: str | None = None
    endpoint: str | None = None
    method: str | None = None
    name: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    since: str | None = None
    until: str | None = None

    def wants(self, record: Record) -> bool:
        """Tell whether a record is wanted."""
        at = record.get("at", "")
        if (self.since is not None and at < self.since) or (
            self.until is not None and at >= self.until
        ):
            return False
        return all(
            wanted is None or record.get(key) == wanted
            for key, wanted in (
                ("kind", self.kind),
                ("principal", self.principal),
                ("endpoint", self.endpoint),
                ("method", self.method),
                ("name", self.name),
                ("outcome", self.outcome),
                ("request_id", self.request_id),
            )
        )


def parse(line: bytes) -> dict[str, Any] | None:
    """Give a line as a record, None where it is none."""
    try:
        return _decode(line)
    except msgspec.DecodeError:
        return None


def records(folder: Path, filters: Filters | None = None) -> Iterator[tuple[Record, bytes]]:
    """Yield records chain by chain, oldest chain first, each parsed and as its line. Blocks.

    Raises:
        StorageError: a file cannot be read.
    """
    wants: Callable[[Record], bool] = (filters or Filters()).wants
    for chain, segments in groupby(segments_of(folder), key=lambda segment: segment.chain):
        for line in _lines(folder, chain, segments):
            record = parse(line)
            if record is not None and wants(record):
                yield record, line


def _lines(folder: Path, chain: str, segments: Iterable[Segment]) -> Iterator[bytes]:
    """Yield a chain's lines; where its process died, with those it had not moved into its file."""
    stone = read_tombstone(folder, chain)
    last = None
    for segment in segments:
        for _, line in lines_of(segment.path):
            last = line if line.endswith(b"\n") else last
            yield line
    if is_live(folder, chain):
        return
    record = None if last is None else parse(last)
    if record is not None:
        sequence, mac = int(record.get("sequence", 0)), str(record.get("mac", ""))
    else:
        sequence, mac = (0, "") if stone is None else (stone.sequence, stone.mac)
    for one in unmoved(folder, chain, sequence, mac):
        yield one.line


class Follower:
    """Reads what was appended to one chain, or to all, since it was asked last. Blocks."""

    def __init__(self, folder: Path, chain: str | None = None) -> None:
        self._folder = folder
        self._chain = chain
        self._offsets: dict[Path, int] = {}

    def skip(self) -> None:
        """Pass over what is there already.

        Raises:
            StorageError: the folder cannot be read.
        """
        for segment in segments_of(self._folder, self._chain):
            try:
                self._offsets[segment.path] = segment.path.stat().st_size
            except OSError:
                continue

    def read(self, limit: int) -> list[bytes]:
        """Give at most about `limit` whole lines, in the order of files.

        Raises:
            StorageError: a file cannot be read.
        """
        lines: list[bytes] = []
        for segment in segments_of(self._folder, self._chain):
            if len(lines) >= limit:
                break
            lines += self._read(segment.path, limit - len(lines))
        return lines

    def _read(self, path: Path, limit: int) -> list[bytes]:
        offset = self._offsets.get(path, 0)
        try:
            with path.open("rb") as handle:
                handle.seek(offset)
                data = handle.read(min(_MAX_READ_BYTES, limit * MAX_LINE_BYTES))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
        lines = data.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        lines = lines[:limit]
        self._offsets[path] = offset + sum(map(len, lines))
        return lines


def as_cef(record: Record, version: str) -> str:
    """Write a record as one line of ArcSight's Common Event Format, version 0; `version` is ours."""
    kind = str(record.get("kind", ""))
    name = " ".join(str(record[key]) for key in ("kind", "method", "outcome") if record.get(key))
    fields = {key: str(record[ours]) for ours, key in _CEF_NAMES if record.get(ours)}
    fields |= {
        "rt": str(record.get("at", "")),
        "cs1Label": "chain",
        "cs1": str(record.get("chain", "")),
        "cn1Label": "sequence",
        "cn1": str(record.get("sequence", "")),
        "cs2Label": "upstream",
        "cs2": str(record.get("upstream", "")),
        "cs3Label": "argumentsDigest",
        "cs3": str(record.get("arguments_digest", "")),
    }
    head = "|".join(
        text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")
        for text in ("Waygate", "Waygate MCP", version, kind, name)
    )
    extension = " ".join(f"{key}={_extension(value)}" for key, value in fields.items() if value)
    return f"CEF:0|{head}|{_SEVERITIES.get(kind, 3)}|{extension}"


def _extension(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("=", "\\="), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(plain, escaped)
    return value
