#!/usr/bin/env bash
# Print the path of a prometheus binary: the one on PATH, else Debian's, unpacked without root into a cache.
set -euo pipefail
command -v prometheus && exit 0
cache="${XDG_CACHE_HOME:-$HOME/.cache}/penstock/prometheus"
bin="$cache/usr/bin/prometheus"
if [ ! -x "$bin" ]; then
  echo "fetching Debian's prometheus package into $cache ..." >&2
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  if ! apt-get download prometheus >/dev/null 2>&1; then
    # a machine whose package lists are missing or old; refreshing them needs root
    [ "$(id -u)" = 0 ] && apt-get update >&2
    apt-get download prometheus >&2
  fi
  mkdir -p "$cache"
  dpkg -x prometheus_*.deb "$cache"
fi
echo "$bin"
