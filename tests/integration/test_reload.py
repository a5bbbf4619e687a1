"""A running server whose document changes: all or nothing, and nobody is hung up on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import Gateway, serving
from tests.integration.test_web_shell import await_all, call, get, slow_call, until

HELLO = {"use": "waygate_mcp.plugins.builtin.hello"}
FIRST: Mapping[str, Any] = {"version": 1, "plugins": {"hello": HELLO}}
SECOND: Mapping[str, Any] = {**FIRST, "endpoints": {"dev": {}}}
MISSPELT: Mapping[str, Any] = {**FIRST, "endpints": {}}


def generation(gateway: Gateway) -> int:
    checks = json.loads(get(gateway, "/health", **gateway.headers)[2])["checks"]
    return int(checks["configuration"]["generation"])


def configuration(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(gateway, "/health", **gateway.headers)[2])["checks"]
    return dict(found["configuration"])


def has_dev(gateway: Gateway) -> bool:
    """Whether the endpoint `dev` exists: an empty POST is then about its type and not unknown."""
    return get(gateway, "/servers/dev/mcp", "POST", **gateway.headers)[0] == 415


def rewrite(gateway: Gateway, document: Mapping[str, Any]) -> None:
    (gateway.folder / "waygate.yaml").write_text(json.dumps(document), encoding="utf-8")


def test_a_hang_up_signal_puts_the_changed_document_in_force(tmp_path: Path) -> None:
    with serving(tmp_path, FIRST) as running:
        assert not has_dev(running)
        rewrite(running, SECOND)
        assert generation(running) == 1
        running.process.send_signal(signal.SIGHUP)
        until(lambda: has_dev(running), "the new endpoint")
        assert generation(running) == 2
        status, body = call(running, "greet", {"name": "you"})
        assert status == 200, body


def test_a_misspelt_key_leaves_the_old_generation_serving_and_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, FIRST) as running:
        rewrite(running, MISSPELT)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: configuration(running)["status"] == "degraded", "word of the failure")
        found = configuration(running)
        assert found["generation"] == 1
        assert "endpints: unknown key (did you mean `endpoints`?)" in found["problems"][0]
        until(lambda: "reload_failed" in running.log(), "a line about it")
        status, _ = call(running, "greet", {"name": "you"})
        assert status == 200
        rewrite(running, SECOND)
        running.process.send_signal(signal.SIGHUP)
        until(lambda: has_dev(running), "the new endpoint, once mended")
        assert configuration(running)["status"] == "healthy"


def test_a_plugin_that_cannot_be_loaded_leaves_the_old_generation_serving(tmp_path: Path) -> None:
    with serving(tmp_path, FIRST) as running:
        rewrite(running, {**SECOND, "plugins": {"hello": HELLO, "other": {"use": "no.such"}}})
        running.process.send_signal(signal.SIGHUP)
        until(lambda: configuration(running)["status"] == "degraded", "word of the failure")
        assert "plugins.other.use" in configuration(running)["problems"][0]
        assert not has_dev(running)
        assert call(running, "greet", {"name": "you"})[0] == 200


def test_a_call_under_way_ends_in_the_generation_it_began_in(tmp_path: Path) -> None:
    everything = {"everything": {"use": "waygate_mcp.testing.everything"}}
    with serving(tmp_path, {"version": 1, "plugins": everything}) as running:
        with slow_call(running, 2.0) as got:
            rewrite(running, FIRST)
            running.process.send_signal(signal.SIGHUP)
            until(lambda: generation(running) == 2, "the new generation")
            assert call(running, "greet", {"name": "you"})[0] == 200
            assert got == []
        status, body = got[0]
        assert status == 200
        assert b'"error"' not in body


def test_a_change_of_the_file_reloads_where_that_was_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, FIRST, arguments=("--reload",)) as running:
        time.sleep(0.5)  # the watcher begins beside the first request
        rewrite(running, SECOND)
        until(lambda: has_dev(running), "the new endpoint")


def test_a_change_of_the_file_alone_is_no_reload(tmp_path: Path) -> None:
    with serving(tmp_path, FIRST) as running:
        rewrite(running, SECOND)
        time.sleep(1)
        assert generation(running) == 1


@pytest.mark.parametrize("workers", ["2"])
def test_a_hang_up_signal_reaches_every_worker(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path, FIRST, arguments=("--workers", workers)) as running:
        await_all(running)
        rewrite(running, SECOND)
        running.process.send_signal(signal.SIGHUP)
        # In the output each says so once; in all that was logged, once more.
        until(lambda: running.output.read_text().count('"reloaded"') >= 2, "both workers' word")
        assert all(has_dev(running) for _ in range(20))
