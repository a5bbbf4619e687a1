"""JSON as others write it, as text: odd numbers, escapes, spaces and key orders that a parser would lose."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
from hypothesis import strategies as st

Text = st.SearchStrategy[str]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

NUMBERS: Text = st.one_of(
    st.sampled_from(
        [
            "1.10",
            "12345678901234567890",
            "-0",
            "1e5",
            "1E+2",
            "0.10000000000000000000001",
            "-1.50e-3",
        ]
    ),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?\Z"),
)


@st.composite
def strings(draw: st.DrawFn) -> str:
    """A string, escaped one way or another."""
    words = draw(
        st.text(max_size=20) | st.sampled_from(["\u2028\u0000\x7f", '💥é"\\/', "</script>", ""])
    )
    text = json.dumps(words, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = text.replace("/", "\\/")
    return text


def keys() -> Text:
    """A name of a member that is nobody's."""
    return st.one_of(
        st.sampled_from(
            ["$defs", "$ref", "$anchor", "example.org/x", "x-vendor", "", "é", "__proto__"]
        ),
        st.text(max_size=8).map(lambda words: f"own{words}"),
    )


def values(*, leaves: int = 12) -> Text:
    """Any value."""
    scalars = st.one_of(
        st.sampled_from(["null", "true", "false", "{}", "[]", "[[{}]]"]),
        NUMBERS,
        strings(),
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: f"[ {' ,'.join(items)}]"),
            st.dictionaries(keys(), inner, max_size=3).map(written),
        ),
        max_leaves=leaves,
    )


_DEEP = (
    '{"type":"object","$schema":"https://json-schema.org/draft/2020-12/schema",'
    '"$defs":{"a":{"$anchor":"address","type":"string"},"b":{"$ref":"#address"}},'
    '"properties":{"x":{"$ref":"#/$defs/b"},"n":{"minimum":1.10,"maximum":12345678901234567890}},'
    '"if":{"required":["x"]},"then":{},"else":false,"additionalProperties":false}'
)
SCHEMAS: Text = st.sampled_from(['{"type":"object"}', _DEEP])


def written(members: Mapping[str, str], *, gap: str = "") -> str:
    """Write an object in the order of its members."""
    parts = (
        f"{json.dumps(name, ensure_ascii=False)}{gap}:{gap}{value}"
        for name, value in members.items()
    )
    return "{" + gap + f",{gap}".join(parts) + gap + "}"


def members(raw: bytes | str | msgspec.Raw) -> dict[str, bytes]:
    """The members of an object, each as it is written."""
    data = raw.encode() if isinstance(raw, str) else raw
    return {name: bytes(value) for name, value in _decode(data).items()}


@st.composite
def objects(draw: st.DrawFn, known: Mapping[str, Text], optional: Mapping[str, Text]) -> str:
    """An object with all `known` members, some `optional` ones and some nobody knows, in any order."""
    chosen = {name: draw(value) for name, value in known.items()}
    chosen |= {name: draw(value) for name, value in optional.items() if draw(st.booleans())}
    unknown = draw(st.dictionaries(keys(), values(), max_size=2))
    both = {**unknown, **chosen}
    order = draw(st.permutations(sorted(both)))
    return written(
        {name: both[name] for name in order}, gap=draw(st.sampled_from(["", " ", "\n "]))
    )
