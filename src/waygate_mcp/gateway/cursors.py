"""Where a page of a list ended, sealed: of one kind, for one principal.

Spec: 2026-07-28 server/utilities/pagination.
"""

from __future__ import annotations

import msgspec

from waygate_mcp.errors import RpcError
from waygate_mcp.model.catalog import Kind
from waygate_mcp.model.principal import Principal
from waygate_mcp.protocol import jsonrpc
from waygate_mcp.protocol.seal import KeyRing, SealError

__all__ = ["read_cursor", "write_cursor"]

_PURPOSE = "cursor"
_encode = msgspec.msgpack.Encoder().encode


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    """After the entry `last` of binding number `place`, for one viewer."""

    kind: str
    scope: bytes
    last: str
    place: int


_decode = msgspec.msgpack.Decoder(_Cursor).decode


def write_cursor(ring: KeyRing, kind: Kind, principal: Principal, place: int, last: str) -> str:
    """Seal where a page ended: with the entry `last` of binding number `place`."""
    return ring.seal(_encode(_Cursor(kind.value, principal.fingerprint, last, place)), _PURPOSE)


def read_cursor(ring: KeyRing, cursor: object, kind: Kind, principal: Principal) -> tuple[int, str]:
    """Give the binding and the name a page ended with.

    Raises:
        RpcError: -32602, it is not one of ours for this list and principal.
    """
    try:
        if not isinstance(cursor, str):
            raise SealError("not text")
        read = _decode(ring.open(cursor, _PURPOSE))
    except (SealError, msgspec.DecodeError):
        raise RpcError(jsonrpc.INVALID_PARAMS, "Invalid cursor") from None
    if read.kind != kind.value or read.scope != principal.fingerprint:
        raise RpcError(jsonrpc.INVALID_PARAMS, "Invalid cursor")
    return read.place, read.last
