"""Why a key may use something, by the admin API."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.unit.web.admin.test_keys import Api, open_api


async def told(api: Api, **asked: str) -> dict[str, Any]:
    answer = await api.ask("GET", f"/explain?{urlencode(asked)}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


async def test_the_rule_that_settles_it_comes_last(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        key = (await api.made("greeter"))["id"]
        greet = await told(api, key=key, name="greet")
        assert (greet["allowed"], greet["listed"], greet["provider"]) == (True, True, "hello")
        assert greet["rules"][-1] == "Granted by the role greeter: tools:call:greet."
        echo = await told(api, key=key, name="echo")
        assert (echo["allowed"], echo["listed"]) == (False, False)
        assert echo["rules"][-1] == "No role of greeter grants tools:call for it."


async def test_a_revoked_key_may_nothing_and_that_is_said_last(tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        key = (await api.made("admin"))["id"]
        await api.ask("DELETE", f"/keys/{key}")
        found = await told(api, key=key, name="greet")
        assert (found["allowed"], found["state"]) == (False, "revoked")
        assert found["rules"][-1] == "The key is revoked: it is refused."


@pytest.mark.parametrize("asked", [{"key": "nobody"}, {"endpoint": "nowhere"}])
async def test_a_key_or_endpoint_nobody_knows_is_404(asked: dict[str, str], tmp_path: Path) -> None:
    async with open_api(tmp_path) as api:
        key = (await api.made("admin"))["id"]
        wanted = {"key": key, "name": "greet", **asked}
        answer = await api.ask("GET", f"/explain?{urlencode(wanted)}")
        assert answer.status == 404
