"""Many may use a database; who replaces it is alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from waygate_mcp.errors import StorageError
from waygate_mcp.storage.in_use import locked_alone, use


def test_many_use_it_and_nobody_replaces_it_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "waygate.db"
    users = [use(path), use(path)]
    for user in users:
        with pytest.raises(StorageError, match="stop it first"), locked_alone(path):
            pass
        os.close(user)
    with locked_alone(path):
        pass


def test_nobody_begins_to_use_it_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "waygate.db"
    with locked_alone(path), pytest.raises(StorageError, match="being restored"):
        use(path)
    os.close(use(path))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        use(tmp_path / "no" / "waygate.db")
