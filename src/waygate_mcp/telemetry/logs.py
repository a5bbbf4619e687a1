"""Logging: one pipeline for our lines, for those of libraries, and for the request log.

Knows structlog and the standard library's logging, and leads both through redaction into the
writer. Refuses to write to standard output, which in stdio mode belongs to the protocol. Every line
has `timestamp`, `level` and `event`, and `request_id` where a request is being served.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, cast

import msgspec

from waygate_mcp.config.secrets import prepare_private_folder
from waygate_mcp.config.settings import Settings
from waygate_mcp.errors import ConfigError
from waygate_mcp.telemetry.plain_structlog import FilteringBoundLogger, Processor, structlog
from waygate_mcp.telemetry.redaction import Redactor
from waygate_mcp.telemetry.sinks import FileSink, StreamSink
from waygate_mcp.telemetry.timestamps import Stamp
from waygate_mcp.telemetry.writer import LineWriter, Sink

LOG_FILE = "waygate.log"
MAX_EXCEPTION_CHARS = 16 * 1024

REQUEST_ID: ContextVar[str | None] = ContextVar("waygate_request_id", default=None)
"""The id of the request being served here; the door sets it, every log line carries it."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_OWN_FIELDS = ("timestamp", "level", "event", "logger", "request_id")
_LEVELS = {
    "warn": "warning",
    "exception": "error",
    "fatal": "critical",
    "msg": "info",
    "notset": "debug",
}


class RequestRecord(
    msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, tag_field="event", tag="request"
):
    """One line of the request log; `timestamp` and `level` are filled in by `RequestLog.write`.

    `door` is the way in (`http`, `stdio`, `sse`; `worker` where another worker took the request and
    sent it here), `method` and `path` the HTTP request's, without its query. `rpc_method` and `name`
    are the call's; `principal` is a key's public id, never a credential. `outcome` is a bounded word.
    `duration_ms` has microseconds behind the point.
    """

    timestamp: str = ""
    level: str = ""
    request_id: str
    door: str
    method: str
    path: str
    status: int
    duration_ms: float
    endpoint: str | None = None
    rpc_method: str | None = None
    name: str | None = None
    outcome: str | None = None
    principal: str | None = None
    client: str | None = None


_TALKATIVE = ("aiosqlite",)
"""Libraries that write every statement with its values at debug level: digests, arguments, names."""


class RequestLog:
    """Writes one line for each request, cheaply: it is called at full speed from the event loop."""

    def __init__(
        self, writer: LineWriter, redactor: Redactor, stamp: Stamp, *, enabled: bool = True
    ) -> None:
        self.enabled = enabled
        self._writer = writer
        self._queue = writer.queue
        self._room = writer.queue_lines
        self._redactor = redactor
        self._plain = redactor.plain
        self._stamp = stamp.now

    def write(self, record: RequestRecord) -> None:
        """Queue the line; never waits, and drops it (counted) when the writer cannot keep up."""
        if not self.enabled:
            return
        if len(self._queue) >= self._room:
            self._writer.dropped += 1
            return
        # Texts seen before and found clean are the rule: one look-up each and nothing more.
        plain = self._plain
        if record.path not in plain:
            record.path = self._redactor.clean(record.path)
        if record.name not in plain:
            record.name = self._redactor.clean(cast("str", record.name))
        if record.rpc_method not in plain:
            record.rpc_method = self._redactor.clean(cast("str", record.rpc_method))
        if record.method not in plain:
            record.method = self._redactor.clean(record.method)
        if record.client not in plain:
            record.client = self._redactor.clean(cast("str", record.client))
        if record.principal not in plain:
            record.principal = self._redactor.clean(cast("str", record.principal))
        if "wg_" in record.request_id:
            record.request_id = self._redactor.text(record.request_id)
        record.timestamp = self._stamp()
        record.level = "info" if record.status < 500 else "error"
        self._queue.append(record)
        if self._writer.idle:
            self._writer.wake()


class Logs:
    """The logging of this process while it is open. See `open_logs`."""

    def __init__(self, writer: LineWriter, redactor: Redactor, *, level: int) -> None:
        self.writer = writer
        self.redactor = redactor
        self._stamp = Stamp()
        self.requests = RequestLog(writer, redactor, Stamp(), enabled=level <= logging.INFO)

    def emit(self, level: str, event: str, fields: MutableMapping[str, Any]) -> None:
        """Redact one line and queue it. `fields` may hold an `exc_info` as structlog has it."""
        line: dict[str, Any] = {
            "timestamp": self._stamp.now(),
            "level": level,
            "event": self.redactor.text(event),
        }
        if (request_id := REQUEST_ID.get()) is not None:
            line["request_id"] = self.redactor.text(request_id)
        exc_info = fields.pop("exc_info", None)
        for name, value in fields.items():
            if name not in line:
                line[self.redactor.text(name, 200)] = self.redactor.value(value, key=name)
        if (exception := _exception(exc_info)) is not None:
            line["exception"] = self._traceback(exception)
        self.writer.put(line)

    def _traceback(self, exc_info: ExcInfo) -> str:
        text = "".join(traceback.format_exception(*exc_info)).rstrip()
        # The end says what went wrong, so it is the beginning that goes.
        return self.redactor.text(text[-MAX_EXCEPTION_CHARS:], MAX_EXCEPTION_CHARS)


class _Processor:
    """The end of structlog's chain: hands the line over and lets structlog print nothing."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def __call__(self, logger: Any, name: str, fields: MutableMapping[str, Any]) -> str:
        event = fields.pop("event", "")
        if isinstance(logger, _Named) and logger.name:
            fields.setdefault("logger", logger.name)
        self._logs.emit(_LEVELS.get(name, name), str(event), fields)
        raise structlog.DropEvent


class _Named:
    """What structlog wraps: nothing but a name, since the processor writes."""

    def __init__(self, name: str = "") -> None:
        self.name = name


def _drop(_logger: Any, _name: str, _fields: MutableMapping[str, Any]) -> str:
    raise structlog.DropEvent


class _Handler(logging.Handler):
    """The end of the standard library's logging."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record over, its own fields included."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        try:
            event = record.getMessage()
        except (TypeError, ValueError, KeyError):
            event = str(record.msg)
        self._logs.emit(_level_name(record.levelno), event, fields)


@contextmanager
def open_logs(
    settings: Settings, *, descriptor: int | None = 2, file: bool = True
) -> Iterator[Logs]:
    """Set up logging for this process, and flush and take it down at the end.

    Lines go to `descriptor` (standard error; None for nowhere) in the form of
    `settings.log_format`, and as JSON to `waygate.log` in `settings.log_dir`, if `file` says so. A
    folder that cannot be used is no reason not to start: it is logged. The secrets of `settings`
    are hidden from the first line on.
    """
    level = logging.getLevelNamesMapping()[settings.log_level]
    sinks: list[Sink] = []
    if descriptor is not None:
        sinks.append(StreamSink(descriptor, console=settings.log_format == "console"))
    problem = _add_file(settings, sinks) if file else None
    logs = Logs(LineWriter(sinks), Redactor(), level=level)
    for secret in (settings.secret_key, settings.api_key):
        if secret is not None:
            logs.redactor.remember(secret.get_secret_value())
    logs.writer.start()
    handler = _Handler(logs)
    with _installed(logs, handler, level):
        if problem is not None:
            logs.emit("warning", "log_file_unusable", {"error": problem})
        try:
            yield logs
        finally:
            logs.writer.close()


def get_logger(name: str) -> FilteringBoundLogger:
    """Give a logger whose lines carry `logger=name`; it may be made before logging is set up."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def _add_file(settings: Settings, sinks: list[Sink]) -> str | None:
    if settings.log_dir is None:
        return None
    try:
        prepare_private_folder(settings.log_dir, path="WAYGATE_LOG_DIR")
    except ConfigError as exc:
        return str(exc)
    sinks.append(FileSink(settings.log_dir / LOG_FILE))
    return None


@contextmanager
def _installed(logs: Logs, handler: logging.Handler, level: int) -> Iterator[None]:
    root = logging.getLogger()
    before, before_level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
    _configure([structlog.contextvars.merge_contextvars, _Processor(logs)], level)
    try:
        yield
    finally:
        _configure([_drop], logging.WARNING)
        logging.captureWarnings(capture=False)
        root.handlers[:] = before
        root.setLevel(before_level)


def _configure(processors: list[Processor], level: int) -> None:
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Named,
        cache_logger_on_first_use=False,
    )


def _level_name(number: int) -> str:
    for name in ("critical", "error", "warning", "info"):
        if number >= logging.getLevelNamesMapping()[name.upper()]:
            return name
    return "debug"


def _exception(exc_info: object) -> ExcInfo | None:
    # Three forms: an exception, the tuple of sys.exc_info(), or True for the one being handled.
    if isinstance(exc_info, BaseException):
        return type(exc_info), exc_info, exc_info.__traceback__
    found = sys.exc_info() if exc_info is True else exc_info
    if isinstance(found, tuple) and len(found) == 3 and isinstance(found[1], BaseException):
        return type(found[1]), found[1], found[2]
    return None


# Until logging is set up nothing is written: structlog by itself would write to standard output.
_configure([_drop], logging.WARNING)
