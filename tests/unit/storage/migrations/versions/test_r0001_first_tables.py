from __future__ import annotations

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from waygate_mcp.storage.migrations.versions import r0001_first_tables


def test_it_makes_the_tables_the_views_and_the_counter_at_zero() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            r0001_first_tables.upgrade()
        found = sa.inspect(connection)
        assert {"api_keys", "audit_log", "tool_pins", "secrets"} < set(found.get_table_names())
        assert set(found.get_view_names()) == {"v_active_api_keys", "v_plugin_performance"}
        counter = connection.execute(sa.text("SELECT name, value FROM counters")).one()
        assert tuple(counter) == ("version", 0)
    engine.dispose()
