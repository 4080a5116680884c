#!/usr/bin/env bash
# Installs the Debian packages of the named groups (build, test, clang, aarch64, train) that are missing. Does nothing if all are there.
# Usage: deploy/install-packages.sh GROUP...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

wanted=()
for group in "$@"; do
  while read -r g name; do
    [ "$g" = "$group" ] && wanted+=("$name")
  done < <(grep -v '^#' "$here/packages.txt")
done

missing=()
for name in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#wanted[@]} present ($*)"
  exit 0
fi

sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "packages: missing ${missing[*]}; run as root, or install sudo" >&2; exit 1; }
  sudo=sudo
fi
echo "packages: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
case " ${missing[*]}" in *:arm64*) $sudo dpkg --add-architecture arm64 ;; esac
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
