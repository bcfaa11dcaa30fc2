#!/usr/bin/env bash
# Installs the Debian packages of packages.txt that are missing. Asks no package manager when nothing is.
set -euo pipefail
cd "$(dirname "$0")"
missing=()
while read -r package; do
  case $package in ''|'#'*) continue ;; esac
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done <packages.txt
[ ${#missing[@]} -gt 0 ] || exit 0
root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install.sh: as root: apt-get install ${missing[*]}" >&2; exit 69; }
  root=(sudo)
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
