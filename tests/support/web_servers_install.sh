#!/usr/bin/env bash
# Installs Debian's package of a web server for the tests of origins, without starting it.
#
# usage: web_servers_install.sh nginx|caddy
set -euo pipefail

program=$1
if ((EUID != 0)); then
    echo "$program is not there: apt-get install $program" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
if ! apt-get install --yes --no-install-recommends "$program"; then
    apt-get update
    apt-get install --yes --no-install-recommends "$program"
fi
