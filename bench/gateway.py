"""Measure our gateway in front of an upstream, beside nginx, a bare forwarder and a bare stdio relay, in one run.

The gateways stand on one core, the load and the upstreams on the other. Every pair of eras is measured:
same era, the bridge in both directions, and a process behind standard input and output. Rounds are
interleaved; ratios compare a server with nginx (or the relay) in the same round. Every answer is looked
at, and after each round the upstream's own count has to be the number of calls: one request each.

    python bench/gateway.py [--quick] [--save gateway] [--with PROXY] [PAIR …]

nginx comes from the distribution (`--install`, as root). `--with fastmcp` adds FastMCP's proxy in its
fastest documented form, one shared session to the upstream.
"""

import argparse
import http.client
import json
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

import settings
from calls import (
    FIRST_ID,
    WAIT_S,
    Answer,
    Era,
    Request,
    WrongAnswerError,
    build,
    check,
    open_session,
)
from load import SAMPLE_S, MissingWrkError, find_wrk, fire
from report import Measured
from run import LOAD_CORE, RESULTS, SERVER_CORE, say
from servers import HERE, Running, Spec, core_busy_s

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
    """One server of one pair, up and checked. `upstream` counts the calls that reach it, if it is HTTP."""

    name: str
    server: Running
    requests: list[Request]
    answer: Answer
    upstream: Running | None
    rounds: list[Measured] = field(default_factory=list)


def started(stack: ExitStack, spec: Spec, core: int) -> Running:
    """Start a server and wait until it listens.

    Raises:
        WrongAnswerError: it does not.
    """
    server = stack.enter_context(Running(spec, core))
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=1).connect()
        except OSError:
            time.sleep(0.05)
        else:
            return server
    raise WrongAnswerError(f"{spec.name} does not listen: {server.log_path.read_text()[-500:]}")


def upstream(stack: ExitStack, who: settings.Interpreters, era: Era) -> Running:
    """The echo server of an era, on the load's core."""
    script = str(HERE / "echo_upstream.py")
    command = (str(who.ours), script, "--era", era, "--port", "{port}")
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
    stack: ExitStack, who: settings.Interpreters, folder: Path, modern: Running, legacy: Running
) -> Running:
    """Our gateway with an endpoint for each upstream; nothing tuned."""
    document = folder / "waygate.yaml"
    document.write_text(
        DOCUMENT.format(
            modern=modern.target.port, legacy=legacy.target.port, python=who.ours, here=HERE
        )
    )
    spec = settings.waygate(who, str(document))
    server = started(stack, spec, SERVER_CORE)
    server.wait_until_right()
    return server


def proxy(stack: ExitStack, who: settings.Interpreters, name: str, to: Running) -> Running:
    """Another maker's gateway before the same upstream."""
    scripts = {"fastmcp": "fastmcp_proxy.py"}
    url = f"http://127.0.0.1:{to.target.port}/mcp"
    command = (str(who.peers), str(HERE / scripts[name]), "--port", "{port}", "--to", url)
    return started(stack, Spec(name, command), SERVER_CORE)


def contender(
    name: str, server: Running, pair: str, path: str, sessions: int, to: Running | None
) -> Contender:
    """Point at a path of a server, open its sessions, and check one answer."""
    era, _ = PAIRS[pair]
    target = server.target
    place = type(target)(target.port, path, "echo", target.key)
    names = [""]
    if era == "legacy":
        is_open = name not in ("nginx", "forwarder")  # those pass on what the upstream ignores
        names = [open_session(place) for _ in range(sessions)] if is_open else ["bench-session"]
    requests = [build(place, era, "tools/call", one) for one in names]
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            answer = check(place, requests[0], "tools/call", FIRST_ID)
            break
        except WrongAnswerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    moved = Running(server.spec, None)
    moved.__dict__.update(server.__dict__)  # the same process, another path of it
    moved.target = place
    return Contender(name, moved, requests, answer, to)


def count(server: Running) -> int:
    """How many calls an upstream has answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=WAIT_S)
    try:
        connection.request("GET", "/count")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def measure(one: Contender, number: int, seconds: float, connections: int) -> Measured:
    """One round, with the upstream's count before and after.

    Raises:
        WrongAnswerError: an answer was wrong, or calls and upstream requests are not the same number.
    """
    before = count(one.upstream) if one.upstream is not None else 0
    load_average, cpu, busy = os.getloadavg()[0], one.server.cpu_s(), core_busy_s(SERVER_CORE)
    try:
        seen = fire(
            one.server.target, one.requests, one.answer,
            number=number, seconds=seconds, core=LOAD_CORE, connections=connections,
        )  # fmt: skip
    except WrongAnswerError as wrong:
        said = one.server.log_path.read_text(errors="replace")[-1500:]
        raise WrongAnswerError(f"{one.name}: {wrong}; it said:\n{said}") from wrong
    measured = Measured(
        seen, one.server.cpu_s() - cpu, core_busy_s(SERVER_CORE) - busy, load_average
    )
    if one.upstream is not None:
        time.sleep(0.2)
        asked = count(one.upstream) - before
        # What was under way when the load stopped reached the upstream and is in nobody's figures.
        looks = int(seconds / SAMPLE_S) + 2  # answers the bench itself compares meanwhile
        if not seen.requests <= asked <= seen.requests + connections + looks:
            raise WrongAnswerError(
                f"{one.name}: {seen.requests} calls and {asked} requests of its upstream"
            )
    return measured


def run_pair(
    pair: str,
    servers: dict[str, list[tuple[str, Running, str, Running | None]]],
    options: argparse.Namespace,
) -> dict[str, object]:
    """Measure one pair of eras: throughput over many connections, latency over one."""
    ones = [
        contender(name, server, pair, path, options.sessions, to)
        for name, server, path, to in servers[pair]
    ]
    for one in ones:
        measure(one, 0, options.warm_s, 64)
    single: dict[str, list[float]] = {one.name: [] for one in ones}
    for number in range(1, options.rounds + 1):
        for one in ones:
            one.rounds.append(measure(one, 2 * number, options.round_s, 64))
            alone = measure(one, 2 * number + 1, min(options.round_s, 2), 1)
            single[one.name].append(alone.round.p50_us)
            m = one.rounds[-1]
            say(
                f"  {pair} {number}/{options.rounds} {one.name}: {m.round.per_second:,.0f}/s, "
                f"{m.cpu_us:.1f} µs CPU, core {m.core_share:.0%}, alone {single[one.name][-1]} µs, "
                f"load average {m.load_average:.1f}"
            )
    return summary(pair, ones, single)


def summary(pair: str, ones: list[Contender], single: dict[str, list[float]]) -> dict[str, object]:
    """Medians, and ratios to the first (nginx or the relay) round by round."""
    first = ones[0]
    rows = {}
    for one in ones:
        together = zip(one.rounds, first.rounds, strict=True)
        ratios = [
            (m.round.per_second / f.round.per_second, f.cpu_us / m.cpu_us) for m, f in together
        ]
        rows[one.name] = {
            "calls_per_s": median(m.round.per_second for m in one.rounds),
            "p99_ms": median(m.round.p99_us for m in one.rounds) / 1000,
            "cpu_us_per_call": median(m.cpu_us for m in one.rounds),
            "core_share": median(m.core_share for m in one.rounds),
            "of_first": median(ratio for ratio, _ in ratios),
            "by_cpu": median(ratio for _, ratio in ratios),
            "p50_alone_us": median(single[one.name]),
            "rss_mb": one.server.rss_mb(),
        }
    return {"pair": pair, "first": first.name, "servers": rows}


def table(found: dict[str, object]) -> str:
    """One pair as a Markdown table."""
    first = found["first"]
    lines = [
        f"{found['pair']}",
        "",
        f"| server | calls/s | of {first} | by CPU | CPU µs/call | p99 ms | p50 alone µs | RSS MB | core |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    rows = found["servers"]
    assert isinstance(rows, dict)
    for name, f in rows.items():
        lines.append(
            f"| {name} | {f['calls_per_s']:,.0f} | {f['of_first']:.0%} | {f['by_cpu']:.0%} | "
            f"{f['cpu_us_per_call']:.1f} | {f['p99_ms']:.1f} | {f['p50_alone_us']:.0f} | "
            f"{f['rss_mb']:.0f} | {f['core_share']:.0%} |"
        )
    return "\n".join(lines)


def start_all(
    stack: ExitStack, who: settings.Interpreters, options: argparse.Namespace
) -> dict[str, list[tuple[str, Running, str, Running | None]]]:
    """Start everything, and say who stands before what in each pair."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    modern, legacy = upstream(stack, who, "modern"), upstream(stack, who, "legacy")
    fronts = {
        "modern": [("nginx", nginx(stack, folder, modern), "/mcp", modern)],
        "legacy": [("nginx", nginx(stack, folder, legacy), "/mcp", legacy)],
    }
    for era, to in (("modern", modern), ("legacy", legacy)):
        bare = forwarder(stack, who, "--to", str(to.target.port))
        fronts[era].append(("forwarder", bare, "/mcp", to))
    child = [str(who.ours), str(HERE / "echo_upstream.py")]
    relay = forwarder(stack, who, "--stdio", *child)
    ours = waygate(stack, who, folder, modern, legacy)

    def mine(name: str, to: Running | None) -> tuple[str, Running, str, Running | None]:
        return ("waygate", ours, f"/servers/{name}/mcp", to)

    found = {
        "modern-modern": [*fronts["modern"], mine("modern", modern)],
        "legacy-legacy": [*fronts["legacy"], mine("legacy", legacy)],
        "modern-legacy": [*fronts["modern"], mine("legacy", legacy)],
        "legacy-modern": [*fronts["legacy"], mine("modern", modern)],
        "modern-stdio": [("relay", relay, "/mcp", None), mine("stdio", None)],
    }
    for name in options.proxies:
        found["modern-modern"].append((name, proxy(stack, who, name, modern), "/mcp", None))
    return found


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument("pairs", nargs="*", default=[*PAIRS], help=f"of: {', '.join(PAIRS)}")
    parser.add_argument("--with", dest="proxies", action="append", default=[], choices=["fastmcp"])
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--round-s", type=float, help="seconds of one round (8)")
    parser.add_argument("--warm-s", type=float, help="seconds of warm-up (3)")
    parser.add_argument("--sessions", type=int, default=64, help="legacy sessions, used in turn")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s, 1 s of warm-up")
    parser.add_argument("--save", default="", help="write results/NAME.json and .md")
    parser.add_argument("--install", action="store_true", help="install nginx and wrk first")
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
        subprocess.run(["apt-get", "install", "-y", "-qq", "nginx-light", "wrk"], check=True)
    tables, results = [], []
    try:
        find_wrk()
        os.sched_setaffinity(0, {LOAD_CORE})
        who = settings.interpreters(options)
        with ExitStack() as stack:
            servers = start_all(stack, who, options)
            for pair in options.pairs:
                results.append(run_pair(pair, servers, options))
                tables.append(table(results[-1]))
                print(tables[-1] + "\n", flush=True)
        about = {
            "command": "python bench/gateway.py " + " ".join(sys.argv[1:]),
            "machine": settings.describe(who),
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
