from __future__ import annotations

from tests.support.scripted import Scripted, text
from tests.unit.gateway.test_endpoint import endpoint_of, full_box
from waygate_mcp.gateway.explain import Explanation, explain
from waygate_mcp.gateway.names import public_name
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.permissions import Grant, Narrowing
from waygate_mcp.model.principal import LOCAL, Principal, principal_of

OPEN = Grant("session:open", role="r")


async def told(principal: Principal, kind: Kind = Kind.TOOL, name: str = "greet") -> Explanation:
    return await explain(endpoint_of(full_box(), deny=("hid*",)), principal, kind, name)


def holder(*grants: Grant, **narrowing: tuple[str, ...]) -> Principal:
    return principal_of("key:1", "n", (OPEN, *grants), Narrowing(**narrowing), roles=("r",))


async def test_what_is_granted_names_the_role_and_who_answers() -> None:
    found = await told(holder(Grant("tools:list"), Grant("tools:call", "gr*", "r")))
    assert (found.is_allowed, found.is_listed, found.provider) == (True, True, "box")
    assert found.rules == (
        "The endpoint default has it, from box.",
        "Granted by the role r: tools:call:gr*.",
    )
    assert (await told(LOCAL)).rules[-1] == "Granted by its permissions: tools:call."


async def test_what_may_not_be_listed_is_unknown_and_that_is_said() -> None:
    found = await told(holder(Grant("tools:call", role="r")))
    assert (found.is_allowed, found.is_listed) == (False, False)
    assert found.rules[-1] == "tools:list is not granted for it: grant both."


async def test_each_rule_that_refuses_is_named() -> None:
    call = Grant("tools:call")
    for principal, said in (
        (holder(call, endpoints=("dev",)), "narrowed to the endpoints dev."),
        (holder(call, upstreams=("mail",)), "narrowed to the upstreams mail."),
        (holder(call, names=("files__*",)), "narrowed to the names files__*."),
        (holder(Grant("tools:call", "other")), "No role of r grants tools:call for it."),
        (Principal("p", "p"), "No role of it has grants tools:call for it."),
    ):
        found = await told(principal)
        assert not found.is_allowed
        assert said in found.rules[-1]
    assert "cannot connect" in (await told(Principal("p", "p"))).rules[0]


async def test_what_the_endpoint_has_not_says_why() -> None:
    found = await told(LOCAL, name="nothing")
    assert "no plugin or upstream here publishes it" in found.rules[-1]
    assert found.provider is None


class Screened(Scripted):
    def held_names(self, kind: Kind) -> list[str]:
        return ["sly tool"] if kind is Kind.TOOL else []


async def test_what_waits_for_approval_is_said_under_its_public_names() -> None:
    box = Screened("files")
    box.tool("read", lambda call: text("x"))
    other = Scripted("mail")
    other.tool("send", lambda call: text("x"))
    public = public_name("files__", "sly tool")
    for name in (public, "sly"):
        endpoint = endpoint_of(box, other, rename={public: "sly"} if name == "sly" else {})
        found = await explain(endpoint, LOCAL, Kind.TOOL, name)
        assert "waits for approval (`waygate upstreams diff files`)" in found.rules[-1]
    found = await explain(endpoint_of(box, other), LOCAL, Kind.TOOL, "mail__sly tool")
    assert "no plugin or upstream here publishes it" in found.rules[-1]


async def test_prompts_and_resources_have_their_own_permissions() -> None:
    one = holder(Grant("prompts:list"), Grant("prompts:get"), Grant("resources:read", "memo://b*"))
    assert (await told(one, Kind.PROMPT, "ask")).is_allowed
    assert not (await told(one, Kind.RESOURCE, "memo://a")).is_allowed
