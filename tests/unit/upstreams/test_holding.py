from __future__ import annotations

from contextlib import AsyncExitStack

from tests.support.scripted import Scripted
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.model.principal import ANONYMOUS, LOCAL
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES, ClientCapabilities
from waygate_mcp.protocol.versions import MODERN
from waygate_mcp.upstreams.holding import Held, list_key


async def test_what_is_held_is_closed_with_all_that_belongs_to_it() -> None:
    closed: list[str] = []
    stack = AsyncExitStack()
    stack.callback(closed.append, "connection")
    held = Held(Scripted("up"), stack)  # type: ignore[arg-type]
    await held.close()
    assert closed == ["connection"]


def test_who_may_see_another_list_is_another_class_of_viewers() -> None:
    able = ClientCapabilities.parse({"sampling": {}}, MODERN)
    keys = {
        list_key(Kind.TOOL, Viewer(LOCAL, NO_CAPABILITIES)),
        list_key(Kind.PROMPT, Viewer(LOCAL, NO_CAPABILITIES)),
        list_key(Kind.TOOL, Viewer(ANONYMOUS, NO_CAPABILITIES)),
        list_key(Kind.TOOL, Viewer(LOCAL, able)),
    }
    assert len(keys) == 4
    assert list_key(Kind.TOOL, Viewer(LOCAL, able)) in keys
