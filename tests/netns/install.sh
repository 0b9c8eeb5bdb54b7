#!/usr/bin/env bash
# Installs Debian packages that the tests in namespaces need, if they are missing. Root only.
#
# usage: install.sh PACKAGE...
set -euo pipefail
missing=()
for package in "$@"; do
    dpkg --status "$package" > /dev/null 2>&1 || missing+=("$package")
done
((${#missing[@]})) || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
