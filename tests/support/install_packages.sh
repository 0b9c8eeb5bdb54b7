#!/usr/bin/env bash
# Installs Debian packages that tests need, if they are missing. Root only.
#
# usage: install_packages.sh PACKAGE...
set -euo pipefail
missing=()
for package in "$@"; do
    dpkg --status "$package" > /dev/null 2>&1 || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ((EUID != 0)); then
    echo "not there, and only root can install it: apt-get install ${missing[*]}" >&2
    exit 1
fi
# Tests run side by side, and the package manager refuses to.
exec 9> "${TMPDIR:-/tmp}/swarm-install-packages.lock"
flock 9
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
