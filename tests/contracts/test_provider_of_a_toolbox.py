"""The provider of a Toolbox keeps the contract of Provider."""

from __future__ import annotations

import pytest

from tests.contracts.provider import ProviderContract
from waygate_mcp.model.ports import Provider
from waygate_mcp.testing import everything
from waygate_mcp.testing.fakes import provider_of


class TestProviderOfAToolbox(ProviderContract):
    @pytest.fixture
    def provider(self) -> Provider:
        return provider_of(everything.box, name="everything", lifespan=everything.Watch())
