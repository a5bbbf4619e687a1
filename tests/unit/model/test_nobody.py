from __future__ import annotations

import pytest

from waygate_mcp.errors import LocalProtocolError
from waygate_mcp.model.call import LogEvent, Question
from waygate_mcp.model.nobody import NOBODY


async def test_nobody_hears_nothing_and_answers_nothing() -> None:
    assert NOBODY.log_level is None
    await NOBODY.emit(LogEvent("info", b"1"))
    await NOBODY.close_stream()
    with pytest.raises(LocalProtocolError):
        await NOBODY.ask(Question("roots/list", b"{}"))
