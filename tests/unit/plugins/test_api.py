from __future__ import annotations

import waygate_mcp
from waygate_mcp.plugins import api
from waygate_mcp.plugins.api import NoConfig, Plugin, Services
from waygate_mcp.telemetry.logs import get_logger


def test_every_name_that_is_promised_exists_and_is_the_same_at_the_root() -> None:
    for name in api.__all__:
        assert hasattr(api, name), name
    for name in waygate_mcp.__all__:
        assert hasattr(waygate_mcp, name), name
    for name in set(api.__all__) & set(waygate_mcp.__all__):
        assert getattr(api, name) is getattr(waygate_mcp, name)
    assert set(api.__all__) - set(waygate_mcp.__all__) == {"NoConfig"}


async def test_a_plugin_class_stores_what_it_is_given_and_opens_nothing() -> None:
    services = Services("p", get_logger("p"))
    plugin = Plugin(NoConfig(), services)
    assert plugin.services is services
    assert plugin.config == NoConfig()
    assert plugin.box.tools == {}
    async with plugin.lifespan() as value:
        assert value is None
