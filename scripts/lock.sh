#!/usr/bin/env bash
# Writes requirements/*.lock anew: every version pinned, every file hashed, no host named.
#
#   scripts/lock.sh              keep the locked versions, add or drop what pyproject.toml changed
#   scripts/lock.sh --upgrade    take the newest versions that fit
#
# The lock files are universal: one set of pins for Python 3.11 to 3.14, Linux and macOS. They name no index, so each
# machine fetches from the one it is configured for. docs/decisions/0001-*.md has the reasons.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=.venv/bin/uv
[ -x "$uv" ] || uv=$(command -v uv) || {
  echo "lock.sh: uv is missing; make the environment first: make setup" >&2
  exit 1
}

compile() {
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command scripts/lock.sh "$@"
}

compile pyproject.toml --output-file requirements/runtime.lock "${@}"
compile --group pyproject.toml:build --constraints requirements/runtime.lock --output-file requirements/build.lock "${@}"
compile pyproject.toml --group pyproject.toml:dev --constraints requirements/runtime.lock \
  --constraints requirements/build.lock --output-file requirements/dev.lock "${@}"

if grep -nE 'https?://|--(extra-)?index|--find-links|file:' requirements/*.lock; then
  echo "lock.sh: a lock file names a host (lines above); it must not" >&2
  exit 1
fi
