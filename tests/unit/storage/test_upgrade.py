from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.tables import metadata
from waygate_mcp.storage.upgrade import FOLDER, HEAD, _walk, current_revision, upgrade


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def test_the_newest_revision_is_the_one_we_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_an_empty_database_gets_all_tables_once(connection: sa.Connection) -> None:
    assert current_revision(connection) is None
    assert upgrade(connection) is True
    assert current_revision(connection) == HEAD
    assert set(metadata.tables) < set(sa.inspect(connection).get_table_names())
    assert upgrade(connection) is False


def test_making_the_tables_at_once_gives_what_walking_all_revisions_gives() -> None:
    def schema(to: list[str]) -> list[tuple[str, str]]:
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            for revision in to:
                if revision == "walk":
                    _walk(connection, None, HEAD)
                else:
                    upgrade(connection)
            found = connection.execute(
                sa.text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
            )
            rows = [(name, "".join(text.split())) for name, text in found]
            counter = connection.execute(sa.text("SELECT name, value FROM counters")).one()
            assert tuple(counter) == ("version", 0)
        engine.dispose()
        return rows

    assert schema(["walk"]) == schema(["make"])


def test_one_of_a_newer_version_is_refused(connection: sa.Connection) -> None:
    upgrade(connection)
    connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="9999"):
        upgrade(connection)
