from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from waygate_mcp.upstreams.channel import RemoteError
from waygate_mcp.upstreams.detect import Verdict, judge, read_discovery


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("status", "result", "code", "expected"),
    [
        (
            200,
            {"supportedVersions": ["2026-07-28"], "resultType": "complete"},
            None,
            Verdict.MODERN,
        ),
        (200, {"supportedVersions": ["2025-11-25", "2026-07-28"]}, None, Verdict.MODERN),
        (
            200,
            {"supportedVersions": ["2025-11-25"], "resultType": "complete"},
            None,
            Verdict.LEGACY,
        ),
        (200, {"resultType": "complete"}, None, Verdict.MODERN),
        (200, {}, None, Verdict.LEGACY),
        (200, [], None, Verdict.LEGACY),
        (400, None, -32020, Verdict.MODERN),
        (400, None, -32021, Verdict.MODERN),
        (400, None, -32022, Verdict.MODERN),
        (400, None, -32600, Verdict.LEGACY),
        (404, None, -32601, Verdict.LEGACY),
        (200, None, -32601, Verdict.LEGACY),
        (200, None, -32602, Verdict.LEGACY),
        (404, None, None, Verdict.LEGACY),
        (405, None, None, Verdict.LEGACY),
        (400, None, None, Verdict.LEGACY),
        (401, None, None, Verdict.CLOSED),
        (403, None, -32600, Verdict.CLOSED),
        (500, None, None, Verdict.OUTAGE),
        (503, None, -32603, Verdict.OUTAGE),
    ],
)
def test_the_verdict(status: int, result: Any, code: int | None, expected: Verdict) -> None:
    error = None if code is None else RemoteError(code, "no")
    assert judge(status, None if result is None else raw(result), error) is expected


def test_a_discovery_is_read_as_far_as_it_is_one() -> None:
    found = read_discovery(raw({"supportedVersions": ["a"], "instructions": "hi", "more": 1}))
    assert found is not None
    assert (found.supported_versions, found.instructions, found.capabilities) == (("a",), "hi", {})
    assert read_discovery(raw({"supportedVersions": "a"})) is None
    assert read_discovery(None) is None
