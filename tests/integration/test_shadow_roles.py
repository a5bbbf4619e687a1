"""A role in shadow in a whole application: nobody is refused, and the operator sees who would be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.test_access_walk import Keys
from tests.support.house import BEARER, HOST, ask, open_app, settings_in
from waygate_mcp.audit.files import FOLDER
from waygate_mcp.audit.reading import records
from waygate_mcp.auth.key_desk import KeyDesk
from waygate_mcp.config.load import load_document
from waygate_mcp.config.roles import roles_of
from waygate_mcp.errors import ConfigError
from waygate_mcp.storage.api_keys import ApiKeys

DOCUMENT: dict[str, Any] = {
    "plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}},
    "roles": {"agent": ["session:open", "tools:list", "tools:call"], "other": ["*"]},
    "shadow_roles": {"agent": ["session:open", "tools:list", "tools:call:greet"]},
}


async def test_nobody_is_refused_and_everybody_is_counted(tmp_path: Path) -> None:
    async with open_app(settings_in(tmp_path, DOCUMENT)) as (app, house):
        foundation = house.foundation
        desk = KeyDesk(
            ApiKeys(foundation.database), foundation.key_hash, roles_of(DOCUMENT["roles"]),
            foundation.clock.now,
        )  # fmt: skip
        keys = Keys(app, house, desk)
        agent, other = await keys.make("agent"), await keys.make("other")
        narrow = await keys.make("agent", names=("greet",))
        echo = {"name": "echo", "arguments": {"text": "said"}}
        greet = {"name": "greet", "arguments": {"name": "Ada"}}
        for key, params in ((agent, echo), (agent, greet), (other, echo)):
            answer = await keys.modern(key, "tools/call", params)
            assert "result" in answer.json(), answer.body
        # Refused today, by its key: no role in shadow has a part in it.
        assert "error" in (await keys.modern(narrow, "tools/call", echo)).json()
        metrics = (await ask(app, "/metrics", "GET", (HOST, BEARER))).body.decode()
        assert 'waygate_shadow_refusals_total{role="agent"} 1.0' in metrics

        async def explained(key: str, name: str) -> tuple[bool, list[str]]:
            asked = urlencode({"key": key[3:15], "name": name})
            told = await ask(app, f"/admin/v1/explain?{asked}", "GET", (HOST, BEARER))
            found = told.json()
            return found["allowed"], found["shadow"]

        assert await explained(agent, "echo") == (True, ["agent"])
        assert await explained(agent, "greet") == (True, [])
        assert await explained(other, "echo") == (True, [])
        assert await explained(narrow, "echo") == (False, [])
    written = [one for one, _ in records(house.settings.data_dir / FOLDER)]
    ended = [one for one in written if one["kind"] == "outcome"]
    assert [one.get("shadow") for one in ended] == [["agent"], None, None, None]
    assert [one["outcome"] for one in ended] == ["ok", "ok", "ok", "unknown_name"]


def test_a_shadow_of_a_role_nobody_has_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "waygate.yaml"
    path.write_text(json.dumps({"version": 1, "shadow_roles": {"viewr": ["tools:list"]}}))
    with pytest.raises(ConfigError, match="no role is named `viewr`") as caught:
        load_document(path, settings_in(tmp_path / "other"))
    assert "viewer" in str(caught.value)
