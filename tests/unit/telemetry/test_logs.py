"""The pipeline: every way into the log ends redacted, on one line, with the request's id."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from waygate_mcp.config.secrets import SecretText
from waygate_mcp.config.settings import Settings, read_settings
from waygate_mcp.telemetry.logs import (
    MAX_EXCEPTION_CHARS,
    REQUEST_ID,
    Logs,
    RequestLog,
    RequestRecord,
    get_logger,
    open_logs,
)
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.telemetry.timestamps import Stamp
from waygate_mcp.telemetry.writer import LineWriter

CANARY = "cAnAry7f3e9a1b5c2d"


def settings_with(folder: Path | None, **overrides: object) -> Settings:
    return read_settings({"log_dir": folder or "none", **overrides}, env_file=None)


class Written:
    """What stands in the log file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "waygate.log"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def only(self) -> dict[str, Any]:
        (line,) = self.lines
        return line


@contextmanager
def logging_to(folder: Path, **overrides: object) -> Iterator[tuple[Logs, Written]]:
    with open_logs(settings_with(folder, **overrides), descriptor=None) as logs:
        yield logs, Written(folder)


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": "r-1", "door": "http", "method": "POST", "path": "/mcp", "status": 200,
        "duration_ms": 1.25, "endpoint": "default", "rpc_method": "tools/call", "name": "greet",
        "outcome": "ok", "principal": "k1", "client": "127.0.0.1",
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


def test_a_line_has_time_level_event_logger_and_fields(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        get_logger("waygate.web").info("started", port=8000)
    line = written.only
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "info", "event": "started", "port": 8000, "logger": "waygate.web"}


def test_statements_of_the_database_are_not_logged_whatever_the_level(tmp_path: Path) -> None:
    with logging_to(tmp_path, log_level="DEBUG") as (_, written):
        logging.getLogger("aiosqlite").debug("executing %s", CANARY)
        logging.getLogger("other").debug("shown")
    assert [line["event"] for line in written.lines] == ["shown"]


def test_the_requests_id_is_in_every_line_while_it_is_served(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        token = REQUEST_ID.set("req-42")
        get_logger("a").info("ours")
        logging.getLogger("b").warning("theirs")
        REQUEST_ID.reset(token)
        get_logger("a").info("after")
    assert [line.get("request_id") for line in written.lines] == ["req-42", "req-42", None]


def test_fields_bound_to_the_context_or_the_logger_are_in_the_line(tmp_path: Path) -> None:
    with (
        logging_to(tmp_path) as (_, written),
        structlog.contextvars.bound_contextvars(upstream="files"),
    ):
        get_logger("a").bind(attempt=2).warning("slow")
    assert (written.only["upstream"], written.only["attempt"]) == ("files", 2)


def test_a_logger_without_a_name_leaves_it_out(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        structlog.get_logger().info("event")
    assert "logger" not in written.only


def test_a_field_never_replaces_one_of_the_lines_own(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        get_logger("a").info("event", level="fake", timestamp="fake")
    assert written.only["level"] == "info"
    assert written.only["timestamp"] != "fake"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["debug", "info", "warning", "error", "critical"]),
        ("WARNING", ["warning", "error", "critical"]),
        ("ERROR", ["error", "critical"]),
    ],
)
def test_what_is_less_severe_than_the_level_is_not_written(
    tmp_path: Path, level: str, expected: list[str]
) -> None:
    with logging_to(tmp_path, log_level=level) as (logs, written):
        for name in ("debug", "info", "warning", "error", "critical"):
            getattr(get_logger("a"), name)("ours")
            getattr(logging.getLogger("b"), name)("theirs")
        logs.requests.write(record())
    assert [line["level"] for line in written.lines if line["event"] == "ours"] == expected
    assert [line["level"] for line in written.lines if line["event"] == "theirs"] == expected
    requests = [line for line in written.lines if line["event"] == "request"]
    assert len(requests) == (1 if level == "DEBUG" else 0)


def test_the_standard_librarys_lines_are_formatted_and_their_faults_survived(
    tmp_path: Path,
) -> None:
    with logging_to(tmp_path) as (_, written):
        logging.getLogger("lib").warning("%s is %d", "x", 5)
        logging.getLogger("lib").warning("%d items", "no number")
        logging.getLogger("lib").log(35, "between the levels")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", stacklevel=1)
    events = [line["event"] for line in written.lines]
    assert events[:3] == ["x is 5", "%d items", "between the levels"]
    assert written.lines[2]["level"] == "warning"
    assert "careful" in events[3]


def test_an_exception_is_told_with_its_traceback(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        try:
            raise ValueError("broken")
        except ValueError as exc:
            get_logger("a").exception("by structlog")
            get_logger("a").error("by value", exc_info=exc)
            get_logger("a").error("by tuple", exc_info=sys.exc_info())
            logging.getLogger("b").exception("by logging")
        get_logger("a").error("none is there", exc_info=True)
    assert len(written.lines) == 5
    for line in written.lines[:4]:
        assert line["level"] == "error"
        assert line["exception"].endswith("ValueError: broken")
    assert "exception" not in written.lines[4]


def test_of_an_endless_traceback_the_end_is_kept(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (_, written):
        get_logger("a").error("x", exc_info=ValueError("a" * 100_000 + "THE END"))
    assert written.only["exception"].endswith("THE END")
    assert len(written.only["exception"]) <= MAX_EXCEPTION_CHARS


def plant(logs: Logs) -> None:
    """Log a secret in every way there is."""
    log = get_logger("a")
    stdlib = logging.getLogger("b")
    log.info(
        "typed", value=SecretStr(CANARY), text=SecretText(CANARY), deep=[{"x": SecretStr(CANARY)}]
    )
    log.info("named", password=CANARY, headers={"Authorization": CANARY, "x-api-key": CANARY})
    log.info("paired", headers=[(b"authorization", CANARY.encode()), (b"cookie", CANARY.encode())])
    event = f"Bearer {CANARY} in the event"
    log.info(event)
    log.info("looks", note=f"wg_id_{CANARY}", url=f"https://u:{CANARY}@h/?token={CANARY}")
    log.info("key", **{f"wg_{CANARY}": 1})
    log.info("object", thing=type("Thing", (), {"secret": CANARY})())
    stdlib.warning("header Bearer %s", CANARY)
    stdlib.warning({"password": f"Bearer {CANARY}"})
    try:
        raise ValueError(f"dsn postgresql://u:{CANARY}@db/x and wg_{CANARY}")
    except ValueError:
        log.exception("failed")
        stdlib.exception("failed")
    logs.requests.write(record(path=f"/x/wg_{CANARY}"))
    logs.requests.write(record(name=f"https://h/?access_token={CANARY}"))
    logs.requests.write(record(request_id=f"wg_{CANARY}"))
    logs.requests.write(record(rpc_method=f"Bearer {CANARY}", method=f"wg_{CANARY}"))
    logs.requests.write(record(client=f"wg_{CANARY}", principal=f"wg_{CANARY}"))
    token = REQUEST_ID.set(f"wg_{CANARY}")
    log.info("id")
    REQUEST_ID.reset(token)
    logs.redactor.remember(CANARY)
    event = f"remembered {CANARY}"
    log.info(event, **{CANARY: CANARY})
    logs.requests.write(record(path=f"/{CANARY}", name=CANARY, principal=CANARY))


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_planted_secret_comes_out_in_any_form(tmp_path: Path, form: str) -> None:
    reader, stream = os.pipe()
    settings = settings_with(tmp_path, log_format=form, log_level="DEBUG")
    with open_logs(settings, descriptor=stream) as logs:
        plant(logs)
    os.close(stream)
    with os.fdopen(reader, "rb") as handle:
        on_stream = handle.read().decode()
    assert on_stream.count("request") >= 6
    assert len(Written(tmp_path).lines) == 19
    for text in (on_stream, Written(tmp_path).text):
        assert CANARY not in text
        assert CANARY[:10] not in text


def test_the_secrets_of_the_settings_are_hidden_from_the_first_line_on(tmp_path: Path) -> None:
    key, api_key = f"master-{CANARY}-{'x' * 32}", f"any-form-{CANARY}"
    with logging_to(tmp_path, secret_key=key, api_key=api_key) as (_, written):
        get_logger("a").info(f"{key} {api_key}", x=key)
    assert CANARY not in written.text


def test_hostile_text_stays_on_its_line_and_is_clipped(tmp_path: Path) -> None:
    hostile = 'x\n{"event":"forged"}\r\x1b[2J\x9b\u202e' + "y" * 5000
    with logging_to(tmp_path) as (logs, written):
        get_logger("a").info(hostile, **{hostile: hostile})
        logging.getLogger("b").warning(hostile)
        logs.requests.write(record(path=hostile, name=hostile, rpc_method=hostile, client=hostile))
    assert len(written.lines) == 3
    assert all(line["event"] != "forged" for line in written.lines)
    assert all(ord(character) >= 32 for line in written.text.splitlines() for character in line)
    assert "\x9b" not in written.text
    assert "\u202e" not in written.text
    assert max(len(line) for line in written.text.splitlines()) < 12_000


def test_the_request_log_has_its_fields_in_order(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (logs, written):
        logs.requests.write(record())
    line = written.only
    assert list(line) == [
        "event", "timestamp", "level", "request_id", "door", "method", "path", "status", "duration_ms",
        "endpoint", "rpc_method", "name", "outcome", "principal", "client",
    ]  # fmt: skip
    assert (line["event"], line["level"], line["duration_ms"]) == ("request", "info", 1.25)


def test_what_a_request_did_not_have_is_left_out(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (logs, written):
        logs.requests.write(
            record(
                rpc_method=None, name=None, outcome=None, principal=None, client=None, endpoint=None
            )
        )
    assert "name" not in written.only
    assert written.only["status"] == 200


def test_a_server_error_is_an_error(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (logs, written):
        logs.requests.write(record(status=503))
    assert written.only["level"] == "error"


def test_the_request_log_drops_and_counts_when_the_writer_cannot_keep_up() -> None:
    writer = LineWriter([], queue_lines=2)
    log = RequestLog(writer, Redactor(), Stamp())
    for _ in range(5):
        log.write(record())
    assert (len(writer.queue), writer.dropped) == (2, 3)


def test_a_request_wakes_an_idle_writer() -> None:
    writer = LineWriter([])
    writer.idle = True
    RequestLog(writer, Redactor(), Stamp()).write(record())
    assert writer.idle is False


def test_nothing_is_ever_written_to_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    get_logger("a").error("before")
    with logging_to(tmp_path):
        get_logger("a").error("during")
        logging.getLogger("b").error("during")
    get_logger("a").error("after")
    assert capfd.readouterr() == ("", "")


def test_standard_error_gets_the_lines_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    with open_logs(settings_with(None)):
        get_logger("a").info("hello")
    out, err = capfd.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "hello"


def test_a_logger_made_early_writes_once_there_is_a_log(tmp_path: Path) -> None:
    early = get_logger("early")
    early.error("nowhere to go")
    with logging_to(tmp_path) as (_, written):
        early.error("here")
    early.error("nowhere again")
    assert written.only["event"] == "here"


def test_a_folder_that_cannot_be_used_is_told_and_the_process_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with open_logs(settings_with(tmp_path / "file" / "logs")):
        get_logger("a").info("hello")
    events = [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    assert events == ["log_file_unusable", "hello"]


def test_the_file_can_be_left_out(tmp_path: Path) -> None:
    with open_logs(settings_with(tmp_path), descriptor=None, file=False):
        get_logger("a").info("hello")
    assert list(tmp_path.iterdir()) == []


def test_closing_gives_logging_back_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    with logging_to(tmp_path):
        assert root.handlers != before[0]
    assert (root.handlers[:], root.level) == before


def test_what_went_wrong_inside_is_written_before_the_end(tmp_path: Path) -> None:
    def fail() -> None:
        with logging_to(tmp_path):
            get_logger("a").error("last words")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert Written(tmp_path).only["event"] == "last words"


def test_no_line_is_lost_between_idling_and_closing(tmp_path: Path) -> None:
    with logging_to(tmp_path) as (logs, written):
        for number in range(2000):
            logs.requests.write(record(request_id=str(number)))
    assert [line["request_id"] for line in written.lines] == [str(n) for n in range(2000)]
