#!/usr/bin/env bash
# Feeds the protocol and the whole application mutated input, for as long as you like.
#
#   scripts/fuzz.sh                             every target in turn, 60 s
#   scripts/fuzz.sh --seconds 36000             a night
#   scripts/fuzz.sh --target app --seed 7       one target; a seed repeats a run
#   scripts/fuzz.sh --atheris --target post     coverage-guided, where atheris is installed
#
# An input that breaks something is written to tests/fuzz/crashes, and the tests run it from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/environment.sh
. scripts/lib/environment.sh

case "${1:-}" in
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

make_environment dev
if [ "${1:-}" = --atheris ]; then
  shift
  exec .venv/bin/python -m tests.fuzz.guided "$@"
fi
exec .venv/bin/python -m tests.fuzz "$@"
