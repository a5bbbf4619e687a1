from __future__ import annotations

import pytest

from waygate_mcp.errors import RpcError
from waygate_mcp.gateway.cursors import read_cursor, write_cursor
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.principal import ANONYMOUS, LOCAL
from waygate_mcp.protocol.seal import KeyRing

RING = KeyRing.from_master(b"m" * 32)


def test_a_cursor_says_where_a_page_ended_to_whom_it_was_given() -> None:
    cursor = write_cursor(RING, Kind.TOOL, LOCAL, 3, "files__read")
    assert read_cursor(RING, cursor, Kind.TOOL, LOCAL) == (3, "files__read")


def test_one_of_another_list_or_principal_or_of_nobody_is_refused() -> None:
    cursor = write_cursor(RING, Kind.TOOL, LOCAL, 3, "files__read")
    for given, kind, principal in (
        (cursor, Kind.PROMPT, LOCAL),
        (cursor, Kind.TOOL, ANONYMOUS),
        (cursor[:-2], Kind.TOOL, LOCAL),
        ("x", Kind.TOOL, LOCAL),
        (7, Kind.TOOL, LOCAL),
        (RING.seal(b"other", "cursor"), Kind.TOOL, LOCAL),
    ):
        with pytest.raises(RpcError, match="Invalid cursor"):
            read_cursor(RING, given, kind, principal)
