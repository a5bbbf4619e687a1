# Sourced. Servers the tests start for themselves: PostgreSQL and Redis, from Debian's packages.
#
# shellcheck shell=bash

# want_server COMMAND-PATTERN PACKAGE NAME: there, or installed where we may, or a loud line that its tests are skipped.
want_server() {
  if compgen -G "$1" >/dev/null; then
    return
  fi
  if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
    say "$3: installing Debian's package $2"
    # Nothing of it is started: the tests make servers of their own.
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$2"; } >/dev/null; then
      say "$3: apt-get could not install $2"
    fi
  fi
  if ! compgen -G "$1" >/dev/null; then
    say "$3: NOT INSTALLED. Its tests are SKIPPED: nothing here says that Waygate works with it"
  fi
}
