"""The section `secrets`: what may stand in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from waygate_mcp.config.secret_sources import SecretsSection, VaultSection

GOOD: dict[str, Any] = {"address": "https://vault.example.org:8200", "token": "${env:VAULT_TOKEN}"}


def test_without_anything_it_is_valid_and_asks_nobody() -> None:
    assert SecretsSection().vault is None
    assert SecretsSection().folders == ()


@pytest.mark.parametrize(
    "address", ["https://v.example.org", "https://10.0.0.1:8200/", "http://127.0.0.1:8200"]
)
def test_addresses_that_are_taken(address: str) -> None:
    assert VaultSection(**GOOD | {"address": address}).address == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://vault.example.org:8200", "in the clear"),
        ("ftp://vault.example.org", "must begin with https"),
        ("https://", "must begin with https"),
        ("https://user@vault.example.org", "scheme, host and port alone"),
        ("https://vault.example.org/v1", "scheme, host and port alone"),
        ("https://vault.example.org?x=y", "scheme, host and port alone"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VaultSection(**GOOD | {"address": address})


def test_a_token_may_not_stand_in_the_document() -> None:
    with pytest.raises(ValidationError, match="must be a reference") as caught:
        VaultSection(**GOOD | {"token": "hvs.canary"})
    assert "canary" not in str(caught.value)
    with pytest.raises(ValidationError, match="must be a reference"):
        VaultSection(**GOOD | {"token": "${secret:X}"})


@pytest.mark.parametrize(
    "logins",
    [
        {"token": None},
        {"token": "${env:T}", "kubernetes": {"role": "r"}},
        {"kubernetes": {"role": "r"}, "approle": {"role_id": "r", "secret_id": "${env:S}"}},
    ],
)
def test_there_is_exactly_one_login(logins: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        VaultSection(**{"address": GOOD["address"]} | logins)


@pytest.mark.parametrize("path", ["a//b", "../x", "a/./b", "/a", "a/"])
def test_paths_cannot_lead_elsewhere(path: str) -> None:
    with pytest.raises(ValidationError, match="must be a path"):
        VaultSection(**GOOD | {"mount": path})
