"""What may stand in a log line. Canaries are planted wherever a secret could be; none may come out."""

from __future__ import annotations

import datetime
import enum
import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from waygate_mcp.config.secrets import SecretText
from waygate_mcp.telemetry.redaction import (
    MASK,
    MAX_FIELD_CHARS,
    MAX_ITEMS,
    Redactor,
    clip,
    escape,
    escape_line,
    is_secret,
    is_sensitive,
)

CANARY = "cAnAry7f3e9a1b5c2d"


@dataclass
class Holder:
    secret: str = CANARY


class Colour(enum.Enum):
    RED = "red"
    SECRET = SecretStr(CANARY)


def shown(value: Any, **more: Any) -> str:
    return json.dumps(Redactor().value(value, **more))


@pytest.mark.parametrize(
    "value",
    [
        SecretStr(CANARY),
        SecretBytes(CANARY.encode()),
        SecretText(CANARY),
        [SecretStr(CANARY)],
        {"x": {"y": (SecretText(CANARY),)}},
        {"nested": {"deep": [{"deeper": SecretStr(CANARY)}]}},
        Holder(),
        [Holder()],
        Colour.SECRET,
        {SecretText("plain"): SecretStr(CANARY)},
        ValueError(SecretStr(CANARY)),
        {frozenset({SecretStr(CANARY)})},
    ],
)
def test_a_secret_is_hidden_by_its_type_wherever_it_is(value: Any) -> None:
    assert CANARY not in shown(value)


@pytest.mark.parametrize(
    "key",
    [
        "password", "Password", "db_password", "PASSWD", "passphrase", "secret", "client_secret",
        "clientSecret", "token", "access_token", "accessToken", "refresh-token", "authorization",
        "Authorization", "proxy-authorization", "cookie", "Set-Cookie", "api_key", "apiKey", "x-api-key",
        "X-API-Key", "apikey", "private_key", "secret_key", "credentials", "requestState",
        "request_state", "arguments", "inputResponses",
    ],
)  # fmt: skip
def test_a_secret_is_hidden_by_the_name_of_its_field(key: str) -> None:
    assert is_sensitive(key)
    assert CANARY not in shown(CANARY, key=key)
    assert CANARY not in shown({key: CANARY})
    assert CANARY not in shown({key: {"deep": [CANARY]}})
    assert CANARY not in shown({key.encode(): CANARY.encode()})
    assert CANARY not in shown([(key, CANARY)])
    assert CANARY not in shown([(key.encode(), CANARY.encode())])


@pytest.mark.parametrize(
    "key",
    ["name", "path", "key", "tokenizer", "secretary", "max_tokens_limit", "keyboard", "author"],
)
def test_ordinary_fields_are_shown(key: str) -> None:
    assert not is_sensitive(key)
    assert "plain" in shown({key: "plain"})


def test_a_number_under_a_sensitive_name_is_no_secret() -> None:
    assert shown({"tokens": 5, "token": None}) == '{"tokens": 5, "token": null}'


@pytest.mark.parametrize(
    "text",
    [
        f"wg_abc123_{CANARY}",
        f"key=wg_{CANARY} rest",
        f"Authorization: Bearer {CANARY}",
        f"bearer   {CANARY}",
        f"Bearer%20{CANARY}",
        f"Basic {CANARY}Zm9vOmJhcg==",
        f"postgresql://user:{CANARY}@host/db",
        f"https://:{CANARY}@host/",
        f"GET /mcp?api_key={CANARY}&x=1",
        f"https://x/?a=1&access_token={CANARY}",
        f"https://x/?X-Amz-Signature={CANARY}#frag",
        f"eyJhbGciOiJIUzI1NiJ9.eyJ{CANARY}.{CANARY}",
        f"ghp_{CANARY}",
        f"github_pat_{CANARY}",
        f"sk-proj-{CANARY}",
        f"xoxb-1234-{CANARY}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}",
    ],
)
def test_a_secret_is_hidden_by_its_look(text: str) -> None:
    redactor = Redactor()
    assert CANARY not in redactor.text(text)
    assert CANARY not in redactor.text(f"before {text} after")
    assert CANARY not in shown({"note": [text]})
    assert CANARY not in shown(ValueError(text))
    assert CANARY not in shown(text.encode())
    assert MASK in redactor.text(text)


def test_amazon_keys_are_hidden_by_their_look() -> None:
    assert Redactor().text("id AKIAIOSFODNN7EXAMPLE.") == f"id AKIA{MASK}."


def test_a_text_that_was_remembered_is_hidden_everywhere() -> None:
    redactor = Redactor()
    redactor.remember("pass word/with+odd&chars")
    redactor.remember("pass word/with+odd&chars and more")
    text = "a pass word/with+odd&chars b pass word/with+odd&chars and more c"
    assert redactor.text(text) == f"a {MASK} b {MASK} c"
    assert "odd" not in redactor.text("https://x/?q=pass%20word%2Fwith%2Bodd%26chars")


def test_what_clients_are_told_as_it_stands_loses_what_was_remembered_and_nothing_else() -> None:
    redactor = Redactor()
    redactor.remember('a "quoted" töken')
    assert redactor.hide('say a "quoted" töken, password=x') == f"say {MASK}, password=x"
    for ascii_only in (True, False):
        data = json.dumps({"of": 'a "quoted" töken', "password": 1}, ensure_ascii=ascii_only)
        hidden = json.loads(redactor.hide_in_json(data.encode()))
        assert hidden == {"of": MASK, "password": 1}


def test_a_short_text_is_not_remembered_because_it_would_blot_out_words() -> None:
    redactor = Redactor()
    redactor.remember("Hi")
    assert redactor.text("Hi there") == "Hi there"


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first() -> None:
    redactor = Redactor()
    for number in range(1001):
        redactor.remember(f"secret-{number:05}")
    assert redactor.text("secret-00000") == "secret-00000"
    assert redactor.text("secret-01000") == MASK


def test_a_new_secret_makes_texts_be_looked_at_again() -> None:
    redactor = Redactor()
    redactor.clean("/mcp/something-secret")
    assert "/mcp/something-secret" in redactor.plain
    redactor.remember("something-secret")
    assert redactor.plain == {None}
    assert redactor.clean("/mcp/something-secret") == f"/mcp/{MASK}"
    assert redactor.plain == {None}


def test_clean_texts_are_noted_within_a_bound() -> None:
    redactor = Redactor()
    for number in range(10_000):
        redactor.clean(f"/path/{number}")
    assert len(redactor.plain) <= 2049
    assert None in redactor.plain
    redactor.clean("x" * 300)
    assert "x" * 300 not in redactor.plain


@pytest.mark.parametrize("shown", range(4, 20))
def test_a_secret_that_stands_across_the_cut_is_not_half_shown(shown: int) -> None:
    before = ("x " * 40_000)[: 64 * 1024 - shown]
    cut = Redactor().text(f"{before}wg_{CANARY}", limit=10**9)
    assert CANARY[:1] not in cut


def test_long_text_is_clipped_and_says_by_how_much() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcde", 3) == "abc…(+2)"
    assert len(Redactor().text("x" * 10_000)) < MAX_FIELD_CHARS + 20
    assert Redactor().text("x " * 100_000).endswith("…(+197952)")


def test_many_items_and_deep_ones_are_cut_short() -> None:
    redactor = Redactor()
    assert redactor.value(list(range(100)))[-1] == f"…+{100 - MAX_ITEMS}"
    assert redactor.value({str(n): n for n in range(100)})["…"] == f"+{100 - MAX_ITEMS}"
    deep: list[Any] = []
    deep.append(deep)
    assert "…" in json.dumps(redactor.value(deep), ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain äöü 漢字 🙂", "plain äöü 漢字 🙂"),
        ("a\x7fb", "a\\u007fb"),
        ("a\x9b31mb", "a\\u009b31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2028b\u200bc\ufeff", "a\\u2028b\\u200bc\\ufeff"),
        ("a\ud800b", "a\\ud800b"),
    ],
)
def test_what_hides_or_steers_is_written_out(text: str, expected: str) -> None:
    assert escape(text) == expected
    assert Redactor().text(text) == expected


def test_for_a_terminal_line_breaks_and_escapes_are_written_out_too() -> None:
    assert escape_line("a\nb\x1b[31m\r\t") == "a\\u000ab\\u001b[31m\\u000d\\u0009"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (1.5, 1.5),
        (2**64, str(2**64)),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ("text", "text"),
        (b"by\xfftes", "by\\xfftes"),
        (bytearray(b"x"), "x"),
        (Colour.RED, "red"),
        (Path("/a/b"), "/a/b"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (datetime.date(2026, 7, 28), "2026-07-28"),
        (datetime.timedelta(seconds=1), "0:00:01"),
        (ValueError("bad"), "ValueError: bad"),
        (Holder, "Holder"),
        (Holder(), "<Holder>"),
        ({1: 2}, {"1": 2}),
        ((1, 2), [1, 2]),
    ],
)
def test_values_become_plain_json(value: Any, expected: Any) -> None:
    assert Redactor().value(value) == expected


@pytest.mark.parametrize(
    "text",
    ["://" + "a" * 60_000, "?" + "token" * 12_000, "eyJ" + "a." * 30_000, "bearer" + " " * 60_000,
     "-----BEGIN PRIVATE KEY-----" * 2000, "wg_" * 20_000, "&" * 60_000, "a" * 60_000 + "@"],
)  # fmt: skip
def test_no_text_makes_the_search_slow(text: str) -> None:
    started = time.perf_counter()
    Redactor().text(text)
    assert time.perf_counter() - started < 1


LEAVES = st.none() | st.text() | st.binary() | st.floats() | st.integers()


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=20,
    )
)
def test_whatever_is_given_becomes_json(value: Any) -> None:
    json.dumps(Redactor().value(value)).encode()


def test_a_text_is_a_secret_by_its_name_or_its_look_and_a_reference_never() -> None:
    assert is_secret("GITHUB_TOKEN", "abc")
    assert is_secret("sshPrivKey", "abc")
    assert is_secret("X-Anything", "Bearer abcdef")
    assert not is_secret("GITHUB_TOKEN", "${secret:GITHUB_TOKEN}")
    assert not is_secret("api_key", "true")
    assert not is_secret("LOG_LEVEL", "debug")
