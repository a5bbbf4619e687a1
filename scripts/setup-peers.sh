#!/usr/bin/env bash
# Fetches the foreign programs that tests/conformance and tests/integration/peers run, into .peers/ of this repository.
#
#   scripts/setup-peers.sh           install what is missing or out of date; quick when there is nothing to do
#   scripts/setup-peers.sh --lock    write tests/peers/*'s lock files anew from the pins beside them
#
# What it puts there: the official conformance suite and the TypeScript SDK (current and 1.x), three reference
# servers, the last 1.x release of the Python SDK in an environment of its own, and a Node that is new enough where the
# machine's is not.
# Every file is pinned by a hash; the lock files name no host, so each machine fetches from its configured registries.
# The machine itself is left alone, except that npm is installed where it is missing on a Debian system run by root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly peers=.peers
readonly pins=tests/peers
readonly wanted_node=22 # the conformance suite dies at import on an older one
readonly npm_options=(--omit-lockfile-registry-resolved=true --no-audit --no-fund --no-update-notifier --loglevel=error)

say() { printf 'setup-peers: %s\n' "$*"; }
fail() {
  printf 'setup-peers: %s\n' "$*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in .venv/bin/python python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is missing"
}

find_uv() { # prints nothing where there is none: pip does then
  if [ -x .venv/bin/uv ]; then echo .venv/bin/uv; else command -v uv || true; fi
}

ensure_npm() {
  if command -v npm >/dev/null && command -v node >/dev/null; then return; fi
  if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
    say "installing npm and nodejs from Debian"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm; } \
      >/dev/null || fail "apt-get could not install npm and nodejs"
    return
  fi
  fail "npm is missing: install Node $wanted_node or newer with npm (or run this as root on Debian), then run it again"
}

install_node() { # leaves .peers/bin/node, at least version $wanted_node
  local own
  mkdir -p "$peers/bin"
  if own=$(command -v node) && [ "$(node -p 'parseInt(process.versions.node)')" -ge "$wanted_node" ]; then
    ln -sf "$own" "$peers/bin/node"
    return
  fi
  say "fetching a Node of its own (the machine has $(node --version), $wanted_node or newer is needed)"
  mkdir -p "$peers/node"
  cp "$pins"/node/package*.json "$peers/node/"
  npm ci --prefix "$peers/node" "${npm_options[@]}" >/dev/null
  own=$(find "$peers/node/node_modules" -path '*/bin/node' -type f | head -n 1)
  [ -n "$own" ] || fail "no Node is packaged for $(uname -sm): install Node $wanted_node or newer, then run this again"
  ln -sf "../${own#"$peers/"}" "$peers/bin/node"
}

install_npm_peers() {
  say "fetching the conformance suite, the TypeScript SDK and the reference servers"
  mkdir -p "$peers/npm"
  cp "$pins"/npm/package*.json "$peers/npm/"
  # No package of these needs an install script, so none may run.
  PATH="$PWD/$peers/bin:$PATH" npm ci --prefix "$peers/npm" --ignore-scripts "${npm_options[@]}" >/dev/null
}

install_python_peers() { # $1: python, $2: uv or nothing
  say "fetching the old Python SDK"
  rm -rf "$peers/sdk1"
  if [ -n "$2" ]; then
    "$2" venv --quiet --no-project --python "$1" "$peers/sdk1"
    "$2" pip install --quiet --python "$peers/sdk1/bin/python" --require-hashes -r "$pins/sdk1/requirements.lock"
  else
    "$1" -m venv "$peers/sdk1" || fail "python's venv module is missing (Debian: apt-get install python3-venv)"
    "$peers/sdk1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
      -r "$pins/sdk1/requirements.lock"
  fi
}

write_locks() { # $1: uv
  [ -n "$1" ] || fail "uv is needed to write lock files"
  "$1" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-annotate --no-config --custom-compile-command 'scripts/setup-peers.sh --lock' \
    "$pins/sdk1/requirements.in" --output-file "$pins/sdk1/requirements.lock"
  local folder
  for folder in node npm; do
    npm install --prefix "$pins/$folder" --package-lock-only "${npm_options[@]}" >/dev/null
  done
  # "funding" entries are links for people; anything else that names a host would be a registry.
  if grep -nE 'https?://|"resolved"' "$pins"/*/package-lock.json "$pins/sdk1/requirements.lock" | grep -v '"url": '; then
    fail "a lock file names a host (lines above); it must not"
  fi
}

python=$(find_python)
uv=$(find_uv)
if [ "${1:-}" = --lock ]; then
  ensure_npm
  write_locks "$uv"
  exit
fi

# The stamp is what the installed state was made from: the pins, this script, the interpreter.
wanted=$("$python" - "$pins"/*/package*.json "$pins/sdk1/requirements.lock" scripts/setup-peers.sh <<'PY'
import hashlib, pathlib, sys

digest = hashlib.sha256(sys.version.encode())
for name in sys.argv[1:]:
    digest.update(pathlib.Path(name).read_bytes())
print(digest.hexdigest())
PY
)
if [ "$(cat "$peers/stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$peers/bin/node" ] && [ -x "$peers/sdk1/bin/python" ]; then
  exit
fi

ensure_npm
rm -rf "$peers"
mkdir -p "$peers"
install_node
install_npm_peers
install_python_peers "$python" "$uv"
echo "$wanted" >"$peers/stamp"
say "done: $("$peers/bin/node" --version) of Node, $(du -sh "$peers" | cut -f1) in $peers/"
