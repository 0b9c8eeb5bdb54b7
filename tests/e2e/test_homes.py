"""The home folder cannot be written, or another process has what is wanted from it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import LOOPBACK, random_file, share

pytestmark = pytest.mark.e2e

MOUNTED = """
set -eu
mount -t tmpfs -o "$1" none "$SWARM_HOME"
shift
exec "$@"
"""
HOMES = {"read-only": "ro", "full": "nr_inodes=1"}


def run(processes: Processes, home: str, name: str, *arguments: object) -> Running:
    """Start a command with a home of this kind."""
    argv = [sys.executable, "-m", "swarm", *map(str, arguments)]
    processes.home(name)
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", HOMES[home], *argv]
    return processes.command(own, name=name)


@pytest.mark.parametrize("home", HOMES)
def test_what_fetches_or_asks_gets_a_temporary_identity_where_the_home_cannot_be_written(
    processes: Processes, tmp_path: Path, home: str
) -> None:
    source = random_file(tmp_path / "source" / "file.bin", 100_000)
    seeder = share(processes, source)
    runs = [
        run(processes, home, "fetch", "fetch", seeder.link, "-o", tmp_path / "out", *LOOPBACK),
        run(processes, home, "ping", "ping", "-c", 1, seeder.address),
        run(processes, home, "inspect", "inspect", seeder.link),
    ]
    for each in runs:
        each.expect_exit(0)
        warning = each.errors().splitlines()[0]
        assert warning.startswith("warning: ")
        assert "temporary peer id" in warning
        assert ("read-only" if home == "read-only" else "is full") in warning
    assert (tmp_path / "out" / "file.bin").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("home", HOMES)
def test_what_is_shared_needs_a_key_that_is_kept(processes: Processes, tmp_path: Path, home: str) -> None:
    refused = run(processes, home, "share", "share", random_file(tmp_path / "file.bin", 1000), *LOOPBACK)
    refused.expect_exit(7)
    assert "needs a key that is kept" in refused.errors()


def test_a_fetch_has_the_users_identity_in_a_read_only_home_that_holds_one(
    processes: Processes, tmp_path: Path
) -> None:
    me = processes.swarm("id", name="me")
    me.expect_exit(0)
    script = 'mount --bind "$SWARM_HOME" "$SWARM_HOME"; mount -o remount,ro,bind "$SWARM_HOME"; exec "$@"'
    argv = [sys.executable, "-m", "swarm", "listen", *LOOPBACK]
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", *argv]
    first, second = (processes.command(own, name="me") for _ in range(2))
    nodes = {each.address().rpartition("/p2p/")[2]: each for each in (first, second)}
    assert len(nodes) == 2, "two processes at once are not one peer"
    mine = nodes.pop(me.lines()[0])
    (other,) = nodes.values()
    # What goes to stderr may be read later than what goes to stdout.
    other.line("temporary", stderr=True)
    for each in (mine, other):
        each.interrupt()
        each.expect_exit(130)
    assert "temporary" not in mine.errors()


def test_a_share_waits_for_its_old_process_to_end(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "file.bin", 1000)
    options = ("share", str(source), *LOOPBACK, "--json")
    before = processes.swarm(*options, name="sharer")
    link = before.event("path_shared")["link"]
    before.pause()
    again = processes.swarm(*options, name="sharer")
    assert "another process that shares the same" in again.event("warned")["message"]
    before.kill()
    assert again.event("path_shared")["link"] == link
