# shellcheck shell=sh
# Shell parts that quickstart.sh and the scripts share: find Python, make .venv from a lock file. Plain POSIX sh, for
# `.`-sourcing with the repository's root as the working directory. Knows nothing of what runs in the environment.
#
#   find_python              sets $python to an interpreter of 3.11 or newer, or ends with one line that says what to do
#   make_environment KIND    KIND is runtime or dev: .venv holds requirements/KIND.lock and this package, editable.
#                            Done once; a changed lock file, a moved folder or another $PYTHON makes it happen again

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  _bold=$(printf '\033[1m') _red=$(printf '\033[31m') _plain=$(printf '\033[0m')
else
  _bold='' _red='' _plain=''
fi

say() { printf '%s\n' "${_bold}==>${_plain} $*"; }
note() { printf '    %s\n' "$*"; }
die() {
  printf '%s\n' "${_red}${0##*/}: $*${_plain}" >&2
  exit 1
}

_is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' >/dev/null 2>&1
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    _is_new_enough "$PYTHON" || die "PYTHON=$PYTHON is not Python 3.11 or newer; unset it or point it at one"
    python=$PYTHON
    return
  fi
  for python in python3.14 python3.13 python3.12 python3.11 python3 python; do
    if command -v "$python" >/dev/null 2>&1 && _is_new_enough "$python"; then
      # The interpreter itself: what is found may belong to an environment that is active now, or to .venv.
      python=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", "") or sys.executable)')
      return
    fi
  done
  die "Python 3.11 or newer is needed; install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python) and run this again"
}

_fingerprint() { # what the content of an environment depends on, as one line
  { cat pyproject.toml requirements/*.lock; grep "^__version__" src/waygate_mcp/__init__.py; } | cksum
}

_is_made() {
  [ -x .venv/bin/waygate ] && [ -r ".venv/.locked-$1" ] && [ "$(cat ".venv/.locked-$1")" = "$2" ] &&
    .venv/bin/python -c 'import waygate_mcp' >/dev/null 2>&1
}

_home() {
  "$1" -c 'import sys; print(sys.base_prefix, sys.version_info[:3])' 2>/dev/null
}

_is_ours() { # an environment made here (its scripts hold the path) with a Python that works and, if one is asked for, that one
  [ -r .venv/.home ] && [ "$(cat .venv/.home)" = "$(pwd -P)" ] && _is_new_enough .venv/bin/python &&
    { [ -z "${PYTHON:-}" ] || [ "$(_home "$PYTHON")" = "$(_home .venv/bin/python)" ]; }
}

_explain_missing_venv() {
  _version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  die "this Python cannot make environments; install its venv module (Debian, Ubuntu: apt install python3-venv or python$_version-venv) and run this again"
}

_new_venv() {
  rm -rf .venv
  if [ -n "$uv" ]; then
    "$uv" venv --quiet --no-config --python "$python" .venv && return
    rm -rf .venv
  fi
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || _explain_missing_venv
  "$python" -m venv .venv || die "could not make $(pwd)/.venv; is the folder writable and the disk not full?"
  # Python 3.11 puts setuptools in, which is in no lock file and runs code whenever Python starts (threat model rule 45).
  _quietly .venv/bin/python -m pip uninstall --yes --quiet --disable-pip-version-check setuptools
}

# One pip or uv command; its output is shown only where it fails.
_quietly() {
  _output=$("$@" 2>&1) && return
  printf '%s\n' "$_output" | tail -n 15 >&2
  return 1
}

_uv_install() {
  _quietly env VIRTUAL_ENV="$(pwd)/.venv" "$uv" pip install --quiet --compile-bytecode --require-hashes "$@" &&
    _quietly env VIRTUAL_ENV="$(pwd)/.venv" "$uv" pip install --quiet --offline --no-deps --no-build-isolation -e .
}

_pip_install() {
  .venv/bin/python -c 'import pip' >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null 2>&1 || _explain_missing_venv
  # The lock is the whole answer, so nothing is resolved again: some releases of pip refuse a pinned package that another
  # one asks for with an extra (`pydantic[email]`). `pip check` says whether the answer holds.
  _quietly .venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --require-hashes --no-deps "$@" &&
    _quietly .venv/bin/python -m pip check --disable-pip-version-check &&
    _quietly .venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
      --no-index --no-deps --no-build-isolation -e .
}

# uv as requirements/dev.lock pins it, in the environment it then fills. Where that does not work pip goes on alone.
_fetch_uv() {
  if [ ! -x .venv/bin/uv ]; then
    awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements/dev.lock >.venv/uv.lock
    .venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check --require-hashes --no-deps \
      -r .venv/uv.lock >/dev/null 2>&1 || return 0
  fi
  uv=$(pwd)/.venv/bin/uv
}

make_environment() {
  _wanted=$(_fingerprint)
  if _is_ours && { _is_made dev "$_wanted" || _is_made "$1" "$_wanted"; }; then
    return # a developer's environment holds everything that serving needs
  fi
  # uv is ten times quicker than pip and is used where it is at hand, and fetched where it pays: for the many packages
  # of development. WAYGATE_NO_UV=1 takes pip all the same.
  WAYGATE_NO_UV=${WAYGATE_NO_UV:-}
  uv=''
  [ -n "$WAYGATE_NO_UV" ] || uv=$(command -v uv 2>/dev/null) || uv=''

  if _is_ours; then
    say "completing .venv from requirements/$1.lock"
  else
    find_python
    say "making .venv from requirements/$1.lock with $("$python" --version)"
    _new_venv
    pwd -P >.venv/.home
  fi
  if [ "$1" = dev ] && [ -z "$uv$WAYGATE_NO_UV" ]; then _fetch_uv; fi
  rm -f .venv/.locked-*
  _kind=$1
  set -- -r "requirements/$1.lock"
  [ "$_kind" = dev ] || set -- "$@" -r requirements/build.lock
  if [ -z "$uv" ] || ! _uv_install "$@"; then
    [ -z "$uv" ] || note "uv could not do it (lines above); trying pip"
    _pip_install "$@" || die "the packages of requirements/$_kind.lock could not be installed (lines above). A file that does not match its hash is refused; otherwise: is the package index reachable, and allowed by pip's settings?"
  fi
  printf '%s\n' "$_wanted" >".venv/.locked-$_kind"
}
