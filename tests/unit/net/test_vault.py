"""Vault: logins, both engines, leases, and what is an outage and what a no."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.vault import ROOT, FakeVault
from waygate_mcp.config.secret_sources import VaultSection
from waygate_mcp.errors import ConfigError, UpstreamError, UpstreamUnavailableError
from waygate_mcp.net import vault as module
from waygate_mcp.net.dial import NetworkPolicy
from waygate_mcp.net.vault import Vault, VaultText, vault_place


class Bench:
    """A Vault that is asked, a fake that answers, and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake = FakeVault()
        self.now_s = 0.0
        self.hidden: list[str] = []
        self.folder = folder
        self.opened: list[tuple[Any, ...]] = []
        (folder / "root").write_text(ROOT)
        (folder / "root").chmod(0o600)

        @asynccontextmanager
        async def opening(url: str, policy: NetworkPolicy, **more: Any) -> AsyncIterator[FakeVault]:
            self.opened.append((url, policy, more))
            yield self.fake

        monkeypatch.setattr(module, "open_transport", opening)

    def vault(self, **section: Any) -> Vault:
        section.setdefault("address", "https://vault.example.org:8200")
        if not {"kubernetes", "approle"} & set(section):
            section.setdefault("token", f"${{file:{self.folder / 'root'}}}")
        return Vault(
            VaultSection(**section),
            data_dir=self.folder,
            on_secret=self.hidden.append,
            monotonic=lambda: self.now_s,
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


async def test_a_text_of_the_engine_of_version_2(bench: Bench) -> None:
    bench.fake.secrets["secret/data/waygate/TOKEN"] = {"value": " the text \n"}
    found = await bench.vault(namespace="team").read("TOKEN")
    assert found == VaultText("the text", 0.0)
    method, path, headers = bench.fake.requests[0]
    assert (method, path) == ("GET", "/v1/secret/data/waygate/TOKEN")
    assert headers["x-vault-token"] == ROOT
    assert headers["x-vault-namespace"] == "team"
    assert bench.hidden == [ROOT]
    assert "the text" not in repr(found)


async def test_a_text_of_the_engine_of_version_1_with_its_lease(bench: Bench) -> None:
    bench.fake.secrets["kv/apps/git hub"] = {"token": "the text"}
    bench.fake.lease_s = 90
    vault = bench.vault(kv=1, mount="kv", names={"TOKEN": "apps/git hub#token"})
    bench.fake.secrets["kv/apps/git%20hub"] = bench.fake.secrets["kv/apps/git hub"]
    assert await vault.read("TOKEN") == VaultText("the text", 90.0)
    assert bench.fake.requests[0][1] == "/v1/kv/apps/git%20hub"


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (None, "nothing at secret/waygate/TOKEN"),
        ({"other": "x"}, "no text 'value'"),
        ({"value": 5}, "no text 'value'"),
        ({"value": "  "}, "no text 'value'"),
    ],
)
async def test_what_is_not_there_is_a_no(bench: Bench, held: Any, message: str) -> None:
    if held is not None:
        bench.fake.secrets["secret/data/waygate/TOKEN"] = held
    with pytest.raises(ConfigError, match=message):
        await bench.vault().read("TOKEN")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_may_be_otherwise_later_is_an_outage(bench: Bench, status: int) -> None:
    bench.fake.status = status
    with pytest.raises(UpstreamError, match=f"HTTP {status}"):
        await bench.vault().read("TOKEN")


async def test_a_refusal_names_the_place_and_no_token(bench: Bench) -> None:
    bench.fake.tokens.clear()
    with pytest.raises(ConfigError, match="refuses secret/waygate/TOKEN with HTTP 403") as caught:
        await bench.vault().read("TOKEN")
    assert ROOT not in str(caught.value)


async def test_a_login_is_kept_for_two_thirds_of_its_lease(bench: Bench) -> None:
    (bench.folder / "jwt").write_text("the-pod-token")
    (bench.folder / "jwt").chmod(0o600)
    bench.fake.login_lease_s = 90
    bench.fake.secrets["secret/data/waygate/TOKEN"] = {"value": "x"}
    vault = bench.vault(
        kubernetes={"role": "gateway", "token_file": str(bench.folder / "jwt"), "mount": "k8s"}
    )
    for bench.now_s in (0.0, 59.0, 60.0):
        await vault.read("TOKEN")
    logins = [path for _, path, _ in bench.fake.requests if path == "/v1/auth/k8s/login"]
    assert len(logins) == 2
    assert {"the-pod-token", "hvs.login-1", "hvs.login-2"} <= set(bench.hidden)


async def test_a_login_that_is_refused_later_is_made_anew_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_SECRET_ID", "the-secret-id")
    bench.fake.secrets["secret/data/waygate/TOKEN"] = {"value": "x"}
    vault = bench.vault(approle={"role_id": "the-role", "secret_id": "${env:VAULT_SECRET_ID}"})
    await vault.read("TOKEN")
    bench.fake.tokens.clear()
    assert (await vault.read("TOKEN")).text == "x"
    assert json.loads(bench.fake.bodies[0]) == {
        "role_id": "the-role",
        "secret_id": "the-secret-id",
    }


async def test_a_login_that_vault_refuses_is_a_no(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_SECRET_ID", "a-wrong-one")
    vault = bench.vault(approle={"role_id": "the-role", "secret_id": "${env:VAULT_SECRET_ID}"})
    with pytest.raises(ConfigError, match="refuses the login with HTTP 400"):
        await vault.read("TOKEN")


async def test_answers_that_are_no_json_or_too_large_are_outages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.fake, "handle", lambda *_: (200, b"<html>"))
    with pytest.raises(UpstreamError, match="without JSON"):
        await bench.vault().read("TOKEN")
    monkeypatch.setattr(bench.fake, "handle", lambda *_: (200, b" " * (1024 * 1024 + 1)))
    with pytest.raises(UpstreamError, match="more than it may"):
        await bench.vault().read("TOKEN")
    monkeypatch.setattr(bench.fake, "handle", lambda *_: (404, b""))
    with pytest.raises(ConfigError, match="nothing at"):
        await bench.vault().read("TOKEN")


async def test_a_vault_that_hangs_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def hanging(*_: Any) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(bench.fake, "request", hanging)
    with pytest.raises(UpstreamError, match="in time"):
        await bench.vault(timeout_s=0.01).read("TOKEN")


async def test_one_that_takes_too_long_to_open_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def hanging(*_: Any, **__: Any) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(module, "open_transport", hanging)
    with pytest.raises(UpstreamError, match="in time"):
        await bench.vault(timeout_s=0.01).read("TOKEN")


async def test_one_that_is_not_reached_is_an_outage(bench: Bench) -> None:
    bench.fake.is_down = True
    with pytest.raises(UpstreamUnavailableError):
        await bench.vault().read("TOKEN")


async def test_it_is_dialled_under_the_documents_policy(bench: Bench, tmp_path: Path) -> None:
    bench.fake.secrets["secret/data/waygate/TOKEN"] = {"value": "x"}
    await bench.vault().read("TOKEN")
    await bench.vault(network="private").read("TOKEN")
    await bench.vault(address="http://127.0.0.1:8200").read("TOKEN")
    policies = [policy for _, policy, _ in bench.opened]
    assert policies[0] == NetworkPolicy()
    assert policies[1] == NetworkPolicy(allows_private=True)
    assert policies[2] == NetworkPolicy(exceptions=frozenset({("127.0.0.1", 8200)}))
    with pytest.raises(ConfigError, match="cannot read the certificates"):
        await bench.vault(ca_file=str(tmp_path / "nothing.pem")).read("TOKEN")


def test_names_have_their_own_places_or_that_of_the_folder() -> None:
    section = VaultSection(
        address="https://v.example.org",
        token="${env:T}",
        path="team/app",
        names={"A": "x/y", "B": "x/y#z"},
    )
    assert vault_place(section, "A") == ("x/y", "value")
    assert vault_place(section, "B") == ("x/y", "z")
    assert vault_place(section, "C") == ("team/app/C", "value")
