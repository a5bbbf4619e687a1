#!/usr/bin/env bash
# Builds the image, boots docker-compose.yml as it is, calls a tool in it with the official SDK's client, and looks at
# what the container may do. Everything it makes is gone afterwards, caches aside.
#
#   scripts/test-container.sh         exit 0: all is well · 1: a check failed · 77: skipped, no engine can run here
#
# Needs .venv of the development lock file (scripts/test.sh --setup) and Docker with Compose v2. On a Debian machine,
# as root, an engine is installed and started by itself where none answers (scripts/lib/container-engine.sh).

# shellcheck disable=SC2016 # what stands in single quotes is for the container's shell and the engine's templates
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib/container-engine.sh
. scripts/lib/container-engine.sh

readonly healthy_within_s=60 stopped_within_s=20 restarted_within_s=15
readonly python=.venv/bin/python
folder='' # set once there is something to clean up

say() { printf '%s\n' "==> $*"; }
good() { printf '    ok  %s\n' "$*"; }
fail() {
  printf 'test-container.sh: FAILED: %s\n' "$*" >&2
  exit 1
}
skip() {
  printf '\n########\ntest-container.sh: SKIPPED, NOTHING WAS TESTED: %s\n########\n\n' "$*" >&2
  exit 77
}
require() { # require WHAT WANTED SEEN
  [ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
  good "$1: ${3:-nothing}"
}

now() { "$python" -c 'import time; print(time.monotonic())'; }
since() { "$python" -c 'import sys, time; print(f"{time.monotonic() - float(sys.argv[1]):.1f}")' "$1"; }

compose() { docker compose --file docker-compose.yml "$@"; }
inside() { docker exec "$container" "$@"; }
inspect() { docker inspect --format "$1" "$container"; }
probe() { "$python" scripts/lib/container_probe.py "$@"; }

clean_up() {
  local code=$?
  trap - EXIT
  set +e # what cannot be cleaned up must not keep the rest from it
  if [ -n "$folder" ]; then
    case $code in 0 | 77) ;; *) compose logs --tail 40 >&2 ;; esac
    compose down --volumes --timeout 10 >"$folder/down.log" 2>&1 || cat "$folder/down.log" >&2
    docker rm --force --volumes "$COMPOSE_PROJECT_NAME-killer" >/dev/null 2>&1
    docker image rm "$CONTAINER_IMAGE" >/dev/null 2>&1 # its layers stay in the build's cache
    rm -rf "$folder"
  fi
  engine_close || code=1
  exit "$code"
}

# A project of its own on a free port, so that a gateway that runs here is not disturbed.
prepare() {
  folder=$(mktemp -d "${TMPDIR:-/tmp}/waygate-container.XXXXXX")
  export COMPOSE_PROJECT_NAME=waygate-test-$$ CONTAINER_IMAGE=waygate-mcp:test-$$ CONTAINER_DIR=$folder
  WAYGATE_PORT=$("$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export WAYGATE_PORT
  url=http://127.0.0.1:$WAYGATE_PORT
  # The network of the file, unless something of this machine has it already.
  CONTAINER_SUBNET=$(engine_subnet)
  export CONTAINER_SUBNET
  if [ "$(docker info --format '{{.NCPU}}')" = 1 ]; then export CONTAINER_CPUS=1; fi
  # The folder is closed to others (mktemp); the files in it are open, because the container's user is another one.
  mkdir "$folder/config" "$folder/secrets"
  key_file=$folder/secrets/api_key
  "$python" -c 'import secrets; print(secrets.token_urlsafe(48))' >"$folder/secrets/secret_key"
  "$python" -c 'from waygate_mcp.auth.key_text import make_key; print(make_key())' >"$key_file"
  chmod 755 "$folder/config" "$folder/secrets"
  chmod 444 "$folder"/secrets/*
}

build() {
  local began
  say "building the image on $engine_base_image"
  began=$(now)
  engine_build "$CONTAINER_IMAGE" >"$folder/build.log" 2>&1 || {
    tail -n 30 "$folder/build.log" >&2
    fail "the image could not be built"
  }
  built_s=$(since "$began")
  size_mb=$(($(docker image inspect --format '{{.Size}}' "$CONTAINER_IMAGE") / 1000000))
  good "built in $built_s s, $size_mb MB"
}

boot() {
  local began
  say "booting docker-compose.yml on 127.0.0.1:$WAYGATE_PORT"
  began=$(now)
  compose up --detach --no-build >"$folder/up.log" 2>&1 || {
    cat "$folder/up.log" >&2
    fail "docker compose up"
  }
  container=$(compose ps --quiet waygate)
  [ -n "$container" ] || fail "no container was started"
  probe wait "$url/ready" "$healthy_within_s" || fail "not ready within $healthy_within_s s"
  ready_s=$(since "$began")
  local _
  for _ in $(seq 1 $((healthy_within_s * 5))); do
    [ "$(inspect '{{.State.Health.Status}}')" = starting ] || break
    sleep 0.2
  done
  require "the engine's own check" healthy "$(inspect '{{.State.Health.Status}}')"
  healthy_s=$(since "$began")
  good "ready after $ready_s s, said to be healthy after $healthy_s s"
}

check_calls() {
  local answers
  say "calling through the published port"
  require "status of a call without a key" 401 "$(probe call "$url/mcp")"
  answers=$("$python" scripts/lib/container_greet.py "$url/mcp" "$key_file") || fail "the SDK's client"
  require "greet, legacy era" "2025-11-25: Hello, container!" "$(sed -n 1p <<<"$answers")"
  require "greet, modern era" "2026-07-28: Hello, container!" "$(sed -n 2p <<<"$answers")"
  require "status of /docs, closed in production" 401 "$(probe status "$url/docs")"
}

check_image() {
  local found
  say "what is in the image"
  require "user" 1000:1000 "$(docker image inspect --format '{{.Config.User}}' "$CONTAINER_IMAGE")"
  require "its shell" /usr/sbin/nologin "$(inside sh -c 'grep ^waygate: /etc/passwd | cut -d : -f 7')"
  # `sh` is among them to show that what is there is found.
  found=$(inside sh -c 'for one in cc gcc g++ make ld pip pip3 uv curl wget git sh; do command -v $one; done')
  require "programs of a list of tools that are there" /usr/bin/sh "$(xargs <<<"$found")"
  require "pip as a module" absent "$(inside python3 -I -c 'from importlib.util import find_spec; print("there" if find_spec("pip") or find_spec("ensurepip") else "absent")')"
  require "set-uid files" 0 "$(inside sh -c 'find / -xdev -type f -perm /6000 2>/dev/null | wc -l')"
  require "version of its label" "$(inside waygate --version | grep -oE '[0-9]+\.[0-9.]+')" \
    "$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "$CONTAINER_IMAGE")"
}

check_confinement() {
  local bits
  say "what the container may do"
  require "user that runs" "1000 1000" "$(inside sh -c 'awk "/^[UG]id:/ { printf \"%s%s\", gap, \$2; gap = \" \" }" /proc/1/status')"
  bits=$(inside sh -c 'awk "/^Cap(Prm|Eff|Bnd|Amb):/ { print \$2 }" /proc/1/status | sort -u')
  require "capabilities" 0000000000000000 "$bits"
  require "no new privileges" 1 "$(inside sh -c 'awk "/^NoNewPrivs:/ { print \$2 }" /proc/1/status')"
  require "system call filter" 2 "$(inside sh -c 'awk "/^Seccomp:/ { print \$2 }" /proc/1/status')"
  require "privileged" false "$(inspect '{{.HostConfig.Privileged}}')"
  require "processes" 512 "$(inspect '{{.HostConfig.PidsLimit}}')"
  require "memory, and memory with swap" "1073741824 1073741824" "$(inspect '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}')"
  require "CPUs, in billionths" "${CONTAINER_CPUS:-2}000000000" "$(inspect '{{.HostConfig.NanoCpus}}')"
  require "mounts" "/app/config /app/data /app/logs /run/secrets/waygate_api_key /run/secrets/waygate_secret_key" \
    "$(inspect '{{range .Mounts}}{{println .Destination}}{{end}}' | sort | xargs)"
  require "network" "$CONTAINER_SUBNET" \
    "$(docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' "${COMPOSE_PROJECT_NAME}_gateway")"
}

check_files() {
  local folder_in
  say "where it can write"
  for folder_in in /app/data /app/logs /app/tmp; do
    inside sh -c "echo x >$folder_in/.probe && rm $folder_in/.probe" || fail "$folder_in is not writable"
    good "$folder_in is writable"
  done
  for folder_in in / /app /app/config /opt/waygate /etc /tmp /var/tmp /run /run/secrets /dev/shm /usr/bin; do
    ! inside sh -c "echo x >$folder_in/.probe" 2>/dev/null || fail "$folder_in can be written"
  done
  require "the root" true "$(inspect '{{.HostConfig.ReadonlyRootfs}}')"
  # As root, whom file modes do not stop: only the read-only mounts and the missing capabilities do.
  ! docker exec --user 0 "$container" sh -c 'echo x >/etc/.probe' 2>/dev/null || fail "root can write /etc"
  require "folders anybody could write, devices aside" "/app/data /app/logs /app/tmp" \
    "$(inside sh -c 'find / -type d -writable ! -path "/proc/*" ! -path "/dev/*" ! -path "/app/data/*" ! -path "/app/logs/*" 2>/dev/null | sort | xargs')"
  ! inside sh -c 'cp /bin/true /app/tmp/.probe && /app/tmp/.probe' 2>/dev/null || fail "/app/tmp can hold programs"
  inside rm -f /app/tmp/.probe
  good "a program in /app/tmp does not start"
}

check_publishing() {
  say "who can reach it"
  require "published on" "127.0.0.1:$WAYGATE_PORT" "$(compose port waygate 8000)"
  require "all that is published" "8000/tcp=127.0.0.1:$WAYGATE_PORT" \
    "$(inspect '{{range $port, $to := .NetworkSettings.Ports}}{{range $to}}{{$port}}={{.HostIp}}:{{.HostPort}}{{end}}{{end}}')"
  require "the port on this machine's other addresses" closed "$(probe addresses "$WAYGATE_PORT")"
}

check_logs() {
  say "what was logged"
  compose logs --no-color >"$folder/console.log" 2>&1
  inside sh -c 'cat /app/logs/*' >"$folder/files.log"
  local log secret
  for log in console files; do
    grep -q '"rpc_method":"tools/call"' "$folder/$log.log" || fail "the calls are not in the $log log"
    for secret in api_key secret_key; do
      ! grep -qF -f "$folder/secrets/$secret" "$folder/$log.log" || fail "the $secret stands in the $log log"
    done
    good "the $log log has the calls, and no key"
  done
  ! inspect '{{json .Config.Env}}' | grep -qF -f "$key_file" || fail "the key is in the container's environment"
  ! docker history --no-trunc "$CONTAINER_IMAGE" | grep -qF -f "$key_file" || fail "the key is in the image"
  good "the key is neither in the environment nor in the image"
}

# The engine's own `kill` counts as a wish of the operator, after which it restarts nothing. So the process is killed
# from outside the engine's knowledge: by a process of the same user that sees the machine's processes.
check_restart() {
  local began pid started _
  say "reloading it, then killing the process"
  # From inside: the engine's own `kill --signal HUP` would count as a wish to end it as well.
  inside sh -c 'kill -HUP 1'
  for _ in $(seq 1 50); do
    ! inside grep -q '"event":"reloaded"' /app/logs/waygate.log || break
    sleep 0.2
  done
  require "reloads logged" 1 "$(inside grep -c '"event":"reloaded"' /app/logs/waygate.log)"
  pid=$(inspect '{{.State.Pid}}')
  started=$(inspect '{{.State.StartedAt}}')
  docker create --pid host --network none --user 1000:1000 --cap-drop ALL --name "$COMPOSE_PROJECT_NAME-killer" \
    --entrypoint sh "$CONTAINER_IMAGE" -c "kill -9 $pid" >/dev/null
  began=$(now)
  docker start --attach "$COMPOSE_PROJECT_NAME-killer" || fail "the process could not be killed"
  docker rm --volumes "$COMPOSE_PROJECT_NAME-killer" >/dev/null
  probe wait "$url/ready" "$restarted_within_s" || fail "not back within $restarted_within_s s"
  restarted_s=$(since "$began")
  require "restarts" 1 "$(inspect '{{.RestartCount}}')"
  [ "$started" != "$(inspect '{{.State.StartedAt}}')" ] || fail "it was never gone"
  "$python" scripts/lib/container_greet.py "$url/mcp" "$key_file" >/dev/null || fail "no call after the restart"
  good "serving again after $restarted_s s, with the same key"
}

check_stop() {
  local began
  say "stopping it"
  began=$(now)
  compose stop >"$folder/stop.log" 2>&1 || fail "docker compose stop"
  stopped_s=$(since "$began")
  require "state and exit code" "exited 0" "$(inspect '{{.State.Status}} {{.State.ExitCode}}')"
  require "killed for want of memory" false "$(inspect '{{.State.OOMKilled}}')"
  "$python" -c 'import sys; sys.exit(float(sys.argv[1]) > float(sys.argv[2]))' "$stopped_s" "$stopped_within_s" ||
    fail "it took $stopped_s s, more than $stopped_within_s"
  good "stopped in $stopped_s s"
}

# What README.md says: one command to the same stack. Its check is a project of its own and leaves nothing behind.
check_quickstart() {
  local began
  say "./quickstart.sh --docker --check"
  compose down --volumes --timeout 10 >"$folder/down.log" 2>&1 || fail "docker compose down"
  began=$(now)
  CONTAINER_BASE=$engine_base_image timeout 300 ./quickstart.sh --docker --check >"$folder/quickstart.log" 2>&1 || {
    tail -n 30 "$folder/quickstart.log" >&2
    fail "quickstart.sh"
  }
  require "a tool answers" 1 "$(grep -c 'ok  the tool greet answers' "$folder/quickstart.log")"
  require "what it leaves behind" "" "$(docker ps --all --quiet --filter label=com.docker.compose.project --filter name=waygate-check)"
  good "done in $(since "$began") s"
}

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *)
    echo "test-container.sh: it takes no arguments" >&2
    exit 2
    ;;
esac
"$python" -c 'import mcp' 2>/dev/null || fail "no .venv with the official SDK; run scripts/test.sh --setup"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
engine_open || skip "$engine_reason"
engine_base || skip "$engine_reason"
prepare
build
boot
check_calls
check_image
check_confinement
check_files
check_publishing
check_logs
check_restart
check_stop
check_quickstart
printf '\nwell: image %s MB, built in %s s, ready in %s s, healthy in %s s, back after a kill in %s s, stopped in %s s\n' \
  "$size_mb" "$built_s" "$ready_s" "$healthy_s" "$restarted_s" "$stopped_s"
