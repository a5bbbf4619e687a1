"""Every place that dials out, against every address nobody may be sent to: refused, and no packet sent.

What was dialled is heard from the interpreter (`tests/support/dialled.py`) and by a listener that must see no
connection. Spec: threat model rules 19 and 20.
"""

from __future__ import annotations

import importlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support import dialling_places
from tests.support.dialled import recording, resolving
from tests.support.dialling_places import COMMANDS, MODULES, PLACES
from waygate_mcp.auth.jwks import KeySource, fetch_keys
from waygate_mcp.cli.main import app
from waygate_mcp.config.secret_sources import VaultSection
from waygate_mcp.errors import WaygateError
from waygate_mcp.net.vault import Vault

_AUTHORITIES = ssl.create_default_context()
PUBLIC = "93.184.216.34"

NEVER = (
    # unspecified, link-local, metadata of the clouds, multicast, broadcast, reserved
    "0.0.0.0", "0.1.2.3", "169.254.1.1", "169.254.169.254", "169.254.170.2", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    # the same, and nothing but, in IPv6
    "::", "fe80::1", "fe80::a9fe:a9fe", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1",
    # IPv6 that carries them: mapped, compatible, translated, 6to4, Teredo, NAT64 of either prefix, ISATAP
    "::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "::169.254.169.254", "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601", "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254", "2002:7f00:1::", "2001::5efe:169.254.169.254",
)  # fmt: skip
"""Reached by nobody, written in a URL or behind a name."""

NEAR = (
    "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "fec0::1", "::ffff:10.0.0.1",
)  # fmt: skip
"""Reached where an administrator wrote the address itself, never behind a name."""

SPELLINGS = (
    "http://2130706433:{port}/mcp", "http://0x7f000001:{port}/mcp", "http://0x7f.1:{port}/mcp",
    "http://0177.0.0.1:{port}/mcp", "http://127.1:{port}/mcp", "http://127.0.0.1.:0/mcp", "http://0:{port}/mcp",
    "http://017700000001:{port}/mcp", "http://127.0.0.0x1:{port}/mcp", "http://user@127.0.0.1:{port}/mcp",
    "http://user:word@127.0.0.1:{port}/mcp", "http://a.test@127.0.0.1:{port}/mcp", "http://127.0.0.1:{port}\\@a.test/mcp",
    "http://[fe80::1%25eth0]:{port}/mcp", "http://[::1%25lo]:{port}/mcp", "http://[::ffff:7f00:1%25]:{port}/mcp",
    "http://127。0。0。1:{port}/mcp", "http://①②⑦.⓪.⓪.①:{port}/mcp", "http://127.0.0.1:{port}#@a.test/mcp",
    "http://127.0.0.1%00.a.test:{port}/mcp", "http://127.0.0.1%2f.a.test:{port}/mcp", "http:127.0.0.1:{port}/mcp",
    "http://127.0.0.1:0/mcp", "http://127.0.0.1:65536/mcp", "http://127.0.0.1:-1/mcp", "http://127.0.0.1:/mcp",
    "http://127.0.0.1 :{port}/mcp", "http://127.0.0.1\t:{port}/mcp", "ftp://127.0.0.1:{port}/mcp",
    "file:///etc/passwd", "gopher://127.0.0.1:{port}/mcp", "//127.0.0.1:{port}/mcp", "http:///127.0.0.1:{port}/mcp",
)  # fmt: skip
"""Other ways to write an address, none of which is taken for one."""

ALL = PLACES | COMMANDS
each_place = pytest.mark.parametrize("place", list(PLACES))
every_one = pytest.mark.parametrize("place", list(ALL))


class Listener:
    """Listens on both loopback addresses and counts who comes."""

    def __init__(self) -> None:
        self.connections = 0
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = int(self._sockets[0].getsockname()[1])
        with suppress(OSError):  # a machine without IPv6
            self._sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        self._threads = [threading.Thread(target=self._serve, args=(one,)) for one in self._sockets]
        for thread in self._threads:
            thread.start()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections += 1
                with connection:
                    connection.settimeout(5)
                    connection.recv(65536)
                    connection.sendall(self.answer)

    def close(self) -> None:
        """Stop listening."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Somebody on this machine who must not be reached."""
    listening = Listener()
    yield listening
    listening.close()


def bracketed(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


@pytest.fixture(autouse=True)
def authorities_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the system's authorities once: no test here gets as far as TLS."""
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: _AUTHORITIES)


@every_one
async def test_addresses_that_nobody_may_be_sent_to(
    place: str, listener: Listener, tmp_path: Path
) -> None:
    with recording() as dialled:
        for address in NEVER:
            url = f"http://{bracketed(address)}:{listener.port}/mcp"
            assert await ALL[place](url, tmp_path), url
            assert dialled == [], url
    assert listener.connections == 0


@each_place
async def test_names_that_lead_to_any_address_of_ours(
    place: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"n{number}.test": address for number, address in enumerate((*NEVER, *NEAR))}
    names["localhost.test"] = "127.0.0.1"
    asked = resolving(monkeypatch, lambda name: [names[name]] if name in names else [])
    with recording() as dialled:
        for name, address in names.items():
            host = f"{name}." if address in NEAR else name  # a trailing dot is no other name
            problem = await PLACES[place](f"http://{host}:{listener.port}/mcp", tmp_path)
            assert "which is refused" in problem, (host, address, problem)
            assert dialled == [], (host, address)
    assert set(names) <= set(asked)
    assert listener.connections == 0


@pytest.mark.parametrize("place", list(COMMANDS))
async def test_names_on_a_command_line_lead_to_no_such_address(
    place: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a gateway may have it near; not even they mean the metadata service of a cloud."""
    names = {f"n{number}.test": address for number, address in enumerate(NEVER)}
    resolving(monkeypatch, lambda name: [names[name]] if name in names else [])
    with recording() as dialled:
        for name, address in names.items():
            problem = await COMMANDS[place](f"http://{name}:{listener.port}/mcp", tmp_path)
            assert "which is refused" in " ".join(problem.split()), (address, problem)
            assert dialled == [], address
    assert listener.connections == 0


@every_one
async def test_other_spellings_of_an_address(
    place: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, lambda _: ["127.0.0.1"])
    with recording() as dialled:
        for spelling in SPELLINGS:
            url = spelling.replace("{port}", str(listener.port))
            assert await ALL[place](url, tmp_path), url
            assert dialled == [], url
    assert listener.connections == 0
    assert asked == [], "a spelling was taken for a name"


@each_place
async def test_a_resolver_that_changes_its_mind(
    place: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is dialled, and nothing else: not what the name is a moment later."""
    answers = iter([[PUBLIC]])
    resolving(monkeypatch, lambda _: next(answers, ["127.0.0.1"]))
    with recording() as dialled:
        for _ in range(3):
            assert await PLACES[place](f"http://rebind.test:{listener.port}/mcp", tmp_path)
    assert set(dialled) <= {(PUBLIC, listener.port)}, "the recorder stopped it before a packet"
    assert dialled, "the first answer was fit to be dialled"
    assert listener.connections == 0


@each_place
async def test_of_several_addresses_those_of_ours_are_left_out(
    place: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda _: ["127.0.0.1", "169.254.169.254", PUBLIC, "::1"])
    with recording() as dialled:
        assert await PLACES[place](f"http://several.test:{listener.port}/mcp", tmp_path)
    assert set(dialled) == {(PUBLIC, listener.port)}
    assert listener.connections == 0


@pytest.mark.parametrize("place", [one for one in ALL if one != "vault"])
@pytest.mark.parametrize("status", [302, 307])
async def test_redirects_lead_to_no_other_origin(
    place: str, status: int, listener: Listener, tmp_path: Path
) -> None:
    """Whom an administrator named may not send us elsewhere, not even to another port of its own."""
    edge = Listener()
    try:
        for there in (
            f"http://127.0.0.1:{listener.port}/mcp",
            f"http://localhost:{edge.port}/mcp",
            f"//[::1]:{edge.port}/mcp",
            "http://169.254.169.254/latest/meta-data/",
            f"https://127.0.0.1:{edge.port}/mcp",
        ):
            edge.answer = (
                f"HTTP/1.1 {status} Elsewhere\r\nlocation: {there}\r\ncontent-length: 0\r\n"
                "connection: close\r\n\r\n"
            ).encode()
            with recording() as dialled:
                assert await ALL[place](f"http://127.0.0.1:{edge.port}/mcp", tmp_path), there
            assert set(dialled) == {("127.0.0.1", edge.port)}, there
    finally:
        edge.close()
    assert listener.connections == 0


async def test_vault_is_followed_to_no_other_origin(listener: Listener, tmp_path: Path) -> None:
    """Its standby nodes redirect; the token goes to the configured address alone."""
    edge = Listener()
    edge.answer = (
        f"HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:{listener.port}/v1/x\r\n"
        "content-length: 0\r\nconnection: close\r\n\r\n"
    ).encode()
    (tmp_path / "token").write_text("hvs.token")
    (tmp_path / "token").chmod(0o600)
    section = VaultSection(
        address=f"http://127.0.0.1:{edge.port}", token=f"${{file:{tmp_path / 'token'}}}"
    )
    vault = Vault(section, data_dir=tmp_path, on_secret=lambda _: None, monotonic=lambda: 0.0)
    try:
        with recording() as dialled, pytest.raises(WaygateError, match="another origin"):
            await vault.read("NAME")
    finally:
        edge.close()
    assert set(dialled) == {("127.0.0.1", edge.port)}
    assert listener.connections == 0


async def test_an_issuers_metadata_leads_to_no_address_of_ours(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers for an issuer near us says where its keys lie: on its own host and port, or in public."""
    names = {f"n{number}.test": address for number, address in enumerate((*NEVER, *NEAR))}
    resolving(monkeypatch, lambda name: [names[name]] if name in names else ["127.0.0.1"])
    edge = Listener()
    issuer = f"http://127.0.0.1:{edge.port}"
    urls = [f"http://{bracketed(one)}:{listener.port}/keys" for one in (*NEVER, *NEAR)]
    urls += [f"http://{name}:{listener.port}/keys" for name in (*names, "localhost")]
    urls += [one.replace("{port}", str(listener.port)) for one in SPELLINGS]
    try:
        for url in urls:
            body = json.dumps({"issuer": issuer, "jwks_uri": url})
            edge.answer = (
                f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
            ).encode()
            with recording() as dialled, pytest.raises(WaygateError):
                await fetch_keys(KeySource(issuer))
            assert set(dialled) == {("127.0.0.1", edge.port)}, url
    finally:
        edge.close()
    assert listener.connections == 0


@every_one
async def test_the_module_that_is_said_to_dial_does(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a place of the matrix is the code it stands for."""
    module: Any = importlib.import_module(f"waygate_mcp.{MODULES[place]}")
    ways = [one for one in ("open_transport", "AiohttpTransport") if hasattr(module, one)]
    used: list[str] = []

    def seen(name: str) -> Callable[..., Any]:
        way = getattr(module, name)

        def use(*arguments: Any, **named: Any) -> Any:
            used.append(name)
            return way(*arguments, **named)

        return use

    for name in ways:
        monkeypatch.setattr(module, name, seen(name))
    if MODULES[place] == "net.transports":  # asked by its callers' own name for it
        monkeypatch.setattr(dialling_places, "open_transport", module.open_transport)
    resolving(monkeypatch, lambda _: [PUBLIC])
    with recording() as dialled:
        assert await ALL[place]("http://public.test:9/mcp", tmp_path)
    assert used
    assert dialled


def test_importing_servers_dials_nobody(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WAYGATE_DATA_DIR", str(tmp_path / "data"))
    asked = resolving(monkeypatch, lambda _: ["127.0.0.1"])
    urls = [f"http://{bracketed(one)}:{listener.port}/mcp" for one in (*NEVER[::6], *NEAR[::4])]
    urls += [one.replace("{port}", str(listener.port)) for one in SPELLINGS[::4]]
    servers = {f"s{number}": {"url": url} for number, url in enumerate(urls)}
    Path("servers.json").write_text(json.dumps({"mcpServers": servers}))
    with recording() as dialled:
        result = CliRunner().invoke(app, ["import", "servers.json"])
    assert result.exit_code in (0, 1, 2), result.output
    assert "s0" in result.output
    assert (dialled, asked, listener.connections) == ([], [], 0)


def test_the_recorder_hears_what_is_dialled(listener: Listener) -> None:
    """So that its silence means something."""
    with recording() as dialled:
        socket.create_connection(("127.0.0.1", listener.port), timeout=5).close()
        with pytest.raises(OSError, match="stopped by the recorder"):
            socket.create_connection((PUBLIC, 9), timeout=5)
    assert dialled == [("127.0.0.1", listener.port), (PUBLIC, 9)]
