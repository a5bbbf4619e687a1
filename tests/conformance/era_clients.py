"""Two plain clients, one of each era, that write down all a server says during one request.

Knows HTTP and both eras' messages, written here by hand: nothing of the package reads or writes them. What comes
back is a `Transcript`, in which two servers that say the same look the same.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

_META = "io.modelcontextprotocol/"
_WITHIN_S = 30.0
_MOST_ROUNDS = 12

FULL: Mapping[str, Any] = {"elicitation": {"form": {}}, "sampling": {}, "roots": {}}
"""Capabilities of a client that can be asked anything but to open a page."""

Answerer = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""Answers a question by its method and parameters: an object with `result` or `error`."""


@dataclass
class Transcript:
    """What a server said during one request, from the first byte to the response.

    `events` are notifications in order; `questions` everything asked, as (method, parameters), sorted, because
    what is asked at once has no order; `rounds` is how often a modern server asked. `final` is the response
    without its id.
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)
    rounds: int = 0
    status: int = 0
    final: dict[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> dict[str, Any]:
        """The result; fails where there is none."""
        assert "result" in self.final, self.final
        result: dict[str, Any] = self.final["result"]
        return result

    @property
    def text(self) -> str:
        """The first text of a tool's result."""
        return str(self.result["content"][0]["text"])

    def ask(self, method: str, params: Mapping[str, Any]) -> None:
        """Note a question."""
        self.questions.append((method, json.dumps(params, sort_keys=True)))
        self.questions.sort()

    def end(self, message: Mapping[str, Any], status: int) -> Transcript:
        """Note the response."""
        self.status = status
        self.final = {name: message[name] for name in ("result", "error") if name in message}
        return self


class Client(Protocol):
    """What both clients can do."""

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        token: str | int | None = None,
        level: str | None = None,
    ) -> Transcript:
        """Make one request and answer whatever is asked meanwhile."""

    def changes(self, uris: tuple[str, ...] = ()) -> contextlib.AbstractContextManager[Changes]:
        """Listen to changes of every list and of these resources."""

    @property
    def hello(self) -> Mapping[str, Any]:
        """What the server said of itself."""

    def begin(self, params: Mapping[str, Any]) -> Any:
        """Begin a call of a tool, to be given to `cancel`."""

    def cancel(self, begun: Any) -> None:
        """Cancel a call in the way of the era."""

    def close(self) -> None:
        """End what was begun."""


def accept(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer as a person and a model who have no objections."""
    if method == "sampling/createMessage":
        content = {"type": "text", "text": "Paris"}
        return {
            "result": {
                "role": "assistant",
                "content": content,
                "model": "m",
                "stopReason": "endTurn",
            }
        }
    if method == "roots/list":
        return {"result": {"roots": [{"uri": "file:///home", "name": "home"}]}}
    return {"result": {"action": "accept", "content": _filled(params)}}


def decline(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer as a person who says no to forms."""
    return (
        {"result": {"action": "decline"}}
        if method == "elicitation/create"
        else accept(method, params)
    )


def fail(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Answer as a client whose model is out of order; legacy only, since modern answers are results."""
    return {"error": {"code": -1, "message": "The model is out of order"}}


def _filled(params: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in a form: defaults, first choices, something of the type."""
    samples = {"string": "Ada", "integer": 3, "number": 2.5, "boolean": True}
    fields = params["requestedSchema"]["properties"]
    return {
        name: one.get("default", samples[one["type"]])
        for name, one in fields.items()
        if one["type"] in samples
    }


class Connection:
    """One HTTP connection and the messages of its response, as they come."""

    def __init__(self, url: str, timeout_s: float = _WITHIN_S) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.path = parts.path
        self.http = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        self._response: http.client.HTTPResponse | None = None

    def send(
        self, method: str, headers: Mapping[str, str], message: Mapping[str, Any] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request and read the head of its response."""
        body = None if message is None else json.dumps(message)
        sent = {"Accept": "application/json, text/event-stream", **headers}
        if body is not None:
            sent["Content-Type"] = "application/json"
        self.http.request(method, self.path, body, sent)
        self._response = self.http.getresponse()
        return self._response

    def messages(self) -> Iterator[dict[str, Any]]:
        """Give the messages of the response, until it ends."""
        response = self._response
        assert response is not None
        if not (response.headers.get("content-type") or "").startswith("text/event-stream"):
            body = response.read()
            if body:
                yield json.loads(body)
            return
        data = b""
        while line := response.readline():
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                data += line[5:].strip()
            elif not line and data:
                yield json.loads(data)
                data = b""

    def close(self) -> None:
        """Close it, whatever is still to come."""
        if self.http.sock is not None:
            with contextlib.suppress(OSError):
                self.http.sock.shutdown(2)
        self.http.close()


class Changes:
    """Notifications of a stream that stays open, read by a thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seen: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, AttributeError, ValueError):
            for message in self._connection.messages():
                with self._news:
                    self._seen.append(message)
                    self._news.notify_all()

    @property
    def seen(self) -> list[dict[str, Any]]:
        """What came so far."""
        with self._news:
            return list(self._seen)

    def wait_for(self, method: str, within_s: float = 15.0) -> dict[str, Any]:
        """Wait for a notification of this method; what came before it counts too."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self._seen if one.get("method") == method), None)

        with self._news:
            self._news.wait_for(found, within_s)
            message = found()
            assert message is not None, f"no {method} within {within_s} s; came: {self._seen}"
            return message

    def forget(self) -> None:
        """Let what came so far count no more."""
        with self._news:
            self._seen.clear()


class LegacyClient:
    """A client with a session."""

    def __init__(
        self,
        url: str,
        capabilities: Mapping[str, Any] = FULL,
        answer: Answerer = accept,
        revision: str = "2025-11-25",
    ) -> None:
        self._url = url
        self._answer = answer
        self._revision = revision
        self._ids = itertools.count(1)
        self._level: str | None = None
        self._session: dict[str, str] = {}
        self._is_closed = False
        params = {
            "protocolVersion": revision,
            "capabilities": capabilities,
            "clientInfo": {"name": "plain", "version": "1"},
        }
        connection = Connection(url)
        response = connection.send(
            "POST", {}, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        )
        (self.hello,) = connection.messages()
        assert self.hello["result"]["protocolVersion"] == revision
        self._session = {"Mcp-Session-Id": response.headers["mcp-session-id"]}
        if revision >= "2025-06-18":
            self._session["MCP-Protocol-Version"] = revision
        connection.close()
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        token: str | int | None = None,
        level: str | None = None,
    ) -> Transcript:
        """See Client. `level` is the session's from then on."""
        if level is not None and level != self._level:
            self._level = level
            assert self.request("logging/setLevel", {"level": level}).final == {"result": {}}
        sent = dict(params or {})
        if token is not None:
            sent["_meta"] = {**sent.get("_meta", {}), "progressToken": token}
        identifier = next(self._ids)
        message = {"jsonrpc": "2.0", "id": identifier, "method": method, "params": sent}
        transcript = Transcript()
        connection = Connection(self._url)
        try:
            response = connection.send("POST", self._session, message)
            for received in connection.messages():
                if "method" not in received:
                    assert received["id"] == identifier, received
                    return transcript.end(received, response.status)
                if "id" in received:
                    self._answer_question(received, transcript)
                else:
                    transcript.events.append(received)
        finally:
            connection.close()
        raise AssertionError(f"{method}: no response; so far {transcript}")

    def _answer_question(self, question: Mapping[str, Any], transcript: Transcript) -> None:
        params = question.get("params", {})
        meta = {k: v for k, v in params.get("_meta", {}).items() if k != "waygate-mcp/inputKey"}
        shown = {name: value for name, value in params.items() if name != "_meta"}
        transcript.ask(question["method"], {**shown, **({"_meta": meta} if meta else {})})
        answer = self._answer(question["method"], params)
        self._post({"jsonrpc": "2.0", "id": question["id"], **answer})

    def cancel(self, begun: int) -> None:
        """See Client: by a notification."""
        params = {"requestId": begun, "reason": "changed my mind"}
        self._post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    def begin(self, params: Mapping[str, Any]) -> int:
        """See Client: a thread reads the stream and drops what comes; gives the request's id."""
        identifier = next(self._ids)
        message = {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}
        connection = Connection(self._url)

        def run() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.send("POST", self._session, message)
                for _ in connection.messages():
                    pass
            connection.close()

        threading.Thread(target=run, daemon=True).start()
        return identifier

    @contextlib.contextmanager
    def changes(self, uris: tuple[str, ...] = ()) -> Iterator[Changes]:
        """See Client: the session's own stream, and a subscription for each resource."""
        connection = Connection(self._url)
        response = connection.send("GET", self._session)
        assert response.status == 200
        changes = Changes(connection)
        for uri in uris:
            assert self.request("resources/subscribe", {"uri": uri}).final == {"result": {}}
        try:
            yield changes
        finally:
            if not self._is_closed:
                for uri in uris:
                    self.request("resources/unsubscribe", {"uri": uri})
            connection.close()

    def _post(self, message: Mapping[str, Any]) -> None:
        connection = Connection(self._url)
        response = connection.send("POST", self._session, message)
        assert response.status == 202, (response.status, response.read())
        connection.close()

    def close(self) -> None:
        """See Client: the session."""
        self._is_closed = True
        connection = Connection(self._url)
        response = connection.send("DELETE", self._session)
        assert response.status in (200, 204), response.status
        connection.close()


class ModernClient:
    """A client that says everything in every request."""

    def __init__(
        self, url: str, capabilities: Mapping[str, Any] = FULL, answer: Answerer = accept
    ) -> None:
        self._url = url
        self._capabilities = capabilities
        self._answer = answer
        self._ids = itertools.count(1)
        self.hello = self.request("server/discover").final

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        token: str | int | None = None,
        level: str | None = None,
    ) -> Transcript:
        """See Client."""
        transcript = Transcript()
        more: dict[str, Any] = {}
        for _ in range(_MOST_ROUNDS):
            message, headers = self.message(method, {**(params or {}), **more}, token, level)
            connection = Connection(self._url)
            try:
                response = connection.send("POST", headers, message)
                final = self._read(connection, message["id"], transcript)
            finally:
                connection.close()
            result = final.get("result", {})
            if result.get("resultType") != "input_required":
                return transcript.end(final, response.status)
            transcript.rounds += 1
            more = self._answers(result, transcript)
        raise AssertionError(f"{method}: asks for ever; so far {transcript}")

    def message(
        self,
        method: str,
        params: Mapping[str, Any],
        token: str | int | None = None,
        level: str | None = None,
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """A request and its headers."""
        meta: dict[str, Any] = {
            **params.get("_meta", {}),
            f"{_META}protocolVersion": "2026-07-28",
            f"{_META}clientInfo": {"name": "plain", "version": "1"},
            f"{_META}clientCapabilities": self._capabilities,
        }
        if token is not None:
            meta["progressToken"] = token
        if level is not None:
            meta[f"{_META}logLevel"] = level
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        named = params.get("uri") if method.startswith("resources/") else params.get("name")
        if named is not None:
            headers["Mcp-Name"] = str(named)
        arguments = params.get("arguments", {})
        if named == "test_custom_header" and "region" in arguments:
            headers["Mcp-Param-Region"] = arguments["region"]
        message = {
            "jsonrpc": "2.0",
            "id": next(self._ids),
            "method": method,
            "params": {**params, "_meta": meta},
        }
        return message, headers

    @staticmethod
    def _read(connection: Connection, identifier: int, transcript: Transcript) -> dict[str, Any]:
        for received in connection.messages():
            if "method" not in received:
                assert received["id"] == identifier, received
                return received
            assert "id" not in received, f"a request on a modern stream: {received}"
            transcript.events.append(received)
        raise AssertionError(f"no response; so far {transcript}")

    def _answers(self, result: Mapping[str, Any], transcript: Transcript) -> dict[str, Any]:
        answers = {}
        for key, question in result.get("inputRequests", {}).items():
            params = question.get("params", {})
            transcript.ask(question["method"], {"key": key, **params})
            answers[key] = self._answer(question["method"], params)["result"]
        more: dict[str, Any] = {"inputResponses": answers}
        if "requestState" in result:
            more["requestState"] = result["requestState"]
        return more

    def begin(self, params: Mapping[str, Any]) -> Connection:
        """See Client: gives the connection."""
        message, headers = self.message("tools/call", params)
        connection = Connection(self._url)

        def run() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.send("POST", headers, message)

        threading.Thread(target=run, daemon=True).start()
        return connection

    def cancel(self, begun: Connection) -> None:
        """See Client: by closing the connection."""
        begun.close()

    def acknowledged(self, uris: tuple[str, ...]) -> list[str]:
        """Give the resources a server confirms of those that were asked for."""
        wanted = {"resourceSubscriptions": list(uris)}
        message, headers = self.message("subscriptions/listen", {"notifications": wanted})
        connection = Connection(self._url)
        connection.send("POST", headers, message)
        first = next(connection.messages())
        connection.close()
        found: list[str] = first["params"]["notifications"].get("resourceSubscriptions", [])
        return found

    @contextlib.contextmanager
    def changes(self, uris: tuple[str, ...] = ()) -> Iterator[Changes]:
        """See Client: one listening stream."""
        wanted: dict[str, Any] = {
            "toolsListChanged": True,
            "promptsListChanged": True,
            "resourcesListChanged": True,
        }
        if uris:
            wanted["resourceSubscriptions"] = list(uris)
        message, headers = self.message("subscriptions/listen", {"notifications": wanted})
        connection = Connection(self._url)
        response = connection.send("POST", headers, message)
        assert response.status == 200, response.read()
        changes = Changes(connection)
        acknowledged = changes.wait_for("notifications/subscriptions/acknowledged")
        assert acknowledged["params"]["notifications"] == wanted
        try:
            yield changes
        finally:
            connection.close()

    def close(self) -> None:
        """See Client: nothing is open."""


def client_of(
    url: str, era: str, capabilities: Mapping[str, Any] = FULL, answer: Answerer = accept
) -> Client:
    """A client of an era."""
    make = LegacyClient if era == "legacy" else ModernClient
    return make(url, capabilities, answer)


def call(client: Client, name: str, **arguments: Any) -> str:
    """Call a tool and give its text."""
    return client.request("tools/call", {"name": name, "arguments": arguments}).text
