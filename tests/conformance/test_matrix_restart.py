"""An upstream that restarts while a client of the gateway is subscribed to one of its resources."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from tests.conformance.cells import OPEN, Cell, listening, prepare
from tests.conformance.era_clients import call, client_of
from tests.integration.gateway_process import serving
from tests.support.ports import free_port

pytestmark = [pytest.mark.timeout(120)]

WATCHED = "test://watched-resource"


@pytest.mark.parametrize(
    ("cell", "era", "keeps_sessions", "failures"),
    [
        (Cell("legacy", "http"), "legacy", True, 0),
        (Cell("legacy", "http"), "modern", False, 0),
        (Cell("legacy", "sse"), "legacy", False, 0),
        (Cell("modern", "http"), "modern", False, 0),
        (Cell("modern", "http"), "legacy", False, 6),
        (Cell("legacy", "http"), "modern", False, 6),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_subscription_outlives_a_restart_of_the_upstream(
    tmp_path: Path, cell: Cell, era: str, keeps_sessions: bool, failures: int
) -> None:
    """A server may know its sessions after a restart, by their tokens, and nothing of their subscriptions.

    After `failures` calls that fail meanwhile, the gateway has given its connection up and makes a new one.
    """
    document, record = prepare(cell, tmp_path)
    port = free_port()
    with listening(cell, document, record, port) as url:
        served = {"version": 1, **OPEN, "upstreams": {"fixture": {"url": url}}}
        gateway = serving(tmp_path / "gateway", served, key=None)
        with contextlib.ExitStack() as stack:
            client = client_of(stack.enter_context(gateway).url, era)
            changes = stack.enter_context(client.changes((WATCHED,)))
            call(client, "update_watched_resource")
            changes.wait_for("notifications/resources/updated")
            rest = stack.pop_all()
    with rest:
        for _ in range(failures):
            params = {"name": "test_simple_text"}
            assert client.request("tools/call", params).final["error"]["code"] == -32603
        environment = {} if keeps_sessions else {"ONE_ERA_SECRET": "t" * 40}
        with listening(cell, document, record, port, environment):
            changes.forget()
            # It may have changed meanwhile, and so it is told as changed.
            changes.wait_for("notifications/resources/updated", within_s=40)
            time.sleep(0.5)
            changes.forget()
            call(client, "update_watched_resource")
            changes.wait_for("notifications/resources/updated")
            client.close()
