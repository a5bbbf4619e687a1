from __future__ import annotations

import dataclasses
import datetime

import pytest
from pydantic import BaseModel, Field

from waygate_mcp.toolkit.content import Text
from waygate_mcp.toolkit.encoding import decode_json, encode_json, encode_text


class Model(BaseModel):
    name: str = Field(alias="fullName")


@dataclasses.dataclass
class Point:
    x: int


def test_models_dataclasses_structs_dates_and_bytes_are_written() -> None:
    value = [Model(fullName="a"), Point(1), Text("t"), datetime.date(2026, 1, 2), b"abc"]
    assert encode_json(value) == (
        b'[{"fullName":"a"},{"x":1},{"type":"text","text":"t"},"2026-01-02","YWJj"]'
    )


def test_text_is_the_same_as_a_text() -> None:
    assert encode_text({"a": "ü"}) == '{"a":"ü"}'
    assert decode_json(encode_json({"a": [1, None]})) == {"a": [1, None]}


def test_what_cannot_be_json_is_an_error() -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_json(object())
