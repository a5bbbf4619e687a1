from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_upstream import FakeServer
from tests.support.house import BEARER, HOST, Answer, ask, open_house, settings_in, write_document
from waygate_mcp.gateway.places import Place
from waygate_mcp.model.principal import Principal
from waygate_mcp.runtime.clock import Clock
from waygate_mcp.runtime.house import House
from waygate_mcp.runtime.peers import Workplace
from waygate_mcp.web import health
from waygate_mcp.web.guard import Guard
from waygate_mcp.web.health import Disk, HealthRoutes
from waygate_mcp.web.rest import RestDoor

HELLO: dict[str, Any] = {"plugins": {"hello": {"use": "waygate_mcp.plugins.builtin.hello"}}}


class Time:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def get(house: House[Guard], path: str, *headers: tuple[bytes, bytes]) -> Answer:
    door = RestDoor(house)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await door(scope, scope["path"], receive, send)

    return await ask(app, path, "GET", (HOST, *headers))


async def test_the_root_says_what_this_is(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        found = (await get(house, "/")).json()
        assert set(found) == {"service", "version", "status", "description", "documentation"}
        assert (found["service"], found["status"]) == ("waygate-mcp", "ready")
        assert found["documentation"] == "/docs"
        house.is_draining = True
        assert (await get(house, "/")).json()["status"] == "draining"


async def test_in_production_no_documentation_is_named(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {}, env="production")) as house:
        assert (await get(house, "/")).json()["documentation"] is None


async def test_a_healthy_server_says_so_with_its_checks(tmp_path: Path) -> None:
    time = Time()
    async with open_house(settings_in(tmp_path, HELLO), clock=Clock(monotonic=time)) as house:
        time.now_s += 0.25
        answer = await get(house, "/health", BEARER)
        found = answer.json()
        assert (answer.status, found["status"]) == (200, "healthy")
        assert set(found["checks"]) == {
            "database", "filesystem", "plugins", "upstreams", "event_loop", "configuration", "audit",
        }  # fmt: skip
        database = found["checks"]["database"]
        assert (database["status"], database["kind"]) == ("healthy", "sqlite")
        assert found["checks"]["plugins"] == {
            "status": "healthy",
            "opened": ["hello"],
            "missing": [],
        }
        assert found["checks"]["configuration"]["generation"] == 1
        assert found["uptime_seconds"] == 0.25
        assert found["timestamp"].endswith("Z")
        assert answer.header("cache-control") == "no-store"


async def test_a_database_that_is_away_is_degraded_and_calls_go_on(tmp_path: Path) -> None:
    time = Time()
    async with open_house(settings_in(tmp_path, HELLO), clock=Clock(monotonic=time)) as house:
        routes = HealthRoutes(house)
        found = house.foundation
        await found.writer.flush()
        await found.database.close()
        check = (await routes.checks())["database"]
        assert check == {
            "status": "degraded", "kind": "sqlite", "error": "the database is not open",
            "records_waiting": 0,
        }  # fmt: skip
        assert (await get(house, "/health")).status == 200
        await found.database.open(upgrade_tables=False)
        assert (await routes.checks())["database"] == check, "measured every few seconds"
        time.now_s += 6
        assert (await routes.checks())["database"]["status"] == "healthy"
        found.writer.outage = "nobody there"
        check = (await routes.checks())["database"]
        assert (check["status"], check["error"]) == ("degraded", "nobody there")


@pytest.mark.parametrize("headers", [(), ((b"x-api-key", b"wrong"),)])
async def test_a_stranger_sees_states_and_no_names(tmp_path: Path, headers: Any) -> None:
    async with open_house(settings_in(tmp_path, HELLO)) as house:
        answer = await get(house, "/health", *headers)
        assert answer.status == 200
        assert all(set(check) == {"status"} for check in answer.json()["checks"].values())
        assert b"hello" not in answer.body


async def test_a_plugin_that_is_missing_degrades(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, HELLO)) as house:
        object.__setattr__(house.current(), "providers", ())
        answer = await get(house, "/health", BEARER)
        assert (answer.status, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["plugins"]["missing"] == ["hello"]


async def test_an_upstream_that_is_down_degrades_and_only_the_trusted_learn_which_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer()
    server.is_up = False
    server.put_in_place(monkeypatch)
    document = {"upstreams": {"web": {"url": "https://h/mcp"}}}
    async with open_house(settings_in(tmp_path, document)) as house:
        answer = await get(house, "/health", BEARER)
        assert (answer.status, answer.json()["status"]) == (200, "degraded")
        check = answer.json()["checks"]["upstreams"]
        assert (check["status"], check["states"]) == ("degraded", {"web": "failing"})
        assert "503" in check["errors"]["web"]
        assert answer.json()["checks"]["plugins"]["opened"] == []
        stranger = await get(house, "/health")
        assert stranger.json()["checks"]["upstreams"] == {"status": "degraded"}
        server.is_up = True
        await house.current().upstreams["web"].reopen()
        check = (await get(house, "/health", BEARER)).json()["checks"]["upstreams"]
        assert check == {"status": "healthy", "states": {"web": "ready"}, "errors": {}}


@pytest.mark.parametrize(
    ("lag_s", "status", "code"),
    [(0.4, "healthy", 200), (1.0, "degraded", 200), (6.0, "unhealthy", 503)],
)
async def test_a_late_event_loop_shows(
    tmp_path: Path, lag_s: float, status: str, code: int
) -> None:
    time = Time()
    async with open_house(settings_in(tmp_path, {}), clock=Clock(monotonic=time)) as house:
        await asyncio.sleep(0)  # the first beat is awaited from now on
        time.now_s = 1000.5 + lag_s
        answer = await get(house, "/health", BEARER)
        assert (answer.status, answer.json()["status"]) == (code, status)
        assert answer.json()["checks"]["event_loop"]["lag_ms"] == pytest.approx(lag_s * 1000)


async def test_a_failed_reload_degrades_and_names_the_key(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        write_document(tmp_path / "waygate.yaml", {"plugns": {}})
        await house.reload("test")
        check = (await get(house, "/health", BEARER)).json()["checks"]["configuration"]
        assert check["status"] == "degraded"
        assert "plugns" in check["problems"][0]
        write_document(tmp_path / "waygate.yaml", {})
        await house.reload("test")
        check = (await get(house, "/health", BEARER)).json()["checks"]["configuration"]
        assert check == {"status": "healthy", "generation": 2}


async def test_a_data_folder_that_cannot_be_written_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    async with open_house(settings_in(tmp_path, {})) as house:
        monkeypatch.setattr(Path, "write_bytes", full)
        answer = await get(house, "/health", BEARER)
        assert (answer.status, answer.json()["status"]) == (503, "unhealthy")
        assert answer.json()["checks"]["filesystem"]["error"] == "No space left on device"


async def test_a_disk_that_lies_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _self: b"another thing")
    assert (await Disk(tmp_path).check(0))["status"] == "unhealthy"


async def test_a_disk_that_does_not_answer_is_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "to_thread", never)
    monkeypatch.setattr(health, "DISK_TIMEOUT_S", 0)
    assert (await Disk(tmp_path).check(0))["error"] == "the disk does not answer"


async def test_the_disk_is_measured_now_and_then_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Path] = []
    real = health._try_disk

    def count(folder: Path) -> Any:
        counted.append(folder)
        return real(folder)

    monkeypatch.setattr(health, "_try_disk", count)
    disk = Disk(tmp_path)
    for now_s in (0, 4.9, 5, 9.9, 10):
        assert (await disk.check(now_s))["status"] == "healthy"
    assert len(counted) == 3
    assert os.listdir(tmp_path) == []


async def test_ready_until_it_drains(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        answer = await get(house, "/ready")
        assert (answer.status, answer.json()) == (200, {"ready": True})
        house.is_draining = True
        answer = await get(house, "/ready")
        assert (answer.status, answer.json()["ready"]) == (503, False)
        assert answer.json()["reason"]


async def test_metrics_are_text_for_prometheus(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        answer = await get(house, "/metrics", BEARER, (b"accept", b"text/plain"))
        assert answer.status == 200
        assert (answer.header("content-type") or "").startswith("text/plain")
        assert b"waygate_build_info{" in answer.body


async def test_metrics_need_their_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(settings_in(tmp_path, {})) as house:
        little = Principal("key:little", "little", frozenset({"tools:call"}))
        monkeypatch.setattr(house.current().guard, "_authenticate", lambda _headers: little)
        answer = await get(house, "/metrics", BEARER)
        assert answer.status == 403
        assert answer.json()["error"]["details"] == {"permission": "metrics:read"}


async def test_several_workers_say_who_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = Workplace(Place(0, 3), tmp_path, b"key")
    async with open_house(settings_in(tmp_path, {}), workplace=workplace) as house:
        routes = HealthRoutes(house)
        monkeypatch.setattr(house.peers, "is_there", lambda slot: slot == 1)
        found = (await routes.checks())["workers"]
        assert found == {"status": "degraded", "count": 3, "missing": [2]}
        monkeypatch.setattr(house.peers, "is_there", lambda _slot: True)
        assert (await routes.checks())["workers"]["status"] == "healthy"
    async with open_house(settings_in(tmp_path / "alone")) as house:
        assert "workers" not in await HealthRoutes(house).checks()
