#!/bin/sh
# Fresh clone to running gateway. Needs Python 3.11 or newer and nothing else; ./quickstart.sh --help lists the options.
# What it does stands in scripts/lib/quickstart.py; this file only finds a Python that can read it.
set -eu
came_from=$PWD
CDPATH="" cd "$(dirname "$0")"
# shellcheck source=scripts/lib/environment.sh
. scripts/lib/environment.sh
find_python
exec "$python" -Es scripts/lib/quickstart.py --came-from "$came_from" "$@"
