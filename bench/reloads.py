"""What a reload costs those who call meanwhile: the document changes under load, upstreams come and go.

A gateway serves four upstreams: `kept` over HTTP and `pipe` on stdio never change, `changes` is given
another limit by every reload, `comes` is there every second time. Clients of both eras call all of
them without pause, each one call after the other. A call for `comes` may be refused if `comes` was
absent at some moment of it; any other answer that is not the right one is a failure, and the exit
code is then 1. The upstreams are this project's own server, behind a URL and as a process.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import settings
from calls import (
    FIRST_ID,
    TEXT,
    WAIT_S,
    Era,
    Request,
    Target,
    WrongAnswerError,
    build,
    open_session,
)
from servers import HERE, Running, Spec

TOOLS = ("kept__echo", "pipe__echo", "changes__echo", "comes__echo")
PAUSE_S = 0.1
"""Seconds between the end of a reload and the next."""


class Refused(Exception):  # noqa: N818 - an answer, though not the one that was asked for
    """The gateway answered with an error."""


@dataclass
class Books:
    """What became of every call. `absent` are the moments without `comes`, from and until."""

    took_s: list[float] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    absent: list[list[float]] = field(default_factory=list)
    is_over: bool = False

    def was_absent(self, began_s: float, ended_s: float) -> bool:
        """Whether `comes` was missing at some moment between the two."""
        return any(start < ended_s and end > began_s for start, end in self.absent)


class Client(threading.Thread):
    """One client, one connection, one call after the other over all tools."""

    def __init__(self, target: Target, era: Era, books: Books, number: int) -> None:
        super().__init__(daemon=True)
        self._books = books
        self._number = number
        session = open_session(target) if era == "legacy" else ""
        self._requests: dict[str, Request] = {
            tool: build(Target(target.port, tool=tool, key=target.key), era, "tools/call", session)
            for tool in TOOLS
        }
        self._wire = http.client.HTTPConnection("127.0.0.1", target.port, timeout=WAIT_S)

    def run(self) -> None:
        """Call until it is over."""
        while not self._books.is_over:
            self._number += 1
            self._call(TOOLS[self._number % len(TOOLS)])
        self._wire.close()

    def _call(self, tool: str) -> None:
        books, began_s = self._books, time.perf_counter()
        try:
            self._ask(self._requests[tool])
        except (Refused, OSError, http.client.HTTPException) as exc:
            is_fair = tool == "comes__echo" and books.was_absent(began_s, time.perf_counter())
            if is_fair and isinstance(exc, Refused):
                books.refused += 1
            else:
                books.failures.append(f"{tool}: {exc!r}"[:500])
                self._wire.close()
            return
        books.took_s.append(time.perf_counter() - began_s)
        books.done[tool] += 1

    def _ask(self, request: Request) -> None:
        identifier = FIRST_ID + self._number
        self._wire.request("POST", "/mcp", request.body(identifier), request.headers)
        response = self._wire.getresponse()
        body = response.read()
        message = json.loads(body) if response.status == 200 else {}
        content = message.get("result", {}).get("content", [])
        is_right = message.get("id") == identifier and [
            (block.get("type"), block.get("text")) for block in content
        ] == [("text", TEXT)]
        if not is_right:
            raise Refused(f"status {response.status}: {body[:300]!r}")


def health(target: Target) -> dict[str, Any]:
    """The checks of the gateway."""
    wire = http.client.HTTPConnection("127.0.0.1", target.port, timeout=WAIT_S)
    try:
        wire.request("GET", "/health", headers={"Authorization": f"Bearer {target.key}"})
        found: dict[str, Any] = json.loads(wire.getresponse().read())["checks"]
        return found
    finally:
        wire.close()


def wait(is_so: Any, what: str) -> None:
    """Wait for something, within a bound.

    Raises:
        WrongAnswerError: it did not come.
    """
    deadline_s = time.perf_counter() + WAIT_S
    while not is_so():
        if time.perf_counter() > deadline_s:
            raise WrongAnswerError(f"{what} did not come within {WAIT_S:.0f} s")
        time.sleep(0.01)


@dataclass(frozen=True)
class Scene:
    """The document of each generation."""

    url: str
    key: str
    python: Path
    folder: Path

    def write(self, number: int) -> bool:
        """Write the document of one generation; tell whether `comes` is in it."""
        is_there = number % 2 == 0
        over_http = {"url": self.url, "headers": {"Authorization": f"Bearer {self.key}"}}
        pipe = {
            "command": str(self.python.parent / "waygate"),
            "args": ["stdio", "-c", str(HERE / "waygate.yaml")],
            "env": {"WAYGATE_DATA_DIR": str(self.folder / "pipe"), "WAYGATE_LOG_DIR": "none"},
        }
        upstreams: dict[str, Any] = {
            "kept": over_http,
            "pipe": pipe,
            "changes": {**over_http, "limits": {"calls": 1000 + number}},
        }
        if is_there:
            upstreams["comes"] = over_http
        document = {"version": 1, "upstreams": upstreams}
        (self.folder / "waygate.yaml").write_text(json.dumps(document))
        return is_there


def reload_under_load(gateway: Running, scene: Scene, books: Books, reloads: int) -> list[float]:
    """Reload that many times; give the seconds from the signal to the generation in force."""
    took_s = []
    for number in range(1, reloads + 1):
        if number % 2:
            books.absent.append([time.perf_counter(), float("inf")])
        is_there = scene.write(number)
        began_s = time.perf_counter()
        gateway.hang_up()
        wait(
            lambda wanted=number + 1: (
                health(gateway.target)["configuration"]["generation"] == wanted
            ),
            f"generation {number + 1}",
        )
        took_s.append(time.perf_counter() - began_s)
        if is_there:
            books.absent[-1][1] = time.perf_counter()
        time.sleep(PAUSE_S)
    return took_s


def run(who: settings.Interpreters, reloads: int, clients: int) -> tuple[Books, dict[str, Any]]:
    """Start everything, load, reload, and count."""
    books = Books()
    key = settings.bootstrap_key()
    with (
        tempfile.TemporaryDirectory(prefix="bench-reloads-") as folder,
        Running(settings.waygate(who), core=None) as upstream,
    ):
        upstream.wait_until_right()
        url = f"http://127.0.0.1:{upstream.target.port}/mcp"
        scene = Scene(url, upstream.spec.key, who.ours, Path(folder))
        scene.write(0)
        command = (str(who.ours.parent / "waygate"), "serve", "-c", f"{folder}/waygate.yaml")
        spec = Spec(
            "gateway", (*command, "--port", "{port}"), {"WAYGATE_API_KEY": key, "WAYGATE_RATE_LIMIT": "1000000000"},
            tool="kept__echo", key=key,
        )  # fmt: skip
        with Running(spec, core=None) as gateway:
            gateway.wait_until_right()
            target = gateway.target
            wait(lambda: health(target)["upstreams"]["status"] == "healthy", "all upstreams")
            before_mb = gateway.rss_mb()
            eras: tuple[Era, Era] = ("modern", "legacy")
            callers = [Client(target, eras[n % 2], books, n) for n in range(clients)]
            for caller in callers:
                caller.start()
            began_s, began_cpu_s = time.perf_counter(), gateway.cpu_s()
            try:
                took_s = reload_under_load(gateway, scene, books, reloads)
            finally:
                books.is_over = True
                for caller in callers:
                    caller.join(WAIT_S)
            seconds, cpu_s = time.perf_counter() - began_s, gateway.cpu_s() - began_cpu_s
            wait(lambda: len(gateway.pids()) <= 3, "the end of processes nobody uses")
            figures = summary(books, took_s, seconds)
            figures |= {
                "core busy": round(cpu_s / seconds, 2),
                "RSS before MB": round(before_mb, 1),
                "RSS after MB": round(gateway.rss_mb(), 1),
                "processes after": len(gateway.pids()),
            }
            return books, figures


def summary(books: Books, took_s: list[float], seconds: float) -> dict[str, Any]:
    """The figures of a run."""
    cuts = quantiles(books.took_s, n=1000)
    return {
        "reloads": len(took_s),
        "reload p50 ms": round(median(took_s) * 1000, 1),
        "reload max ms": round(max(took_s) * 1000, 1),
        "seconds": round(seconds, 1),
        "right answers": sum(books.done.values()),
        "calls/s": round(sum(books.done.values()) / seconds),
        "call p50 ms": round(median(books.took_s) * 1000, 2),
        "call p99 ms": round(cuts[989] * 1000, 2),
        "call max ms": round(max(books.took_s) * 1000, 1),
        "refused while absent": books.refused,
        "failures": len(books.failures),
    }


def markdown(about: dict[str, object], figures: dict[str, Any]) -> str:
    """The table."""
    lines = [f"Made by `{about['command']}`; load average at start {about['load_average']}.", ""]
    lines += ["| figure | |", "| --- | ---: |"]
    lines += [f"| {name} | {value} |" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--save", action="store_true", help="write results/reloads.md and .json")
    options = parser.parse_args()
    who = settings.interpreters(options)
    about: dict[str, object] = {
        "command": " ".join(["python bench/reloads.py", *sys.argv[1:]]),
        "machine": settings.describe(who),
        "load_average": ", ".join(f"{n:.2f}" for n in os.getloadavg()),
    }
    try:
        books, figures = run(who, options.reloads, options.clients)
    except WrongAnswerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(markdown(about, figures))
    for failure in books.failures[:20]:
        print(f"bench: {failure}", file=sys.stderr)
    if options.save:
        folder = HERE / "results"
        folder.mkdir(exist_ok=True)
        (folder / "reloads.json").write_text(json.dumps({**about, **figures}, indent=1) + "\n")
        text = "# Reloads under load\n\n" + markdown(about, figures)
        (folder / "reloads.md").write_text(text)
    return 1 if books.failures else 0


if __name__ == "__main__":
    sys.exit(main())
