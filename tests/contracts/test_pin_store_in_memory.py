"""The contract of pin stores, over the one in memory."""

from __future__ import annotations

import pytest

from tests.contracts.pin_store import PinStoreContract
from waygate_mcp.model.ports import PinStore
from waygate_mcp.testing.pins import MemoryPins


class TestPinStoreInMemory(PinStoreContract):
    @pytest.fixture
    def store(self) -> PinStore:
        return MemoryPins()

    @pytest.fixture
    def another(self, store: PinStore) -> PinStore:
        return store
