"""Makes inputs that are nearly right: corpus entries with a few things changed.

Knows bytes, and the shapes worth breaking: JSON values, header lines, lengths, encodings. Refuses to
know what is tested. Everything comes from one `random.Random`, so a seed repeats a run exactly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from waygate_mcp.protocol.headers import encode_value

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
MAX_INPUT_BYTES = 64 * 1024

# What has broken parsers before, and what this protocol gives a meaning.
TOKENS: tuple[bytes, ...] = (
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"0.1", b"9" * 400, b"9" * 4301,
    b"18446744073709551616", b"9007199254740993", b'""', b"[]", b"{}", b'"\\ud800"', b'"\\u0000"',
    b'"\\ud83d\\ude00"', b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\0", b"\r", b"\n",
    b"\r\n\r\n", b"\n\n", b"data: ", b"event: ", b"id: ", b"retry: 1\n", b"=?base64?", b"?=", b"=",
    b"[" * 70, b'{"a":' * 70, b"]" * 70, b'\\"' * 40, b"\\", b'"', b",", b":", b"2025-03-26",
    b"2026-07-28", b"2025-11-25", b"1999-01-01", b'"jsonrpc":"2.0"', b'"id":1', b'"method":"ping"',
    b'"params":{}', b'"result":{}', b'"error":{"code":1}', b'"_meta":{}', b'"cursor":"x"',
    b'"arguments":[]', b'"requestState":"x"', b'"inputResponses":{"a":1}', b"initialize",
    b"tools/call", b"subscriptions/listen", b"completion/complete", b"logging/setLevel",
    b"x-mcp-header", b"properties", b"oneOf", b"structuredContent", b"%00", b"%2e%2e/", b"../",
    b"__proto__", b"$ref", b"Mcp-Session-Id: ", b"MCP-Protocol-Version: ", b"Host: evil.example",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**53, -(2**70), "", "x", "\0", "é世", "a" * 300, [], {}, [[]],
    [{}], {"a": None}, ["x"], {"x": [1]}, "2025-03-26", "2026-07-28", "initialize", "tools/call",
    "debug", "test://nowhere", {"type": "text"}, {"code": 1}, [None] * 60,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change an input in one to five places.

    Of a request often only the body changes, and its headers are made to agree again: otherwise hardly
    any input would get past the first doors.
    """
    head, separator, body = data.partition(b"\n\n")
    is_body_only = bool(separator) and rng.random() < 0.6
    changed = body if is_body_only else data
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        is_value = is_body_only and rng.random() < 0.7
        changed = (change_a_value if is_value else rng.choice(MUTATIONS))(rng, changed, corpus)
    if is_body_only:
        changed = (agreeing(head, changed) if rng.random() < 0.8 else head) + separator + changed
    return changed[:MAX_INPUT_BYTES]


def agreeing(head: bytes, body: bytes) -> bytes:
    """Rewrite the headers that mirror a body, as far as the body can be read."""
    try:
        message = json.loads(body)
        method, params = message["method"], message.get("params")
        name = params.get("name", params.get("uri")) if isinstance(params, dict) else None
        mirrored = {b"Mcp-Method": encode_value(method), b"Mcp-Name": encode_value(name or "")}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return head
    lines = []
    for line in head.split(b"\n"):
        key, colon, _ = line.partition(b":")
        value = mirrored.get(key)
        lines.append(line if value is None else key + colon + b" " + value.encode())
    return b"\n".join(lines)


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randint(0, len(data))


def flip_a_bit(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change one bit."""
    if not data:
        return b"\0"
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_a_byte(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Put any byte somewhere."""
    at = _place(rng, data)
    return data[:at] + bytes((rng.randrange(256),)) + data[at + rng.randint(0, 1) :]


def insert_a_token(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Put a token of the protocol somewhere, in place of some bytes or none."""
    at = _place(rng, data)
    token = rng.choice(TOKENS)
    return data[:at] + token + data[at + rng.choice((0, 0, len(token), 1)) :]


def cut(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Leave a stretch away."""
    one, other = sorted((_place(rng, data), _place(rng, data)))
    return data[:one] + data[other:]


def truncate(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Stop early."""
    return data[: _place(rng, data)]


def repeat(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Say a stretch many times."""
    one, other = sorted((_place(rng, data), _place(rng, data)))
    other = min(other, one + 200)
    return data[:one] + data[one:other] * rng.choice((2, 3, 20, 100)) + data[other:]


def splice(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Begin like this and end like another."""
    other = rng.choice(corpus)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def change_a_line(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Drop, double, move or swap a line: a header, often."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    else:
        others = rng.choice(corpus).split(b"\n")
        lines[at] = rng.choice(others)
    return b"\n".join(lines)


def change_a_value(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Take the JSON in the input apart and change a value, a key or the form."""
    head, separator, tail = data.rpartition(b"\n\n")
    try:
        value = json.loads(tail)
    except (ValueError, RecursionError):
        return insert_a_token(rng, data, corpus)
    value = _changed(rng, value)
    try:
        text = json.dumps(
            value, indent=rng.choice((None, None, 1)), ensure_ascii=rng.random() < 0.5
        )
        return head + separator + text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return data


def _changed(rng: random.Random, value: Any) -> Any:
    """Change one place of a JSON value, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {name: item for name, item in value.items() if name != key}
        if kind < 0.2:
            return {**value, rng.choice((key.upper(), key + "\0", "", "x" * 200)): value[key]}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            return [*value, *value * rng.choice((1, 30))]
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.3:
        return value + rng.choice((1, -1, 2**53))
    return rng.choice(VALUES)


MUTATIONS: tuple[Mutation, ...] = (
    change_a_value, change_a_value, change_a_value, change_a_value, change_a_line, change_a_line,
    flip_a_bit, set_a_byte, insert_a_token, insert_a_token, cut, truncate, repeat, splice,
)  # fmt: skip
