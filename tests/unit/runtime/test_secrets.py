"""Secrets for a generation: what is fetched from where, what an outage changes, what a change asks for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import settings_in
from waygate_mcp.config.document import Document
from waygate_mcp.config.references import KnownSecrets
from waygate_mcp.config.secret_sources import SecretsSection, VaultSection
from waygate_mcp.errors import ConfigError, StorageError, UpstreamUnavailableError
from waygate_mcp.net.vault import VaultText
from waygate_mcp.runtime import secrets as module
from waygate_mcp.runtime.secrets import STORE, SecretHouse, fetch_for_command, secret_uses
from waygate_mcp.storage.secrets import Fetched

VAULT = SecretsSection(vault=VaultSection(address="https://v.example.org", token="${env:T}"))


class Store:
    """A store of a test's own; what is an error in it is raised."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.problems: dict[str, str] = {}
        self.error: StorageError | None = None
        self.asked: list[tuple[str, ...]] = []

    async def fetch(self, names: Any) -> Fetched:
        self.asked.append(tuple(names))
        if self.error is not None:
            raise self.error
        return Fetched(
            {name: self.texts[name] for name in names if name in self.texts},
            {name: self.problems[name] for name in names if name in self.problems},
        )

    async def stored(self) -> list[str]:
        return sorted(self.texts)


class FakeVault:
    """What Vault says of each name: a text, or an error."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.asked: list[str] = []

    def __call__(self, section: VaultSection, **_: Any) -> FakeVault:
        self.section = section
        return self

    async def read(self, name: str) -> VaultText:
        self.asked.append(name)
        said = self.says.get(name, ConfigError("Vault has nothing"))
        if isinstance(said, Exception):
            raise said
        return VaultText(*said) if isinstance(said, tuple) else VaultText(said, 0.0)


class Bench:
    """A house over a store and a Vault of a test's own, and its clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.folder = folder
        self.store = Store()
        self.vault = FakeVault()
        self.hidden: list[str] = []
        self.environ: dict[str, str] = {}
        monkeypatch.setattr(module, "Vault", self.vault)
        self.house = SecretHouse(
            folder,
            self.store,  # type: ignore[arg-type]  # as much of it as is asked here
            remember=self.hidden.append,
            monotonic=lambda: self.now_s,
            environ=self.environ,
        )

    def put(self, name: str, text: str) -> None:
        folder = self.folder / "secrets"
        folder.mkdir(exist_ok=True, mode=0o700)
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def document(*names: str, sources: SecretsSection | None = None) -> Document:
    headers = {f"X-{n}": f"${{secret:{name}}}" for n, name in enumerate(names)}
    upstream = {"url": "https://a.example.org/mcp", "headers": headers}
    made = Document.model_validate({"upstreams": {"a": upstream}} if names else {})
    return made if sources is None else made.model_copy(update={"secrets": sources})


def test_who_uses_a_secret_is_told_by_path() -> None:
    made = Document.model_validate(
        {
            "plugins": {
                "p": {"use": "x", "config": {"key": "${secret:A}"}},
                "off": {"use": "x", "config": {"key": "${secret:B}"}, "enabled": False},
            },
            "upstreams": {"u": {"command": "x", "args": ["--key", "${secret:A}"]}},
        }
    )
    assert secret_uses(made) == {"A": ["plugins.p.config.key", "upstreams.u.args[1]"]}
    assert secret_uses(made, enabled_only=False)["B"] == ["plugins.off.config.key"]


async def test_what_is_near_is_not_asked_for_elsewhere(bench: Bench) -> None:
    bench.environ["A"] = "x"
    bench.put("B", "y")
    known = await bench.house.gather(document("A", "B", "..", sources=VAULT))
    assert known == KnownSecrets()
    assert bench.store.asked == []


async def test_the_store_comes_before_vault_and_both_are_hidden_in_logs(bench: Bench) -> None:
    bench.store.texts = {"A": "of the store"}
    bench.vault.says = {"A": "never asked", "B": "of vault"}
    known = await bench.house.gather(document("A", "B", "C", sources=VAULT))
    assert known.texts == {"A": "of the store", "B": "of vault"}
    assert known.problems == {"C": "Vault has nothing"}
    assert known.asked == (STORE, "Vault")
    assert bench.vault.asked == ["B", "C"]
    assert bench.hidden == ["of the store", "of vault"]


async def test_what_the_store_cannot_read_is_never_taken_from_vault(bench: Bench) -> None:
    bench.vault.says = {"A": "of vault"}
    bench.store.problems = {"A": "is damaged"}
    known = await bench.house.gather(document("A", sources=VAULT))
    assert (known.texts, known.problems) == ({}, {"A": "is damaged"})
    bench.store.error = StorageError("the database cannot be reached")
    known = await bench.house.gather(document("A", sources=VAULT))
    assert (known.texts, known.problems) == ({}, {"A": "the database cannot be reached"})
    assert bench.vault.asked == []


async def test_vaults_text_is_kept_until_its_lease_or_the_refresh_ends(bench: Bench) -> None:
    bench.vault.says = {"A": ("short", 10.0), "B": ("long", 5000.0)}
    made = document("A", "B", sources=VAULT)
    for bench.now_s in (100.0, 109.0):
        await bench.house.gather(made)
    assert bench.vault.asked == ["A", "B"]
    bench.now_s = 110.0
    await bench.house.gather(made)
    bench.now_s = 160.0
    await bench.house.gather(made)
    assert bench.vault.asked == ["A", "B", "A", "A", "B"]


async def test_in_an_outage_the_last_text_is_used_for_a_bounded_time(bench: Bench) -> None:
    bench.vault.says = {"A": "text"}
    made = document("A", "NEW", sources=VAULT)
    await bench.house.gather(made)
    bench.vault.says = dict.fromkeys(("A", "NEW"), UpstreamUnavailableError("Vault", "is down"))
    bench.now_s += 61
    bench.vault.asked.clear()
    known = await bench.house.gather(made)
    assert known.texts == {"A": "text"}
    assert "is down" in known.problems["NEW"]
    assert bench.vault.asked == ["A"]  # and not once more for each name
    bench.now_s += 86_400
    known = await bench.house.gather(made)
    assert known.texts == {}
    assert set(known.problems) == {"A", "NEW"}
    bench.vault.says = {"A": "again"}
    assert (await bench.house.gather(made)).texts == {"A": "again"}


async def test_a_no_of_vault_outweighs_what_it_gave_before(bench: Bench) -> None:
    bench.vault.says = {"A": "text"}
    made = document("A", sources=VAULT)
    await bench.house.gather(made)
    bench.vault.says = {}
    bench.now_s += 61
    assert (await bench.house.gather(made)).problems == {"A": "Vault has nothing"}
    bench.vault.says = {"A": UpstreamUnavailableError("Vault", "is down")}
    assert (await bench.house.gather(made)).texts == {}


async def test_who_is_patient_leaves_vault_alone_for_a_while(bench: Bench) -> None:
    made = document("A", sources=VAULT)
    for _ in range(3):
        await bench.house.gather(made, is_patient=True)
    assert bench.vault.asked == ["A"]
    await bench.house.gather(made)
    assert bench.vault.asked == ["A", "A"]
    bench.vault.says = {"A": UpstreamUnavailableError("Vault", "is down")}
    known = await bench.house.gather(made)
    for _ in range(3):
        known = await bench.house.gather(made, is_patient=True)
    assert "is down" in known.problems["A"]
    assert bench.vault.asked == ["A"] * 3


async def test_another_vault_is_another_store_of_texts(bench: Bench) -> None:
    bench.vault.says = {"A": "text"}
    await bench.house.gather(document("A", sources=VAULT))
    other = SecretsSection(vault=VaultSection(address="https://w.example.org", token="${env:T}"))
    await bench.house.gather(document("A", sources=other))
    assert bench.vault.asked == ["A", "A"]
    assert bench.vault.section.address == "https://w.example.org"


async def watched(bench: Bench, change: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the watch asks for when something changes after its first looks."""
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    asked: list[str] = []
    looks = 0
    real = bench.house.gather

    async def counted(*words: Any, **more: Any) -> KnownSecrets:
        nonlocal looks
        looks += 1
        if looks == 3:
            change()
        if looks == 8:
            raise asyncio.CancelledError
        return await real(*words, **more)

    monkeypatch.setattr(bench.house, "gather", counted)
    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await bench.house.watch(asked.append)
    return asked


async def test_a_changed_text_asks_for_one_reload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store.texts = {"A": "one"}
    bench.put("B", "two")
    made = document("A", "B", "..")
    bench.house.in_force(made, await bench.house.gather(made))

    def change() -> None:
        bench.store.texts = {"A": "another"}

    assert await watched(bench, change, monkeypatch) == ["secret changed"]


async def test_a_changed_file_asks_for_one_reload(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put("B", "two")
    bench.environ["C"] = "three"
    made = document("B", "C")
    bench.house.in_force(made, await bench.house.gather(made))
    asked = await watched(bench, lambda: bench.put("B", "rotated"), monkeypatch)
    assert asked == ["secret changed"]


@pytest.mark.parametrize("how", ["gone", "unreadable", "database"])
async def test_what_cannot_be_read_any_more_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bench.store.texts = {"A": "one"}
    bench.put("B", "two")
    made = document("A", "B")
    bench.house.in_force(made, await bench.house.gather(made))

    def change() -> None:
        if how == "gone":
            bench.store.texts = {}
        elif how == "unreadable":
            (bench.folder / "secrets" / "B").chmod(0o644)
        else:
            bench.store.error = StorageError("the database cannot be reached")

    assert await watched(bench, change, monkeypatch) == []


async def test_without_secrets_nothing_is_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    for is_known in (False, True):
        if is_known:
            bench.house.in_force(document(), KnownSecrets())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await bench.house.watch(lambda _: None)
    assert bench.store.asked == []


async def test_a_command_makes_no_database_and_opens_none_for_nothing(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    assert await fetch_for_command(settings, [], SecretsSection()) == KnownSecrets()
    known = await fetch_for_command(settings, ["A"], SecretsSection())
    assert (known.texts, known.asked) == ({}, ())
    assert not (tmp_path / "data").exists()


async def test_a_command_says_that_the_database_cannot_be_opened(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "waygate.db").write_text("no database at all, and longer than a header")
    known = await fetch_for_command(settings, ["A"], SecretsSection())
    assert "database" in known.problems["A"]


async def test_without_a_store_nothing_is_stored(tmp_path: Path) -> None:
    house = SecretHouse(tmp_path, None, remember=lambda _: None, monotonic=lambda: 0.0)
    assert await house.stored() == []
    assert [one.source for one in house.places("A", SecretsSection(folders=("/k8s",)))] == [
        "environment", "file", "file", "file", "file",
    ]  # fmt: skip
