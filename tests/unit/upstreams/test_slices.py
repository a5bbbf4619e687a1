from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waygate_mcp.upstreams.slices import (
    NotAnObjectError,
    cut,
    join,
    one_line,
    without_lone_surrogates,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=6), st.sampled_from([None, 2]))
def test_cutting_and_joining_loses_nothing(value: dict[str, object], indent: int | None) -> None:
    raw = json.dumps(value, indent=indent).encode()
    members = cut(raw)
    assert list(members) == list(value)
    assert json.loads(join(members)) == value


def test_values_stay_byte_for_byte() -> None:
    raw = b'{"n": 1.50, "big": 123456789012345678901234567890, "e": 1e3, "u": "\\u00e9"}'
    assert join(cut(raw)) == (
        b'{"n":1.50,"big":123456789012345678901234567890,"e":1e3,"u":"\\u00e9"}'
    )


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'{"a":NaN}', b'{"a":1', b"{} x"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(NotAnObjectError):
        cut(raw)


def test_nesting_that_would_exhaust_the_stack_is_refused() -> None:
    with pytest.raises(NotAnObjectError):
        cut(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(JSON)
def test_one_line_is_the_same_value_without_breaks(value: object) -> None:
    line = one_line(json.dumps(value, indent=1).encode())
    assert b"\n" not in line
    assert json.loads(line) == value


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00 and \ud83d\uDE00"', rb'"\ufffd and \ud83d\uDE00"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\\ud83d \u00e9 \" \n"', rb'"\\ud83d \u00e9 \" \n"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\ud83d\n"', rb'"\ufffd\n"'),
        (rb'"\ud7ff \ue000"', rb'"\ud7ff \ue000"'),
    ],
)
def test_halves_of_surrogate_pairs_are_replaced_and_nothing_else(raw: bytes, mended: bytes) -> None:
    assert without_lone_surrogates(raw) == mended
    json.loads(mended).encode()
