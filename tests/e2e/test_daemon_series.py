"""A daemon that follows a series: real processes, a publisher that releases, kills in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_releases import completed, content_of, fetch, release, write_versions
from tests.support.daemons import Daemon, start_daemon
from tests.support.processes import Processes, Running

pytestmark = pytest.mark.e2e

NAME = "daemon"


def command(processes: Processes, *arguments: str | Path, code: int = 0) -> Running:
    running = processes.swarm(*arguments, name=NAME)
    running.expect_exit(code, within=60)
    return running


def at_release(daemon: Daemon, number: int) -> dict[str, Any]:
    return daemon.until("game", lambda each: each["release"] == number and each["state"] == "seeding")


def test_a_series_is_followed_through_kills_and_restarts(processes: Processes, tmp_path: Path) -> None:
    versions = write_versions(tmp_path / "builds")
    publisher, series, _ = release(processes, versions[0])
    daemon = start_daemon(processes)
    # As `swarm add` does it, and for somebody who waits until the content is here.
    fetched = command(processes, "fetch", "--daemon", "--update", series, "--output", "out")
    assert fetched.lines() == ["out/game"]
    folder = processes.work(NAME) / "out" / "game"
    assert content_of(folder) == content_of(versions[0])
    added = command(processes, "add", series, "--output", "out", "--json").event("transfer_added")
    assert not added["new"]
    assert "has that content" in command(processes, "add", series, "--output", "x", code=2).errors()
    for option in (("--only", "*.txt"),):
        refused = command(processes, "add", f"{series}".replace("game", "other"), *option, code=2)
        assert "as a whole" in refused.errors()
    assert at_release(daemon, 1)["series"] == series
    (mine := folder / "my own.txt").write_text("mine")

    # While it runs: by patch, in place, and passed on.
    publisher.kill()
    publisher.wait()
    publisher, _, _ = release(processes, versions[1], "--previous", versions[0])
    updated = at_release(daemon, 2)
    assert updated["received"] < 100_000 + sum(map(len, content_of(versions[0]).values()))
    assert content_of(folder) == {**content_of(versions[1]), "my own.txt": b"mine"}
    mine.unlink()
    assert "game (release 2)" in command(processes, "status").lines()[1]
    metric = f'swarm_series_release{{transfer="{added["id"]}",series="game"}} 2'
    assert metric in daemon.ask("GET", "/metrics").body.decode().splitlines()

    # Killed, and started while the publisher is away: it seeds what it has, and the record.
    publisher.kill()
    daemon.process.kill()
    publisher.wait()
    daemon.process.wait()
    daemon = start_daemon(processes)
    address = at_release(daemon, 2) and daemon.ask("GET", "/v1/status").json()["node"]["addresses"][0]
    newcomer = fetch(processes, f"{series.partition('?')[0]}?peer={address}", "--json", name="newcomer")
    completed(newcomer)
    assert newcomer.event("release_found")["sequence"] == 2

    # A release that came while no daemon ran is taken at the start.
    daemon.process.kill()
    daemon.process.wait()
    (versions[0] / "big.bin").write_bytes(b"quite another one")
    publisher, _, _ = release(processes, versions[0])
    daemon = start_daemon(processes)
    at_release(daemon, 3)
    assert content_of(folder) == content_of(versions[0])

    # Removed, it is followed no longer, and the folder stays.
    command(processes, "remove", "game")
    assert daemon.transfers() == []
    assert content_of(folder) == content_of(versions[0])
