"""May this principal use this method? Asked of every method there is (threat model rule 9)."""

from __future__ import annotations

import pytest

from tests.support.dialogues import person
from tests.support.providers import make_call
from tests.support.scripted import text
from waygate_mcp.errors import ForbiddenError
from waygate_mcp.gateway.steps.authorize import authorize
from waygate_mcp.model.call import Call, Outcome
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol.methods import METHODS


async def passes(call: Call) -> Outcome:
    return text("passed")


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_needs_its_permission_and_no_other(method: str) -> None:
    permission = METHODS[method].permission
    params = {"name": "x"}
    allowed = make_call(method, params, principal=person("alice", permission))
    assert await authorize(allowed, passes) == text("passed")
    others = {m.permission for m in METHODS.values()} - {permission}
    for principal in (person("eve", *others), Principal("key:none", "None")):
        with pytest.raises(ForbiddenError) as caught:
            await authorize(make_call(method, params, principal=principal), passes)
        assert caught.value.permission == permission


async def test_who_may_do_all_may_do_this() -> None:
    call = make_call("tools/call", {"name": "x"}, principal=person("root", "*"))
    assert await authorize(call, passes) == text("passed")
