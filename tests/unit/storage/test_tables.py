from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from waygate_mcp.storage import tables
from waygate_mcp.storage.retention import DAYS, PLUGIN_DAYS

EAST = datetime(2026, 11, 28, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def test_every_table_of_the_module_is_public() -> None:
    assert set(tables.metadata.tables) <= set(tables.__all__)


def test_the_page_lists_every_table_and_view() -> None:
    page = (Path(__file__).parents[3] / "docs" / "database.md").read_text(encoding="utf-8")
    _, _, listed = page.partition("## Tables")
    listed, _, kept = listed.partition("## How long records are kept")
    assert set(re.findall(r"^\| `(\w+)` \|", listed, re.M)) == {
        *tables.metadata.tables,
        *tables.VIEWS,
    }
    days = {name: int(count) for name, count in re.findall(r"^\| `(\w+)` \| (\d+) \|", kept, re.M)}
    expected = {table.name: count for table, count in DAYS.items()}
    assert days == expected | {"plugin_metrics": PLUGIN_DAYS}


DIALECTS: list[Dialect] = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_time_is_stored_as_utc_and_given_back_aware(dialect: Dialect) -> None:
    kind = tables.UtcTime()
    stored = kind.process_bind_param(EAST, dialect)
    assert stored is not None
    assert stored.replace(tzinfo=UTC) == datetime(2026, 11, 28, tzinfo=UTC)
    given = kind.process_result_value(stored, dialect)
    assert given == EAST
    assert given is not None
    assert given.tzinfo is UTC


def test_no_time_stays_none() -> None:
    kind, dialect = tables.UtcTime(), sqlite.dialect()
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) is None


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        tables.UtcTime().process_bind_param(EAST.replace(tzinfo=None), sqlite.dialect())
