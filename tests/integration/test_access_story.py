"""As a new operator: a role that may only read files, a key for it, and all that happens to the key."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.integration.gateway_process import clean_environment, serving, waygate
from tests.support.modern_client import ModernClient

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "plugins": {
        "files": {"use": "waygate_mcp.plugins.builtin.hello"},
        "mail": {"use": "waygate_mcp.plugins.builtin.hello"},
    },
    "roles": {"reader": ["session:open", "tools:list:files__*", "tools:call:files__echo"]},
}
WITHIN_S = 5.0


def test_a_key_from_its_making_to_its_end(tmp_path: Path) -> None:
    with serving(tmp_path, DOCUMENT) as gateway:

        def run(*words: str, code: int = 0) -> str:
            done = subprocess.run(
                [waygate(), *words, "--json", "-c", str(tmp_path / "waygate.yaml")],
                env=clean_environment(tmp_path), cwd=tmp_path, capture_output=True, text=True,
                timeout=30, check=False,
            )  # fmt: skip
            assert done.returncode == code, (words, done.stdout, done.stderr)
            return done.stdout

        def client(key: str) -> ModernClient:
            return ModernClient(gateway.url, {"authorization": f"Bearer {key}"})

        def status_within(key: str, wanted: int) -> int:
            end = time.monotonic() + WITHIN_S
            while (found := client(key).send("tools/list").status) != wanted:
                if time.monotonic() > end:
                    break
            return found

        made = json.loads(run("keys", "create", "reports", "--role", "reader"))
        id_, first = made["id"], made["key"]
        assert status_within(first, 200) == 200
        names = [tool["name"] for tool in client(first).send("tools/list").result["tools"]]
        assert names == ["files__echo"]
        assert client(first).call("files__echo", text="read").text == "read"
        refused = client(first).call("mail__echo", text="x")
        assert refused.raw == client(first).call("mail__gone", text="x").raw.replace(
            b"mail__gone", b"mail__echo"
        )

        def explained(name: str, code: int) -> dict[str, Any]:
            told: dict[str, Any] = json.loads(
                run("explain", id_, name, "--url", gateway.url, code=code)
            )
            return told

        assert explained("files__echo", 0)["rules"][-1] == (
            "Granted by the role reader: tools:call:files__echo."
        )
        assert explained("mail__echo", 1)["rules"][-1].startswith("No role of reader grants")

        second = json.loads(run("keys", "rotate", id_))["key"]
        assert second != first
        assert client(first).call("files__echo", text="old").text == "old"
        assert status_within(second, 200) == 200
        assert client(second).call("files__echo", text="new").text == "new"
        assert client(first).call("files__echo", text="old").text == "old"

        run("keys", "revoke", id_)
        assert status_within(first, 401) == 401
        assert status_within(second, 401) == 401
        assert json.loads(run("keys", "show", id_))["state"] == "revoked"

        # And all of it is in the audit: what was done to the key, and what was done with it.
        exported = subprocess.run(
            [waygate(), "audit", "export"],
            env=clean_environment(tmp_path), cwd=tmp_path, capture_output=True, text=True,
            timeout=30, check=True,
        ).stdout  # fmt: skip
        records = [json.loads(line) for line in exported.splitlines()]
        done = [
            record["name"] for record in records
            if record["kind"] == "administration" and record["outcome"] == "done"
        ]  # fmt: skip
        assert sorted(done) == ["keys.create", "keys.revoke", "keys.rotate"]
        ours = [record for record in records if record.get("principal") == f"key:{id_}"]
        assert {record["kind"] for record in ours} >= {"start", "outcome"}
        assert "files__echo" in {record.get("name") for record in ours}
        assert "mail__echo" in {record.get("name") for record in ours}
        assert first not in exported
        assert second not in exported
        verified = subprocess.run(
            [waygate(), "audit", "verify"], env=clean_environment(tmp_path), cwd=tmp_path,
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stdout + verified.stderr
