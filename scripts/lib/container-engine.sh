# shellcheck shell=bash
# Finds a container engine for the tests, or starts one where that is possible. For `.`-sourcing by bash scripts.
#
#   engine_open     0: `docker`, with Compose v2, reaches an engine. 1: none can run here, $engine_reason says why
#   engine_base     makes sure the base image is there and puts its name into $engine_base_image
#   engine_build T  builds the image T from the Dockerfile
#   engine_subnet   prints a subnet that no network of the engine overlaps: docker-compose.yml's own, where it is free
#   engine_close    ends what engine_open started, by its pid; an engine that was there before is left alone
#
# An engine that answers is used as it is. Only where there is none, and this is root on Debian with the rights it takes
# (so: a CI machine), one is installed and started: its state lies in $engine_dir and is kept for the next run, so that
# only the first one is slow. To be rid of it: rm -rf $engine_dir.
# Refuses to know what the image is for.

engine_dir=${ENGINE_DIR:-/var/cache/waygate-engine} # root's own; a short path, because a socket lies in it
engine_reason=''
engine_started=''
engine_base_image=debian:trixie-slim
readonly engine_suite=trixie
readonly engine_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

engine_say() { printf 'container-engine: %s\n' "$*" >&2; }

engine_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

engine_has_compose() { docker compose version --short 2>/dev/null | grep -qE '^v?([2-9]|[1-9][0-9])\.'; }

engine_open() {
  if command -v docker >/dev/null && engine_answers; then
    engine_has_compose && return
    if ! _engine_may_install; then
      engine_reason="docker has no Compose v2, and $engine_reason"
      return 1
    fi
    _engine_log _engine_fetch_plugins && engine_has_compose && return
    engine_reason="docker has no Compose v2 and it could not be fetched (see $engine_dir/log)"
    return 1
  fi
  _engine_may_install && _engine_may_start && _engine_start
}

engine_close() {
  [ -n "$engine_started" ] || return 0
  local _
  if ! kill "$engine_started" 2>/dev/null; then engine_say "the engine (pid $engine_started) had ended by itself"; fi
  for _ in $(seq 1 150); do
    [ -d "/proc/$engine_started" ] || break
    sleep 0.2
  done
  if [ -d "/proc/$engine_started" ]; then
    engine_reason="the engine that was started (pid $engine_started) does not end"
    engine_say "$engine_reason"
    return 1
  fi
  engine_started=''
}

engine_base() {
  local public=debian:$engine_suite-slim own=waygate-base:$engine_suite
  if _engine_has_image "$public" || { ! _engine_has_image "$own" && _engine_pull "$public"; }; then
    engine_base_image=$public
  else
    # No registry within reach. What the public image holds can be had from a Debian mirror as well; it gets a name of
    # its own, so that nobody takes it for the public one.
    engine_base_image=$own
    _engine_has_image "$own" || _engine_make_base || return 1
  fi
  if ! engine_output=$(timeout 60 docker run --rm --network none "$engine_base_image" true 2>&1); then
    engine_reason="the engine answers and cannot run a container: $(tail -n 1 <<<"$engine_output")"
    return 1
  fi
}

engine_build() {
  local options=(--build-arg "BASE=$engine_base_image" --tag "$1") bundle
  # Some networks answer with certificates of their own, some have a package index of their own; whoever sits in one
  # has told Python's tools so, and the build is told as quickstart.sh --docker tells it.
  bundle=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${SSL_CERT_FILE:-}}}
  [ -z "$bundle" ] || options+=(--secret "id=ca,src=$bundle")
  [ -z "${PIP_CONFIG_FILE:-}" ] || options+=(--secret "id=pip,src=$PIP_CONFIG_FILE")
  DOCKER_BUILDKIT=1 docker build "${options[@]}" .
}

# An engine's state outlives a test that was killed, its networks included, and two tests may run at once: so it is asked.
engine_subnet() {
  local networks
  mapfile -t networks < <(docker network ls --quiet)
  docker network inspect --format '{{range .IPAM.Config}}{{println .Subnet}}{{end}}' "${networks[@]}" |
    python3 -c '
import ipaddress, os, sys
taken = [ipaddress.ip_network(line.strip()) for line in sys.stdin if line.strip()]
first = os.getppid() % 200
small = [f"172.{30 + at // 256}.{at % 256}.0/24" for at in range(first, 512)]
for text in ["172.28.0.0/16", *small]:
    wanted = ipaddress.ip_network(text)
    if not any(wanted.version == one.version and wanted.overlaps(one) for one in taken):
        print(text)
        break
else:
    sys.exit("every subnet is taken: docker network prune")'
}

_engine_has_image() { docker image inspect "$1" >/dev/null 2>&1; }

_engine_pull() { timeout 180 docker pull --quiet "$1" >/dev/null 2>&1; }

# ---- below: only where something is missing

_engine_make_base() {
  if ! _engine_may_install; then
    engine_reason="debian:$engine_suite-slim cannot be pulled, and $engine_reason"
    return 1
  fi
  engine_say "no registry in reach: making $engine_base_image from the Debian mirror"
  _engine_log _engine_bootstrap "$engine_base_image" && return
  engine_reason="no base image could be made (see $engine_dir/log)"
  return 1
}

# Runs a step with its words in the log file, in a shell of its own where the first failure ends it (inside an `if`
# the shell would go on): a step is a list of commands that all must work.
_engine_log() {
  install --directory --mode=700 "$engine_dir"
  local code=0
  (
    exec >>"$engine_dir/log" 2>&1 </dev/null
    export -f _engine_fetch_plugins _engine_bootstrap _engine_mirror _engine_packages
    export engine_dir engine_suite engine_keyring DEBIAN_FRONTEND=noninteractive LC_ALL=C
    exec bash -euo pipefail -c '"$@"' engine "$@"
  ) || code=$?
  [ "$code" = 0 ] || tail -n 5 "$engine_dir/log" >&2
  return "$code"
}

_engine_may_install() {
  if [ "$(id -u)" != 0 ]; then
    engine_reason="only root can install one (start Docker, or run this as root on Debian)"
  elif [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
    engine_reason="one can be installed by itself on Debian only (start Docker, then run this again)"
  else
    return 0
  fi
  return 1
}

_engine_may_start() {
  local effective comm
  effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  # CAP_SYS_ADMIN is bit 21, CAP_NET_ADMIN bit 12: without them a daemon would be installed in vain.
  if [ $(((16#$effective >> 21) & (16#$effective >> 12) & 1)) = 0 ]; then
    engine_reason="this container lacks the capabilities an engine needs"
    return 1
  fi
  install --directory --mode=700 "$engine_dir"
  if [ ! -O "$engine_dir" ]; then
    engine_reason="$engine_dir belongs to somebody else"
    return 1
  fi
  exec {engine_lock}>"$engine_dir/lock"
  if ! flock --timeout 300 "$engine_lock"; then
    engine_reason="another test has held $engine_dir for five minutes"
    return 1
  fi
  # With the lock held, an engine of ours that still runs was left by a run that was killed.
  engine_started=$(_engine_pid)
  for comm in /proc/[0-9]*/comm; do
    if [ "$(cat "$comm" 2>/dev/null)" = dockerd ] && [ "$comm" != "/proc/$engine_started/comm" ]; then
      comm=${comm#/proc/}
      engine_started=''
      engine_reason="an engine this shell cannot reach runs already (pid ${comm%/comm}): set DOCKER_HOST to its socket"
      return 1
    fi
  done
}

_engine_pid() { # the dockerd that runs on $engine_dir, if any
  local pid
  pid=$(cat "$engine_dir/pid" 2>/dev/null) || return 0
  if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "--pidfile=$engine_dir/pid"; then echo "$pid"; fi
}

_engine_start() {
  : >"$engine_dir/log"
  if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null || ! command -v iptables >/dev/null; then
    engine_say "installing Docker from Debian"
    if ! _engine_log _engine_packages docker.io docker-cli iptables; then
      engine_reason="Docker could not be installed from Debian (see $engine_dir/log)"
      return 1
    fi
  fi
  export DOCKER_HOST=unix://$engine_dir/socket
  if [ -z "$engine_started" ]; then
    engine_say "starting an engine in $engine_dir"
    setsid nohup dockerd --data-root="$engine_dir/data" --exec-root="$engine_dir/exec" --pidfile="$engine_dir/pid" \
      --host="$DOCKER_HOST" >>"$engine_dir/log" 2>&1 </dev/null {engine_lock}>&- &
    local daemon=$! _
    for _ in $(seq 1 150); do
      if engine_answers || [ ! -d "/proc/$daemon" ]; then break; fi
      sleep 0.2
    done
    engine_started=$(_engine_pid)
    if ! engine_answers; then
      tail -n 5 "$engine_dir/log" >&2
      if ! engine_close; then return 1; fi
      engine_reason="an engine was started and does not answer (see $engine_dir/log)"
      return 1
    fi
  fi
  engine_has_compose && return
  engine_say "fetching Compose"
  if ! _engine_log _engine_fetch_plugins || ! engine_has_compose; then
    if ! engine_close; then return 1; fi
    engine_reason="Compose v2 could not be fetched from Debian (see $engine_dir/log)"
    return 1
  fi
}

# ---- steps for _engine_log: `set -e` is in force

_engine_packages() { # installs those of the named packages that this Debian knows
  local package wanted=()
  apt-get update --quiet
  for package in "$@"; do
    ! apt-cache show "$package" >/dev/null 2>&1 || wanted+=("$package")
  done
  apt-get install --quiet --yes --no-install-recommends "${wanted[@]}"
}

_engine_mirror() { # $1: debian or debian-security; the mirror that apt uses on this machine, else the public one
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n "s,/*\$,,; /^http.*\/$1\$/p" | sort -u |
    head -n 1 | grep . || echo "http://deb.debian.org/$1"
}

# Compose v2 and buildx as Debian packs them, from the suite that has them, unpacked beside the machine's own files:
# nothing that is installed is touched.
_engine_fetch_plugins() {
  local mirror to=/usr/local/lib/docker/cli-plugins name package
  work=$(mktemp -d "$engine_dir/fetch.XXXXXX") # not local: the trap runs after the function
  trap 'rm -rf "$work"' EXIT
  mirror=$(_engine_mirror debian)
  mkdir -p "$work"/{lists,archives}/partial "$to"
  echo "deb [signed-by=$engine_keyring] $mirror $engine_suite main" >"$work/sources.list"
  cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$work/lists";
Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
CONF
  cd "$work" || return
  APT_CONFIG=$work/apt.conf apt-get update --quiet
  for name in compose buildx; do
    [ ! -e "$to/docker-$name" ] || continue
    APT_CONFIG=$work/apt.conf apt-get download --quiet "docker-$name"
    for package in docker-"$name"_*.deb; do dpkg-deb --extract "$package" "$work/unpacked"; done
    install -m 755 "$work/unpacked/usr/libexec/docker/cli-plugins/docker-$name" "$to/docker-$name"
  done
}

_engine_bootstrap() { # $1: the image's name
  local mirror
  command -v debootstrap >/dev/null || _engine_packages debootstrap debian-archive-keyring
  root=$(mktemp -d "$engine_dir/root.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  chmod 755 "$root"
  mirror=$(_engine_mirror debian)
  debootstrap --variant=minbase --include=ca-certificates --keyring="$engine_keyring" "$engine_suite" "$root" "$mirror"
  cat >"$root/etc/apt/sources.list" <<LIST
deb $mirror $engine_suite main
deb $mirror $engine_suite-updates main
deb $(_engine_mirror debian-security) $engine_suite-security main
LIST
  # As in the public image: no manuals, no translations, of the documentation the copyrights.
  printf 'path-exclude /usr/share/%s/*\n' doc info locale man >"$root/etc/dpkg/dpkg.cfg.d/slim"
  echo 'path-include /usr/share/doc/*/copyright' >>"$root/etc/dpkg/dpkg.cfg.d/slim"
  echo 'APT::Install-Recommends "false";' >"$root/etc/apt/apt.conf.d/slim"
  find "$root/usr/share/doc" -type f ! -name copyright -delete
  rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/{apt,debconf/*-old,ldconfig}/* \
    "$root"/var/log/*
  tar --directory "$root" --create --numeric-owner . | docker import --change 'CMD ["bash"]' - "$1"
}
