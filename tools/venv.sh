#!/usr/bin/env bash
# Create .venv with Penstock and its tools. $1: the Python to use (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."
python="$1"
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Penstock needs Python 3.11 or newer; $python is older" >&2; exit 1; }
echo "setting up .venv (a minute or two the first time) ..." >&2
if ! "$python" -m venv .venv 2>/dev/null; then
  # Debian splits venv from Python
  [ "$(id -u)" = 0 ] || { echo "python3-venv is missing and needs root: apt-get install python3-venv" >&2; exit 1; }
  { apt-get update && apt-get install -y --no-install-recommends python3-venv; } >&2
  rm -rf .venv && "$python" -m venv .venv
fi
.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,otel,postgresql,parquet]'
