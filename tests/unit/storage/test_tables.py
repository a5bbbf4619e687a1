from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from waygate_mcp.storage import tables

EAST = datetime(2026, 11, 28, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def test_every_table_of_the_module_is_public() -> None:
    assert set(tables.metadata.tables) <= set(tables.__all__)


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
