"""Measure our gateway against the raw floor, the official SDK's server and FastMCP's, in one run.

Each scenario starts its servers on one core, checks that each answers rightly, warms it up, and
then loads them from the other core in interleaved rounds (A B C D, A B C D, …), so that a noisy
machine disturbs all alike. Any wrong answer ends the run: a fast wrong server has no figure.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import report
import settings
from books import check_books
from calls import (
    FIRST_ID,
    Answer,
    Era,
    Method,
    Request,
    WrongAnswerError,
    build,
    check,
    open_session,
    tool_count,
)
from load import MissingWrkError, find_wrk, fire
from servers import HERE, Running, Spec, core_busy_s

RESULTS = HERE / "results"
SERVER_CORE, LOAD_CORE = 0, 1
SETTLE_S = 2.0
USUAL, KEYS = "waygate.yaml", "waygate-keys.yaml"
THOUSAND, TWENTY = "waygate-thousand.yaml", "waygate-twenty.yaml"
NO_JOURNAL = "with key check, validation, metrics and request log"


@dataclass(frozen=True)
class Plan:
    """One scenario before it is measured."""

    name: str
    title: str
    era: Era
    method: Method
    document: str
    is_policy: bool = False


PLANS = {
    plan.name: plan
    for plan in (
        Plan("modern", f"tools/call, 2026-07-28, {NO_JOURNAL}", "modern", "tools/call", KEYS),
        Plan(
            "legacy",
            f"tools/call, 2025-11-25, in sessions, {NO_JOURNAL}",
            "legacy",
            "tools/call",
            KEYS,
        ),
        Plan("shipped", "tools/call, 2026-07-28, journal and all", "modern", "tools/call", USUAL),
        Plan(
            "modern-list",
            "tools/list of 1,000 tools, 2026-07-28",
            "modern",
            "tools/list",
            THOUSAND,
        ),
        Plan(
            "legacy-list",
            "tools/list of 1,000 tools, 2025-11-25, in sessions",
            "legacy",
            "tools/list",
            THOUSAND,
        ),
        Plan(
            "twenty-list",
            "tools/list of 1,000 tools from 20 upstreams, 2025-11-25, in sessions",
            "legacy",
            "tools/list",
            TWENTY,
        ),
        Plan(
            "policy",
            "tools/call, 2026-07-28, with key, roles, limits and audit journal; "
            "the floor is the same server without them",
            "modern",
            "tools/call",
            USUAL,
            is_policy=True,
        ),
    )
}


@dataclass
class Contender:
    """One server, up and checked, with its requests."""

    server: Running
    requests: list[Request]
    answer: Answer
    entry: report.Entry


def gateway_of(plan: Plan, who: settings.Interpreters) -> Spec:
    """Our gateway with the document of a scenario."""
    tools = 1_000 if plan.method == "tools/list" else 1
    tool = "u01__echo" if plan.document == TWENTY else "echo"
    return settings.waygate(who, plan.document, tool=tool, tools=tools)


def specs(
    plan: Plan, who: settings.Interpreters, answer: Path | None, only: list[str]
) -> list[Spec]:
    """The servers of a scenario, the floor first. The SDKs have no part in the long lists."""
    found = [settings.open_waygate(who) if plan.is_policy else settings.floor(who, answer)]
    found.append(gateway_of(plan, who))
    if plan.method == "tools/call" and not plan.is_policy:
        found += settings.peers(who)
    return [spec for spec in found if not only or spec.name in only]


def prepare(server: Running, plan: Plan, sessions: int) -> Contender:
    """Wait for the server, note its idle memory, open its sessions, check one answer of each kind."""
    server.wait_until_right(plan.method)
    entry = report.Entry(server.spec.name, [], server.rss_mb())
    names = [""]
    if plan.era == "legacy" and server.spec.name != "floor":
        names = [open_session(server.target) for _ in range(sessions)]
    elif plan.era == "legacy":
        names = ["0" * 32 + f"{n:04d}" for n in range(sessions)]  # the floor reads none of it
    requests = [build(server.target, plan.era, plan.method, name) for name in names]
    answer = check(server.target, requests[0], plan.method, FIRST_ID)
    return Contender(server, requests, answer, entry)


def fetch_answer(plan: Plan, who: settings.Interpreters, folder: Path) -> Path | None:
    """What our gateway answers in this scenario, for the floor to send: the same bytes."""
    with Running(gateway_of(plan, who), SERVER_CORE) as server:
        server.wait_until_right()
        server.wait_until_right(plan.method)
        session = open_session(server.target) if plan.era == "legacy" else ""
        request = build(server.target, plan.era, plan.method, session)
        if plan.method == "tools/list" and (count := tool_count(server.target, request)) < 1000:
            raise WrongAnswerError(f"tools/list answers {count} tools, not 1,000")
        answer = check(server.target, request, plan.method, FIRST_ID)
    path = folder / f"{plan.name}.answer"
    path.write_bytes(answer.before_id + b"\0" + answer.after_id)
    return path


def measure(one: Contender, number: int, seconds: int) -> report.Measured:
    """One round of one server."""
    load_average = os.getloadavg()[0]
    cpu, busy = one.server.cpu_s(), core_busy_s(SERVER_CORE)
    seen = fire(
        one.server.target, one.requests, one.answer, number=number, seconds=seconds, core=LOAD_CORE
    )
    return report.Measured(
        seen, one.server.cpu_s() - cpu, core_busy_s(SERVER_CORE) - busy, load_average
    )


def run_scenario(
    plan: Plan, who: settings.Interpreters, options: argparse.Namespace
) -> report.Scenario:
    """Start, check, warm up, measure in interleaved rounds, check again."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        answer = None
        if not options.only or "waygate" in options.only:
            answer = fetch_answer(plan, who, folder)
        contenders = []
        for spec in specs(plan, who, answer, options.only):
            server = stack.enter_context(Running(spec, SERVER_CORE))
            contenders.append(prepare(server, plan, options.sessions))
        warm = {one.entry.server: measure(one, 0, options.warm_s) for one in contenders}
        for number in range(1, options.rounds + 1):
            for one in contenders:
                one.entry.rounds.append(measure(one, number, options.round_s))
                m = one.entry.rounds[-1]
                say(
                    f"  {plan.name} {number}/{options.rounds} {one.entry.server}: "
                    f"{m.round.per_second:,.0f}/s, {m.cpu_us:.1f} µs CPU, core {m.core_share:.0%}, "
                    f"load average {m.load_average:.1f}"
                )
        for one in contenders:
            one.entry.rss_after_mb = one.server.rss_mb()
            check(one.server.target, one.requests[0], plan.method, FIRST_ID - 1)
        sizes = {one.entry.server: one.answer.size_bytes for one in contenders}
        entries = [one.entry for one in contenders]
        scenario = report.Scenario(plan.name, plan.title, entries, sizes)
        for one in contenders:
            if one.entry.server == "waygate":
                done = [warm["waygate"], *one.entry.rounds]
                total = sum(each.round.requests for each in done)
                scenario.notes.append(check_books(one.server, total))
        return scenario


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def install() -> None:
    """wrk from the distribution, the peers from their index, pinned, into bench/.venv."""
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(HERE / ".venv")], check=True)
    pip = [str(HERE / ".venv/bin/python"), "-m", "pip", "install", "-q", "-r"]
    subprocess.run([*pip, str(HERE / "requirements.txt")], check=True)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    settings.add_interpreter_options(parser)
    parser.add_argument("scenarios", nargs="*", default=[*PLANS], help=f"of: {', '.join(PLANS)}")
    parser.add_argument("--only", action="append", default=[], help="only this server (repeatable)")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--round-s", type=int, help="seconds of one round (10)")
    parser.add_argument("--warm-s", type=int, help="seconds of warm-up (3)")
    parser.add_argument("--sessions", type=int, default=64, help="legacy sessions, used in turn")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s, 1 s of warm-up")
    parser.add_argument("--save", default="", help="write results/NAME.json and .md")
    parser.add_argument("--install", action="store_true", help="install wrk and the peers first")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(PLANS):
        parser.error(
            f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(PLANS)}"
        )
    rounds, round_s, warm_s = (3, 2, 1) if options.quick else (5, 10, 3)
    options.rounds = options.rounds or rounds
    options.round_s = options.round_s or round_s
    options.warm_s = options.warm_s or warm_s
    return options


def main() -> int:
    """Run and print; exit 0, or 1 with one line when nothing could be measured."""
    options = parse()
    if options.install:
        install()
    try:
        find_wrk()
        os.sched_setaffinity(0, {LOAD_CORE})  # the bench itself stays off the servers' core
        who = settings.interpreters(options)
        about: dict[str, object] = {
            "command": "python bench/run.py " + " ".join(sys.argv[1:]),
            "machine": settings.describe(who),
            "rounds": options.rounds,
            "round_s": options.round_s,
            "load_average": ", ".join(f"{n:.2f}" for n in os.getloadavg()),
        }
        say(f"load average: {about['load_average']}")
        scenarios = []
        for name in options.scenarios:
            scenarios.append(run_scenario(PLANS[name], who, options))
            print(report.table(scenarios[-1]) + "\n", flush=True)
    except (MissingWrkError, WrongAnswerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.save:
        report.save(scenarios, about, RESULTS, options.save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
