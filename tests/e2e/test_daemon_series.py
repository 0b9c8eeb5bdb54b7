"""Daemons that follow a series: a publisher that releases, pauses, and kills in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import swarm
from swarm.content.series_link import SeriesLink
from swarm.daemon import series_follower
from swarm.daemon.daemon import DaemonOptions, open_daemon
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.wishes import Wishes
from tests.e2e.test_releases import completed, content_of, fetch, release, write_versions
from tests.support.daemons import Daemon, command, start_daemon
from tests.support.nodes import loopback_node, node_options, until
from tests.support.processes import Processes

pytestmark = pytest.mark.e2e

NAME = "daemon"


def at_release(daemon: Daemon, number: int) -> dict[str, Any]:
    return daemon.until("game", lambda each: each["release"] == number and each["state"] == "seeding")


def test_a_series_is_followed_through_kills_and_restarts(processes: Processes, tmp_path: Path) -> None:
    versions = write_versions(tmp_path / "builds")
    publisher, series, _ = release(processes, versions[0])
    log = tmp_path / "completed"
    hook = ("--on-complete", f"sh -c 'echo $SWARM_MANIFEST >> {log}'")
    daemon = start_daemon(processes, *hook)
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
    daemon = start_daemon(processes, *hook)
    address = at_release(daemon, 2) and daemon.ask("GET", "/v1/status").json()["node"]["addresses"][0]
    newcomer = fetch(processes, f"{series.partition('?')[0]}?peer={address}", "--json", name="newcomer")
    completed(newcomer)
    assert newcomer.event("release_found")["sequence"] == 2

    # A release that came while no daemon ran is taken at the start.
    daemon.process.kill()
    daemon.process.wait()
    (versions[0] / "big.bin").write_bytes(b"quite another one")
    publisher, _, _ = release(processes, versions[0])
    daemon = start_daemon(processes, *hook)
    at_release(daemon, 3)
    assert content_of(folder) == content_of(versions[0])

    # Removed, it is followed no longer, and the folder stays.
    command(processes, "remove", "game")
    assert daemon.transfers() == []
    assert content_of(folder) == content_of(versions[0])
    # The command ran for each release, and never twice for one, whatever was restarted.
    told = log.read_text().splitlines()
    assert len(told) == len(set(told)) > 1


async def test_why_a_series_waits_is_told_until_its_publisher_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    there = trio.Event()

    class Tracker:
        provenance = "tracker"

        async def peers(self, manifest: swarm.ManifestId) -> AsyncIterator[swarm.FoundPeer]:
            await there.wait()
            where = tuple(each.partition("/p2p/")[0] for each in publisher.addresses)
            yield swarm.FoundPeer(publisher.peer_id, where)

        def announce(self, announcement: swarm.Announcement) -> None: ...
        def withdraw(self, manifest: swarm.ManifestId) -> None: ...

    async with (
        loopback_node(tmp_path / "publisher") as publisher,
        open_daemon(DaemonOptions(node_options(tmp_path / "daemon")), print, "0") as daemon,
    ):
        published = await publisher.release("game", tmp_path / "file")
        daemon.node.add_peer_source(Tracker())
        link = SeriesLink(published.record.series, (f"/ip4/127.0.0.1/tcp/1/p2p/{publisher.peer_id}",))
        entry, _ = await daemon.keeper.fetch(str(link), str(tmp_path / "out"), Wishes())
        await until(lambda: entry.remarks, "told what it waits for")
        assert len(entry.remarks) == 1
        assert "refused" in entry.remarks[0]
        there.set()
        await until(lambda: entry.kept.complete, "complete")
        assert entry.remarks == []


async def test_pauses_ends_of_seeding_and_content_that_is_here_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series_follower, "FIRST_PAUSE_SECONDS", 0.1)
    versions = [tmp_path / "builds" / str(number) for number in range(1, 6)]
    for number, version in enumerate(versions):
        version.mkdir(parents=True)
        (version / "file").write_bytes(bytes([number]) * 100_000)
    out = tmp_path / "out"

    def holds(entry: KeptEntry, number: int) -> bool:
        return entry.kept.release == number and entry.kept.complete

    async with (
        loopback_node(tmp_path / "publisher") as publisher,
        open_daemon(DaemonOptions(node_options(tmp_path / "daemon")), print, "0") as daemon,
    ):
        keeper = daemon.keeper
        published = await publisher.release("game", versions[0])
        series = published.record.series
        entry, _ = await keeper.fetch(published.link, str(out), Wishes())
        await until(lambda: holds(entry, 1), "the first release")

        # Whoever pauses a transfer keeps what is there.
        await keeper.pause(entry)
        await published.stop()
        published = await publisher.release("game", versions[1])
        await until(lambda: getattr(keeper.node.known_release(series), "sequence", 0) == 2, "its record")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert holds(entry, 1)
        await keeper.resume(entry)
        await until(lambda: holds(entry, 2), "the second release")

        # What was seeded enough is still followed, and seeded anew.
        await keeper.finish(entry, "it was enough")
        await published.stop()
        published = await publisher.release("game", versions[2])
        await until(lambda: holds(entry, 3), "the third release")
        assert (entry.kept.paused, entry.kept.finished) == (False, "")
        assert entry.kept.counted_sent == entry.kept.counted_copies == 0

        # Unless it is paused after that.
        await keeper.finish(entry, "it was enough")
        await keeper.pause(entry)
        assert entry.state(entry.tally.snapshot(0.0)) == "paused"
        await published.stop()
        published = await publisher.release("game", versions[3])
        await until(lambda: getattr(keeper.node.known_release(series), "sequence", 0) == 4, "its record")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert holds(entry, 3)
        await keeper.resume(entry)
        await until(lambda: holds(entry, 4), "the fourth release")

        # No content is here twice.
        await published.stop()
        shared = await publisher.share(versions[4], name="game")
        other, _ = await keeper.fetch(shared.link, str(tmp_path / "elsewhere"), Wishes())
        await until(lambda: other.kept.complete, "the other transfer")
        await shared.stop()
        await publisher.release("game", versions[4])
        await until(lambda: any(other.kept.id in each for each in entry.notes), "a note")
        assert holds(entry, 4)
        await keeper.remove(other)
        await until(lambda: holds(entry, 5), "the fifth release")
        assert (out / "game" / "file").read_bytes() == (versions[4] / "file").read_bytes()
