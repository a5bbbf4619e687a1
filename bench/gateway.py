"""Measure our gateway in front of an upstream, beside nginx, a bare forwarder and a bare stdio relay, in one run.

The gateways stand on one core, the load and the upstreams on the other. Every pair of eras is measured:
same era, the bridge in both directions, and a process behind standard input and output. Rounds are
interleaved; ratios compare a server with nginx (or the relay), and ours with it, in the same round. Every
answer is looked at, and after each round the upstream's own count has to be the number of calls.

`waygate` checks keys and counts, and has its request log and its history on, but not the audit journal,
which none of the others has; `waygate-audited` is what `waygate serve` does by default, the journal included.

    python bench/gateway.py [--quick] [--save gateway] [--with PROXY] [PAIR …]

`--with` adds another maker's gateway (`proxies.py`) to the pairs it can take part in. `--install`, as root,
brings nginx and wrk from the distribution and those gateways from their packages.
"""

import argparse
import http.client
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import proxies
import settings
from calls import (
    FIRST_ID,
    WAIT_S,
    Answer,
    Era,
    Request,
    Target,
    WrongAnswerError,
    build,
    check,
    open_session,
)
from load import CONNECTIONS, SAMPLE_S, MissingWrkError, find_wrk, fire
from proxies import Place
from report import Measured
from run import LOAD_CORE, RESULTS, SERVER_CORE, say
from servers import HERE, Running, Spec, core_busy_s, started

ALONE_S = 2.0
"""How long calls are made one at a time, at most."""
ANSWERS_EACH, LONGEST_S = 4, 60
"""A slow server's rounds are made longer, so that each connection sees about four answers."""
ERAS: tuple[Era, Era] = ("modern", "legacy")
PAIRS: dict[str, tuple[Era, str]] = {
    "modern-modern": ("modern", "modern"),
    "legacy-legacy": ("legacy", "legacy"),
    "modern-legacy": ("modern", "legacy"),
    "legacy-modern": ("legacy", "modern"),
    "modern-stdio": ("modern", "stdio"),
}
"""Client's era, and what it is connected to."""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  upstream echo {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://echo; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

DOCUMENT = """
version: 1
auth: {{mode: keys}}
audit: {{enabled: {audit}}}
upstreams:
  modern: {{url: "http://127.0.0.1:{modern}/mcp"}}
  legacy: {{url: "http://127.0.0.1:{legacy}/mcp"}}
  stdio: {{command: "{python}", args: ["{here}/echo_upstream.py"], sandbox: none, sessions: shared}}
endpoints:
  default: {{bind: [modern]}}
  modern: {{bind: [modern]}}
  legacy: {{bind: [legacy]}}
  stdio: {{bind: [stdio]}}
"""


@dataclass
class Contender:
    """One place of one pair, up and checked."""

    place: Place
    target: Target
    requests: list[Request]
    answer: Answer
    call_s: float
    """How long one call takes, alone, before anything is measured."""
    rounds: list[Measured] = field(default_factory=list)
    late: int = 0
    """How many calls of the last round may still reach the upstream."""
    alone: list[float] = field(default_factory=list)
    """p50 of a call with no other under way, µs, of each round."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return self.place.name

    def long_enough_s(self, seconds: float, connections: int) -> int:
        """A round in which each connection sees some answers even of a server that is slow."""
        return min(math.ceil(max(seconds, ANSWERS_EACH * connections * self.call_s)), LONGEST_S)


def upstream(stack: ExitStack, who: settings.Interpreters, era: Era, on: str) -> Running:
    """The echo server of an era, on the load's core."""
    script = str(HERE / "echo_upstream.py")
    command = (str(who.ours), script, "--era", era, "--on", on, "--port", "{port}")
    return started(stack, Spec(f"echo-{era}", command), LOAD_CORE)


def nginx(stack: ExitStack, folder: Path, to: Running) -> Running:
    """nginx as a plain reverse proxy with kept connections."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        raise WrongAnswerError("nginx is missing: python bench/gateway.py --install")
    own = folder / f"nginx-{to.spec.name}"
    own.mkdir()
    template = NGINX.format(folder=own, upstream=to.target.port, port="@PORT@")
    # The port is chosen when the server starts, so its configuration is written then.
    script = (
        'sed "s/@PORT@/$1/" "$2/template" >"$2/nginx.conf"; exec "$3" -p "$2" -c "$2/nginx.conf"'
    )
    (own / "template").write_text(template)
    command = ("sh", "-c", script, "sh", "{port}", str(own), found)
    return started(stack, Spec("nginx", command), SERVER_CORE)


def forwarder(stack: ExitStack, who: settings.Interpreters, *words: str) -> Running:
    """The bare forwarder."""
    command = (str(who.ours), str(HERE / "forwarder.py"), "--port", "{port}", *words)
    return started(stack, Spec("forwarder", command), SERVER_CORE)


def waygate(
    stack: ExitStack, who: settings.Interpreters, document: Path, audit: str, ports: dict[str, int]
) -> Running:
    """Our gateway with an endpoint for each upstream; nothing tuned."""
    document.write_text(DOCUMENT.format(audit=audit, python=who.ours, here=HERE, **ports))
    spec = settings.waygate(who, str(document))
    server = started(stack, spec, SERVER_CORE)
    server.wait_until_right()
    return server


def time_call(target: Target, request: Request) -> float:
    """Seconds of one call, connecting included: the median of a few."""
    took = []
    for number in range(1, 6):
        began = time.perf_counter()
        check(target, request, "tools/call", FIRST_ID + number)
        took.append(time.perf_counter() - began)
    return median(took)


def contender(place: Place, pair: str, sessions: int) -> Contender:
    """Point at a place, open its sessions, and check one answer."""
    era, _ = PAIRS[pair]
    target = Target(place.server.target.port, place.path, place.tool, place.key)
    names = [""]
    if era == "legacy" and place.name in ("nginx", "forwarder"):
        names = ["bench-session"]  # these pass on what the upstream ignores
    elif era == "legacy" and place.has_sessions:
        names = [open_session(target) for _ in range(sessions)]
    requests = [build(target, era, "tools/call", one) for one in names]
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            answer = check(target, requests[0], "tools/call", FIRST_ID)
            call_s = time_call(target, requests[0])
            return Contender(place, target, requests, answer, call_s)
        except WrongAnswerError as wrong:
            if time.monotonic() > deadline:
                raise WrongAnswerError(f"{place.name} in {pair}: {wrong}") from wrong
            time.sleep(0.2)


def count(server: Running) -> int:
    """How many calls an upstream has answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=WAIT_S)
    try:
        connection.request("GET", "/count")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def settled(server: Running, call_s: float) -> int:
    """How many calls an upstream has answered, once what the load left under way has reached it."""
    last, deadline = -1, time.monotonic() + WAIT_S
    while (now := count(server)) != last and time.monotonic() < deadline:
        last = now
        time.sleep(max(0.2, 4 * call_s))
    return now


def measure(one: Contender, number: int, seconds: float, connections: int) -> Measured:
    """One round, with the upstream's count before and after.

    Raises:
        WrongAnswerError: an answer was wrong, or calls and upstream requests are not the same number.
    """
    server, upstream = one.place.server, one.place.upstream
    seconds = one.long_enough_s(seconds, connections)
    before = count(upstream) if upstream is not None else 0
    load_average, cpu, busy = os.getloadavg()[0], server.cpu_s(), core_busy_s(SERVER_CORE)
    try:
        seen = fire(
            one.target, one.requests, one.answer,
            number=number, seconds=seconds, core=LOAD_CORE, connections=connections,
        )  # fmt: skip
    except WrongAnswerError as wrong:
        said = server.log_path.read_text(errors="replace")[-1500:]
        raise WrongAnswerError(f"{one.name}: {wrong}; it said:\n{said}") from wrong
    measured = Measured(seen, server.cpu_s() - cpu, core_busy_s(SERVER_CORE) - busy, load_average)
    if upstream is not None:
        asked = settled(upstream, one.call_s) - before
        # What was under way when the load stopped reached the upstream and is in nobody's figures;
        # on a busy machine some of it comes so late that the next round counts it.
        looks = int(seconds / SAMPLE_S) + 2  # answers the bench itself compares meanwhile
        most = seen.requests + connections + looks
        if not seen.requests <= asked <= most + one.late:
            raise WrongAnswerError(
                f"{one.name}: {seen.requests} calls and {asked} requests of its upstream"
            )
        one.late = max(0, most - asked)
    return measured


def run_pair(pair: str, places: list[Place], options: argparse.Namespace) -> dict[str, object]:
    """Measure one pair of eras: throughput over many connections, latency over one."""
    ones = [contender(place, pair, options.sessions) for place in places]
    for one in ones:
        measure(one, 0, options.warm_s, CONNECTIONS)
    for number in range(1, options.rounds + 1):
        for one in ones:
            one.rounds.append(measure(one, 2 * number, options.round_s, CONNECTIONS))
            alone = measure(one, 2 * number + 1, min(options.round_s, ALONE_S), 1)
            one.alone.append(alone.round.p50_us)
            m = one.rounds[-1]
            say(
                f"  {pair} {number}/{options.rounds} {one.name}: {m.round.per_second:,.0f}/s, "
                f"{m.cpu_us:.1f} µs CPU, core {m.core_share:.0%}, alone {one.alone[-1]} µs, "
                f"load average {m.load_average:.1f}"
            )
    return summary(pair, ones)


def ratios(one: Contender, to: Contender) -> tuple[float, float]:
    """How many times the throughput of another, round by round, and the same by CPU time per call."""
    together = list(zip(one.rounds, to.rounds, strict=True))
    return (
        median(m.round.per_second / t.round.per_second for m, t in together),
        median(t.cpu_us / m.cpu_us for m, t in together),
    )


def summary(pair: str, ones: list[Contender]) -> dict[str, object]:
    """Medians, and ratios to the first (nginx or the relay) and of ours round by round."""
    first = ones[0]
    ours = next(one for one in ones if one.name == "waygate")
    rows = {}
    for one in ones:
        of_first, by_cpu = ratios(one, first)
        ours_times, ours_times_by_cpu = ratios(ours, one)
        rows[one.name] = {
            "calls_per_s": median(m.round.per_second for m in one.rounds),
            "p99_ms": median(m.round.p99_us for m in one.rounds) / 1000,
            "cpu_us_per_call": median(m.cpu_us for m in one.rounds),
            "core_share": median(m.core_share for m in one.rounds),
            "of_first": of_first,
            "by_cpu": by_cpu,
            "ours_times": ours_times,
            "ours_times_by_cpu": ours_times_by_cpu,
            "p50_alone_us": median(one.alone),
            "rss_mb": one.place.server.rss_mb(),
        }
    return {"pair": pair, "first": first.name, "servers": rows}


def table(found: dict[str, object]) -> str:
    """One pair as a Markdown table."""
    first = found["first"]
    columns = [
        "server", "calls/s", f"of {first}", "by CPU", "waygate is", "by CPU", "CPU µs/call",
        "p99 ms", "p50 alone µs", "RSS MB", "core",
    ]  # fmt: skip
    lines = [
        f"{found['pair']}",
        "",
        f"| {' | '.join(columns)} |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    rows = found["servers"]
    assert isinstance(rows, dict)
    for name, f in rows.items():
        lines.append(
            f"| {name} | {f['calls_per_s']:,.0f} | {f['of_first']:.1%} | {f['by_cpu']:.1%} | "
            f"{f['ours_times']:.2f} × | {f['ours_times_by_cpu']:.2f} × | "
            f"{f['cpu_us_per_call']:.1f} | {f['p99_ms']:.1f} | {f['p50_alone_us']:.0f} | "
            f"{f['rss_mb']:.0f} | {f['core_share']:.0%} |"
        )
    return "\n".join(lines)


def start_all(
    stack: ExitStack, who: settings.Interpreters, options: argparse.Namespace
) -> dict[str, list[Place]]:
    """Start everything, and say who stands before what in each pair."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    upstreams = {str(era): upstream(stack, who, era, options.upstream) for era in ERAS}
    fronts = {
        era: [
            Place("nginx", nginx(stack, folder, to), upstream=to),
            Place("forwarder", forwarder(stack, who, "--to", str(to.target.port)), upstream=to),
        ]
        for era, to in upstreams.items()
    }
    child = [str(who.ours), str(HERE / "echo_upstream.py")]
    relay = Place("relay", forwarder(stack, who, "--stdio", *child))
    ports = {era: to.target.port for era, to in upstreams.items()}
    ours = {
        name: waygate(stack, who, folder / f"{name}.yaml", audit, ports)
        for name, audit in (("waygate", "false"), ("waygate-audited", "true"))
    }
    found: dict[str, list[Place]] = {}
    for pair, (era, behind) in PAIRS.items():
        beside = [relay] if behind == "stdio" else fronts[era]
        to = upstreams.get(behind)
        found[pair] = [
            *beside,
            *(
                Place(name, one, f"/servers/{behind}/mcp", to, one.target.key)
                for name, one in ours.items()
            ),
        ]
    others = proxies.Others(stack, who, SERVER_CORE, upstreams, child)
    for name in options.proxies:
        for pair in options.pairs:
            place = others.place(name, *PAIRS[pair])
            if place is not None:
                found[pair].append(place)
    return found


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument("pairs", nargs="*", default=[*PAIRS], help=f"of: {', '.join(PAIRS)}")
    parser.add_argument(
        "--with", dest="proxies", action="append", default=[], choices=proxies.NAMES,
        help="another maker's gateway as well (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--upstream", choices=("uvicorn", "bare"), default="uvicorn",
        help="what serves the upstream: uvicorn, as it does the SDKs' servers, or nothing at all",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--round-s", type=float, help="seconds of one round (8)")
    parser.add_argument("--warm-s", type=float, help="seconds of warm-up (3)")
    parser.add_argument("--sessions", type=int, default=64, help="legacy sessions, used in turn")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s, 1 s of warm-up")
    parser.add_argument("--save", default="", help="write results/NAME.json and .md")
    parser.add_argument(
        "--install", action="store_true", help="install nginx, wrk and the peers first"
    )
    options = parser.parse_args()
    if unknown := set(options.pairs) - set(PAIRS):
        parser.error(f"no such pair: {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}")
    rounds, round_s, warm_s = (3, 2.0, 1.0) if options.quick else (5, 8.0, 3.0)
    options.rounds = options.rounds or rounds
    options.round_s = options.round_s or round_s
    options.warm_s = options.warm_s or warm_s
    return options


def main() -> int:
    """Run and print; exit 0, or 1 with one line when nothing could be measured."""
    options = parse()
    if options.install:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "nginx-light", "wrk"], check=True)
        proxies.install()
    tables, results = [], []
    try:
        find_wrk()
        os.sched_setaffinity(0, {LOAD_CORE})
        who = settings.interpreters(options)
        with ExitStack() as stack:
            servers = start_all(stack, who, options)
            for pair in options.pairs:
                results.append(run_pair(pair, servers[pair], options))
                tables.append(table(results[-1]))
                print(tables[-1] + "\n", flush=True)
        about = {
            "command": "python bench/gateway.py " + " ".join(sys.argv[1:]),
            "machine": {**settings.describe(who), **proxies.versions(options.proxies)},
            "rounds": options.rounds,
            "round_s": options.round_s,
            "load_average": ", ".join(f"{n:.2f}" for n in os.getloadavg()),
        }
    except (MissingWrkError, WrongAnswerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        text = f"`{about['command']}`\n\n" + "\n\n".join(tables) + "\n"
        (RESULTS / f"{options.save}.md").write_text(text)
        whole = json.dumps({**about, "pairs": results}, indent=2)
        (RESULTS / f"{options.save}.json").write_text(whole + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
