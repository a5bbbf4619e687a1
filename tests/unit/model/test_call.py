from __future__ import annotations

from typing import Any, cast

import pytest

from waygate_mcp.model.call import Call
from waygate_mcp.model.ports import Caller
from waygate_mcp.model.principal import LOCAL
from waygate_mcp.protocol.capabilities import NO_CAPABILITIES
from waygate_mcp.protocol.versions import MODERN


def call(**params: Any) -> Call:
    """A call with these parameters."""
    return Call(
        request_id="r1",
        endpoint="default",
        method="tools/call",
        name="hello__echo",
        params=params,
        body=b"{}",
        principal=LOCAL,
        revision=MODERN,
        capabilities=NO_CAPABILITIES,
        caller=cast("Caller", None),
        deadline_s=1.0,
    )


def test_a_call_starts_unrouted_and_without_anything_optional() -> None:
    made = call()
    assert (made.target, made.provider) == ("", "")
    assert made.progress_token is None
    assert made.input_responses is None
    assert made.request_state is None
    assert made.headers is None


@pytest.mark.parametrize("params", [{}, {"arguments": None, "_meta": None}])
def test_absent_arguments_and_meta_read_as_empty(params: dict[str, Any]) -> None:
    made = call(**params)
    assert made.arguments == {}
    assert made.meta == {}


def test_arguments_and_meta_are_those_of_the_request() -> None:
    made = call(arguments={"a": 1}, _meta={"progressToken": 5})
    assert made.arguments == {"a": 1}
    assert made.meta == {"progressToken": 5}
