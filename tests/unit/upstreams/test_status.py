from __future__ import annotations

import pytest

from waygate_mcp.errors import (
    TooLargeError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    WaygateError,
)
from waygate_mcp.upstreams.breaker import LeftAloneError
from waygate_mcp.upstreams.status import NO_LEDGER, result_of, uncounted


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (LeftAloneError("up"), "refused"),
        (UpstreamTimeoutError("up"), "timeout"),
        (UpstreamUnavailableError("up"), "failed"),
        (UpstreamProtocolError("up"), "failed"),
        (TooLargeError(10), "failed"),
    ],
)
def test_each_failure_has_its_word(error: WaygateError, result: str) -> None:
    assert result_of(error) == result


def test_where_nobody_counts_counting_does_nothing() -> None:
    assert NO_LEDGER.count is None
    uncounted("ok")
