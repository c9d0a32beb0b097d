#!/usr/bin/env bash
# Make sure that there is an openssl: the cluster's ServiceAccount key is made with it.
set -euo pipefail
command -v openssl >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "openssl is missing and needs root: apt-get install openssl" >&2; exit 0; }
echo "installing openssl ..." >&2
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssl; } >&2
