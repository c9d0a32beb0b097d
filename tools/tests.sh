#!/usr/bin/env bash
# Every test, in two lanes at once: those with a cluster mostly wait, the others mostly compute and give way.
# Usage: tools/tests.sh PYTHON [ARGUMENT OF PYTEST ...]
set -uo pipefail
set -m # a lane of its own can be interrupted
python="$1"
shift
said="$(mktemp)"
nice -n 5 "$python" -m pytest -q -p no:cacheprovider -m "not cluster" "$@" >"$said" 2>&1 &
others=$!
trap 'kill -INT "$others" 2>/dev/null; wait "$others"; rm -f "$said"' EXIT
echo "Tests with a cluster:"
"$python" -m pytest -q -p no:cacheprovider -m cluster "$@"
with_cluster=$?
((with_cluster == 2)) && exit 130 # Ctrl-C
wait "$others"
without=$?
echo "All others:"
cat "$said"
exit $((with_cluster || without))
