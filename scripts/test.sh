#!/usr/bin/env bash
# Fresh clone to verdict: makes the environment, then every check and the whole suite.
#
#   scripts/test.sh           everything; CI runs exactly this
#   scripts/test.sh --fast    lint, types, unit and architecture tests only; nothing but the package index is needed
#   scripts/test.sh --setup   makes the environment and stops
#   scripts/test.sh … ARGS    further arguments go to pytest
#
# The last line of the output is pytest's own summary.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/lib/environment.sh
. scripts/lib/servers.sh

mode=all
case "${1:-}" in
  --fast | --setup) mode=${1#--}; shift ;;
  -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

# Nothing of the caller's gateway may leak into the tests, and no test may wait for a person.
for name in $(env | sed -n 's/^\(WAYGATE_[A-Z_]*\)=.*/\1/p'); do
  case "$name" in WAYGATE_NO_UV | WAYGATE_FUZZ_SECONDS) ;; *) unset "$name" ;; esac
done
exec </dev/null
# What was compiled once is not compiled again by each of hundreds of programs.
unset PYTHONDONTWRITEBYTECODE

make_environment dev
[ "$mode" != setup ] || exit 0
PATH="$PWD/.venv/bin:$PATH"
export PATH

check() { # check WHAT COMMAND…: one line when well, the command's own words when not
  say "$1"
  shift
  "$@" || die "failed: $*"
}

# What only the whole suite needs is made while the checks run; its words come when it is waited for: the tests read
# and compiled once (each process of pytest would do that for itself), and programs from elsewhere.
if [ "$mode" = all ]; then
  read_out=$(mktemp) fetched=$(mktemp)
  trap 'wait; rm -f "$read_out" "$fetched"' EXIT
  python -m pytest tests --collect-only --quiet >"$read_out" 2>&1 &
  reading=$!
  {
    ./scripts/setup-peers.sh
    want_server '/usr/lib/postgresql/*/bin/initdb' postgresql PostgreSQL
    want_server '/usr/bin/redis-server' redis-server Redis
  } >"$fetched" 2>&1 &
  fetching=$!
fi

check "ruff: rules" ruff check --quiet .
check "ruff: format" ruff format --quiet --check .
check "mypy: types of src and tests" mypy --no-error-summary
check "import-linter: layers" lint-imports --no-logo
if command -v shellcheck >/dev/null 2>&1; then
  find . -type d \( -name '.?*' -o -name node_modules \) ! -name .ci -prune -o -type f \( -name '*.sh' -o -path ./.ci/run \) -print0 |
    check "shellcheck: scripts" xargs -0 shellcheck --external-sources
else
  say "shellcheck: not installed, skipped"
fi

if [ "$mode" = fast ]; then
  say "pytest: unit and architecture tests"
  exec python -m pytest tests/unit tests/architecture "$@"
fi

awaited() { # awaited WHAT PID FILE: what a part made in the background came to
  wait "$2" || { tail -n 40 "$3" >&2; die "failed: $1 (lines above)"; }
}
say "pytest: the tests are read"
awaited "the tests cannot be read" "$reading" "$read_out"
say "peers and servers: foreign clients, the conformance suite, PostgreSQL, Redis"
awaited "they could not be fetched" "$fetching" "$fetched"
cat "$fetched"
rm -f "$read_out" "$fetched"

say "pytest: the whole suite, with branch coverage"
rm -f .coverage .coverage.*
# Two processes for each core, since tests wait for servers more than they work. What runs in the processes
# of the tests is measured; programs they start run as they do for users, and a quarter faster.
processes=$(($(getconf _NPROCESSORS_ONLN) * 2))
# A file's tests stay in one process, because they share the servers they start.
exec python -m pytest tests --numprocesses "$processes" --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report= --coverage-limits "$@"
