"""Whatever providers call their entries: names are unique, lead back, stand in one order, and are stolen by nobody.

Providers with clashing, hostile and long names and URIs are bound at random, in one order and then in
another, some of them away. Nothing is lost without a reason: an entry is shown, or the status says why not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.dialogues import person, ring
from tests.support.scripted import Scripted
from tests.support.virtual_time import now, run_virtual
from waygate_mcp.errors import UnknownNameError, UpstreamUnavailableError
from waygate_mcp.gateway.catalog import Catalog, Ground
from waygate_mcp.gateway.name_table import NameTable
from waygate_mcp.gateway.names import UriMark, hidden_character, look_alike
from waygate_mcp.gateway.offers import Binding, Offers, Rules
from waygate_mcp.gateway.seen_links import SeenLinks
from waygate_mcp.model.catalog import Kind, Viewer
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import MODERN

ALIASES = ("a", "b", "a_b", "long-alias-of-somebody")
ALICE = Viewer(person("alice"), NO_CAPABILITIES)
_MEMBERS = {Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}

words = st.sampled_from(
    ["greet", "Greet", "gr\u0435et", "gre\u200bet", "greet ", "x" * 64, "x" * 65, "b__greet"]
)
names = st.one_of(
    words,
    st.builds("{}{}".format, st.sampled_from(["a__", "b__", "a_b__", "y" * 60]), words),
    st.text(min_size=1, max_size=90),
)
uris = st.one_of(
    st.builds(
        "{}{}".format,
        st.sampled_from(["memo://", "ui://", "b+", "ui://b/", "a+b+", "", "file:///"]),
        st.sampled_from(["x", "y", "memo://x", "ui://x", "{day}", "x\u202e", "{+any}"]),
    ),
    st.text(min_size=1, max_size=30),
)


@dataclass(frozen=True)
class Shape:
    """One provider: what it offers, and the text before its names and URIs."""

    alias: str
    tools: Sequence[str]
    resources: Sequence[str]
    is_prefixed: bool
    is_marked: bool


shapes = st.lists(
    st.builds(
        Shape,
        st.sampled_from(ALIASES),
        st.lists(names, max_size=6, unique=True),
        st.lists(uris, max_size=6, unique=True),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda shape: shape.alias,
)


@dataclass
class Scene:
    """Providers on an endpoint, bound anew as often as wanted; the table of names stays."""

    shapes: Sequence[Shape]
    names: NameTable = field(default_factory=NameTable)
    away: frozenset[str] = frozenset()

    def bind(self, *, is_reversed: bool = False, page_size: int = 1_000) -> Catalog:
        bindings = []
        for shape in self.shapes:
            box = Scripted(shape.alias)
            for own in reversed(shape.tools) if is_reversed else shape.tools:
                box.tool(own)
            for own in reversed(shape.resources) if is_reversed else shape.resources:
                box.resource(own)
            box.condition = "missing" if shape.alias in self.away else "current"
            prefix = f"{shape.alias}__" if shape.is_prefixed else ""
            mark = shape.alias.replace("_", "-") if shape.is_marked else ""
            bindings.append(Binding(box, prefix, UriMark(mark)))
        holders = frozenset(shape.alias for shape in self.shapes)
        ground = Ground(ring(), self.names, SeenLinks(now), now)
        if is_reversed:
            bindings.reverse()
        return Catalog(bindings, Rules(holders=holders, page_size=page_size), ground)


async def shown(catalog: Catalog, kind: Kind) -> dict[str, tuple[str, str]]:
    """Public names in their order, and where each leads."""
    found: dict[str, tuple[str, str]] = {}
    cursor: object = None
    while True:
        page = json.loads((await catalog.page(kind, cursor, ALICE, MODERN)).result)
        cursor = page.pop("nextCursor", None)
        [entries] = page.values()
        for entry in entries:
            name = entry[_MEMBERS.get(kind, "name")]
            assert name not in found, "shown twice"
            lead = await catalog.find(kind, name, ALICE)
            found[name] = (lead.provider.name, lead.target)
        if cursor is None:
            return found


def check_names(catalog: Catalog, kind: Kind, listed: Mapping[str, tuple[str, str]]) -> None:
    """Each name is fit to be shown, can be told from the others, and leads back to what it came from."""
    offers = Offers(catalog.bindings, catalog.rules)
    by_name = {binding.provider.name: binding for binding in catalog.bindings}
    for name, (provider, target) in listed.items():
        binding = by_name[provider]
        assert offers.names(kind, binding, target)[0] == name
        assert hidden_character(target) is None
        if kind is Kind.RESOURCE:
            assert binding.mark.remove(name) == target
            marks = [b.mark for b in catalog.bindings if b is not binding and b.mark.text]
            assert all(mark.remove(name) is None for mark in marks if not binding.mark.text)
            continue
        assert look_alike(name) is None
        if binding.prefix:
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
            assert name.startswith(binding.prefix[:55])
        else:
            others = [b for b in catalog.bindings if b is not binding and b.prefix]
            assert not any(name.startswith(other.prefix) for other in others)


def check_all_accounted_for(
    scene: Scene, catalog: Catalog, kind: Kind, listed: Mapping[str, tuple[str, str]]
) -> None:
    """What a provider offers is shown, or the operator is told why not."""
    hidden = {(one.provider, one.original) for one in catalog.status().hidden}
    for shape in scene.shapes:
        offered = shape.tools if kind is Kind.TOOL else shape.resources
        for own in offered:
            assert ((shape.alias, own) in listed.values()) != ((shape.alias, own) in hidden)


async def check(scene: Scene, away: frozenset[str]) -> None:
    for kind in (Kind.TOOL, Kind.RESOURCE):
        catalog = scene.bind()
        listed = await shown(catalog, kind)
        check_names(catalog, kind, listed)
        check_all_accounted_for(scene, catalog, kind, listed)
        places = {shape.alias: place for place, shape in enumerate(scene.shapes)}
        order = [(places[provider], name) for name, (provider, _) in listed.items()]
        assert order == sorted(order), "binding order, then name"
        assert list((await shown(scene.bind(page_size=2), kind)).items()) == list(listed.items())
        again = await shown(Scene(scene.shapes).bind(), kind)
        assert list(again.items()) == list(listed.items()), "depends on more than the document"
        assert await shown(scene.bind(is_reversed=True), kind) == listed, (
            "the order gave a name away"
        )
        partly = Scene(scene.shapes, scene.names, away)
        rest = partly.bind()
        left = await shown(rest, kind)
        assert left == {name: lead for name, lead in listed.items() if lead[0] not in away}
        for name, (provider, _) in listed.items():
            if provider in away:
                try:
                    lead = await rest.find(kind, name, ALICE)
                except (UnknownNameError, UpstreamUnavailableError):
                    continue
                assert lead.provider.name == provider, "somebody else took it meanwhile"
        assert await shown(scene.bind(is_reversed=True), kind) == listed


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, st.frozensets(st.sampled_from(ALIASES)))
def test_names_are_unique_lead_back_and_stay_where_they_are(
    given_shapes: Sequence[Shape], away: frozenset[str]
) -> None:
    run_virtual(check(Scene(given_shapes), away))
