"""The guarded way out against real listeners: who must not be reached sees no connection at all."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from waygate_mcp.errors import UpstreamProtocolError, UpstreamUnavailableError
from waygate_mcp.net.aiohttp_client import AiohttpTransport
from waygate_mcp.net.dial import NetworkPolicy, Resolve, resolve_by_system
from waygate_mcp.net.http import read_body
from waygate_mcp.net.pooled import PooledTransport
from waygate_mcp.net.urls import parse_target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
OK_AND_GONE = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
Transport = PooledTransport | AiohttpTransport
Open = Callable[..., Transport]


def pooled(
    url: str,
    policy: NetworkPolicy,
    resolve: Resolve = resolve_by_system,
    tls: ssl.SSLContext | None = None,
) -> Transport:
    return PooledTransport(parse_target(url), "up", policy, resolve=resolve, tls=tls)


def by_aiohttp(
    url: str,
    policy: NetworkPolicy,
    resolve: Resolve = resolve_by_system,
    tls: ssl.SSLContext | None = None,
) -> Transport:
    return AiohttpTransport(url, "up", policy=policy, resolve=resolve, tls=tls)


both = pytest.mark.parametrize("make", [pooled, by_aiohttp])


class Listener:
    """Counts connections and answers each request with `answer`."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    answer: bytes = OK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    listener = Listener(answer)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener


def resolving(*answers: Sequence[str]) -> tuple[Resolve, list[str]]:
    """Give each answer once, the last for ever; and the list of who was asked for."""
    left, asked = list(answers), list[str]()

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve, asked


async def get(transport: Transport, path: str = "/") -> bytes:
    async with asyncio.timeout(5), transport.request("GET", path, []) as response:
        return await read_body(response, 100)


@both
@pytest.mark.parametrize(
    "found", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["127.0.0.1", "::1", "0.0.0.0"], ["0.0.0.0"]]
)
async def test_a_name_that_leads_home_reaches_nobody(make: Open, found: list[str]) -> None:
    resolve, _ = resolving(found)
    async with listening() as listener:
        async with make(f"http://up.test:{listener.port}/", NetworkPolicy(), resolve) as transport:
            with pytest.raises(UpstreamUnavailableError, match="refused"):
                await get(transport)
        await asyncio.sleep(0.05)
        assert listener.connections == 0


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_a_literal_without_an_exception_reaches_nobody(make: Open, host: str) -> None:
    async with listening() as listener:
        async with make(f"http://{host}:{listener.port}/", NetworkPolicy()) as transport:
            with pytest.raises(UpstreamUnavailableError):
                await get(transport)
        await asyncio.sleep(0.05)
        assert listener.connections == 0


@both
async def test_an_exception_is_for_its_port_alone(make: Open) -> None:
    async with listening() as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        for allowed, port in ((False, listener.port + 1), (True, listener.port)):
            policy = NetworkPolicy(exceptions=frozenset({("127.0.0.1", port)}))
            async with make(url, policy) as transport:
                if allowed:
                    assert await get(transport) == b"hi"
                else:
                    with pytest.raises(UpstreamUnavailableError):
                        await get(transport)
        assert listener.connections == 1


@both
async def test_localhost_of_the_document_is_reached(make: Open) -> None:
    async with listening() as listener:
        url = f"http://localhost:{listener.port}/"
        policy = NetworkPolicy.for_document(parse_target(url))
        async with make(url, policy) as transport:
            assert await get(transport) == b"hi"


@both
async def test_a_name_that_moves_is_checked_again_for_each_connection(make: Open) -> None:
    resolve, asked = resolving(["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"])
    async with listening(OK_AND_GONE) as listener:
        url = f"http://up.test:{listener.port}/"
        policy = NetworkPolicy(exceptions=frozenset({("up.test", listener.port)}))
        async with make(url, policy, resolve) as transport:
            assert await get(transport) == b"hi"
            with pytest.raises(UpstreamUnavailableError):
                await get(transport)
            assert listener.connections == 1
            assert await get(transport) == b"hi"
        assert len(asked) == 3  # once for each connection: what is dialled is what was checked
        assert b"up.test" in listener.requests[0]


@both
async def test_a_redirect_to_another_place_of_this_machine_reaches_nobody(make: Open) -> None:
    async with listening() as other:
        leads_away = (
            f"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:{other.port}/\r\n"
            "content-length: 0\r\n\r\n"
        )
        async with listening(leads_away.encode()) as first:
            url = f"http://127.0.0.1:{first.port}/"
            async with make(url, NetworkPolicy.for_document(parse_target(url))) as transport:
                with pytest.raises(UpstreamProtocolError):
                    await get(transport)
        assert (first.connections, other.connections) == (1, 0)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make contexts of a server that is `name`, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - certificates state wall-clock times
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "both.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


@both
async def test_certificates_are_compared_with_the_name_not_the_address(
    make: Open, tmp_path: Path
) -> None:
    server, client = certificate(tmp_path, "up.test")
    resolve, _ = resolving(["127.0.0.1"])
    async with listening(tls=server) as listener:
        for name in ("up.test", "other.test"):
            url = f"https://{name}:{listener.port}/"
            policy = NetworkPolicy.for_operator(parse_target(url))
            async with make(url, policy, resolve, client) as transport:
                if name == "up.test":
                    assert await get(transport) == b"hi"
                    assert await get(transport) == b"hi"
                else:
                    with pytest.raises(UpstreamUnavailableError):
                        await get(transport)
        assert len(listener.requests) == 2


async def test_the_systems_authorities_do_not_know_a_stranger(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "up.test")
    resolve, _ = resolving(["127.0.0.1"])
    async with listening(tls=server) as listener:
        url = f"https://up.test:{listener.port}/"
        policy = NetworkPolicy.for_operator(parse_target(url))
        async with pooled(url, policy, resolve) as transport:
            with pytest.raises(UpstreamUnavailableError):
                await get(transport)
        assert listener.requests == []
