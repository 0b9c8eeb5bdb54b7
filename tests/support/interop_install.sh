#!/usr/bin/env bash
# Installs the other libp2p implementations for the interop tests into .interop/ from the registries:
#   .interop/go/p2pd   go-libp2p's daemon, a static program that the wheel of `hivemind` carries
#   .interop/js/       js-libp2p and the Node that runs it, pinned by tests/interop/js/package-lock.json
# What is there already is kept. When something fails, .interop/NAME.failed says why (the tests show it)
# and the exit code is 1.
#
# usage: interop_install.sh [PYTHON]    a Python with pip
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${1:-python3}
target=$PWD/.interop
hivemind=1.1.12

install_go() {
    local work
    work=$(mktemp -d "$target/work.XXXXXX")
    "$python" -m pip download --quiet --quiet --no-deps --only-binary :all: --dest "$work" "hivemind==$hivemind"
    "$python" - "$work" <<'PYTHON'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (work / "p2pd").write_bytes(archive.read("hivemind/hivemind_cli/p2pd"))
(work / "p2pd").chmod(0o755)
wheel.unlink()
PYTHON
    echo "$hivemind" > "$work/version"
    rm -rf "$target/go"
    mv "$work" "$target/go"
}

install_js() {
    if ! command -v npm > /dev/null; then
        echo "npm is not there: apt-get install npm"
        return 1
    fi
    local work
    work=$(mktemp -d "$target/work.XXXXXX")
    cp tests/interop/js/package.json tests/interop/js/package-lock.json "$work"
    # No scripts run. The engine warnings speak of the system's Node: the pinned one is in the lock.
    (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    rm -rf "$target/js"
    mv "$work" "$target/js"
}

installed_go() { [[ -x $target/go/p2pd && $(cat "$target/go/version") == "$hivemind" ]]; }

installed_js() {
    [[ -d $target/js/node_modules ]] && cmp -s tests/interop/js/package-lock.json "$target/js/package-lock.json"
}

failed=0
mkdir -p "$target"
for part in go js; do
    if "installed_$part" 2> /dev/null; then
        rm -f "$target/$part.failed"
        continue
    fi
    echo "installing $part-libp2p into .interop/$part"
    # In a shell of its own: `set -e` has no effect in a function that is a condition.
    if bash -c "set -euo pipefail; $(declare -f "install_$part"); $(declare -p python target hivemind); install_$part" \
        > "$target/$part.log" 2>&1; then
        rm -f "$target/$part.failed"
    else
        failed=1
        tail -n 20 "$target/$part.log" > "$target/$part.failed"
        echo "installing $part-libp2p failed:" >&2
        sed 's/^/    /' "$target/$part.failed" >&2
    fi
    rm -rf "$target"/work.??????
done
exit $failed
