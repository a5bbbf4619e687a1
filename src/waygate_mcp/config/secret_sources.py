"""The section `secrets`: where `${secret:NAME}` looks beyond the environment and the data folder.

Knows every key, its unit, its default and its bounds. Refuses to read or to ask anything: `references.py`
knows the order of places, `net/vault.py` how Vault is asked. Every key here is enforced there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from waygate_mcp.config.hosts import is_loopback
from waygate_mcp.config.section import Section, items

__all__ = ["AppRoleSection", "KubernetesSection", "SecretsSection", "VaultSection"]

_REFERENCE = re.compile(r"\$\{(?:env|file):[^}]{1,4096}\}")


def _address(text: str) -> str:
    parts = urlsplit(text)  # ValueError for what is no URL, with its reason
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with https:// and name a host")
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            "must be scheme, host and port alone, such as https://vault.example.org:8200"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must begin with https://, or secrets would travel in the clear")
    return text.rstrip("/")


def _reference(text: str) -> str:
    if _REFERENCE.fullmatch(text) is None:
        raise ValueError(
            "must be a reference, `${env:NAME}` or `${file:PATH}`, and nothing beside it"
        )
    return text


def _path(text: str) -> str:
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("must be a path such as `team/app`, without empty parts, `.` and `..`")
    return text


Address = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_address)]
OutsideText = Annotated[str, StringConstraints(max_length=4200), AfterValidator(_reference)]
"""Where a text is that may not stand in the document."""

VaultPath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_./ -]+$"),
    AfterValidator(_path),
]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Entry = Annotated[
    str, StringConstraints(max_length=640, pattern=r"^[A-Za-z0-9_./ -]+(#[A-Za-z0-9_.-]{1,127})?$")
]
"""`path` or `path#field` of a secret in Vault."""

Plain = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$")]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class KubernetesSection(Section):
    """Vault's login with the token of a pod's service account."""

    role: Plain = Field(description="The role of Vault's Kubernetes method.")
    token_file: Folder = Field(
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        description="File of the service account's token; read for each login.",
    )
    mount: VaultPath = Field("kubernetes", description="Where the method is mounted in Vault.")


class AppRoleSection(Section):
    """Vault's login with a role and its secret id."""

    role_id: OutsideText | Plain = Field(description="The role's id.")
    secret_id: OutsideText = Field(description="Reference to the role's secret id.")
    mount: VaultPath = Field("approle", description="Where the method is mounted in Vault.")


class VaultSection(Section):
    """HashiCorp Vault, or OpenBao, which is asked for names found nowhere else."""

    address: Address = Field(
        description="Where it is reached: `https://vault.example.org:8200`; `http` on loopback alone."
    )
    network: Literal["public", "private"] = Field(
        "public",
        description="`private`: the name in `address` may resolve to private and loopback addresses.",
    )
    ca_file: Folder | None = Field(
        None, description="Certificates, in PEM, of the authority that signed its own."
    )
    namespace: Plain | None = Field(None, description="Namespace, where it has them.")
    kv: Literal[1, 2] = Field(2, description="Version of the key-value engine.")
    mount: VaultPath = Field("secret", description="Where that engine is mounted.")
    path: VaultPath = Field(
        "waygate",
        description="Folder of secrets without an entry in `names`: NAME is the field `value` of "
        "`{path}/NAME`.",
    )
    names: dict[SecretName, Entry] = Field(
        default_factory=dict,
        max_length=1000,
        description="Other places by name: `path/in/engine#field`; the field is `value` where it is not named.",
    )
    token: OutsideText | None = Field(
        None, description="Reference to a token. Exactly one of this, `kubernetes`, `approle`."
    )
    kubernetes: KubernetesSection | None = Field(
        None, description="Login with the token of a pod's service account."
    )
    approle: AppRoleSection | None = Field(None, description="Login with a role and a secret id.")
    timeout_s: float = Field(5, gt=0, le=60, description="Seconds one request to it may take.")
    refresh_s: float = Field(
        60,
        ge=5,
        le=86_400,
        description="Seconds after which a text is asked for again; sooner where its lease is shorter.",
    )
    keep_s: float = Field(
        86_400,
        ge=0,
        le=2_592_000,
        description="Seconds a text is still used while it cannot be reached.",
    )

    @model_validator(mode="after")
    def _has_one_login(self) -> Self:
        if sum(one is not None for one in (self.token, self.kubernetes, self.approle)) != 1:
            raise ValueError("needs exactly one of `token`, `kubernetes` and `approle`")
        return self


class SecretsSection(Section):
    """Where `${secret:NAME}` looks beyond the environment and the data folder."""

    folders: tuple[Folder, ...] = items(
        "Further folders of files named like secrets, as Kubernetes mounts them; absolute paths.",
        default=(),
        max_length=16,
    )
    vault: VaultSection | None = Field(
        None, description="HashiCorp Vault, asked for names found nowhere else."
    )
