"""What a daemon lives through: names that are no text, faults of its own, commands that cross its work."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarm.content.envelope import Envelope
from swarm.daemon import watch_folder
from swarm.daemon.api import Api
from swarm.daemon.client import DaemonClient, DaemonRefused
from swarm.daemon.daemon import DaemonOptions, RunningDaemon, open_daemon
from swarm.daemon.keeper import NotKept, TransferKeeper
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.seeding_rules import SeedingCounts, SeedingRule
from swarm.daemon.wishes import Wishes
from swarm.endpoint import Endpoint
from swarm.errors import SwarmError
from swarm.events import Warned
from swarm.transfer.transfer import Transfer
from tests.support.nodes import NOBODY, loopback_node, node_options, until

pytestmark = pytest.mark.e2e

NO_UTF8 = os.fsdecode(b"caf\xe9.txt")


def without_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has set up no logging; pytest has, for the time of the test itself."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_folder, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watch_folder, "UNCHANGED_SECONDS", 0.1)


async def test_a_watched_name_that_is_not_utf8_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    (watched := tmp_path / "watched").mkdir()
    told: list[str] = []
    options = DaemonOptions(node_options(tmp_path), watch=(watched,))
    (watched / NO_UTF8).write_bytes(b"x")
    for name in ("first", "after a restart"):
        told.clear()
        async with open_daemon(options, told.append, "0") as daemon:
            (watched / name).write_bytes(b"x")
            entries = daemon.keeper.entries.values()
            await until(lambda: name in {each.kept.name for each in entries} and told, name)  # noqa: B023
            # Many looks later it is still one line.
            await trio.sleep(0.5)
        (line,) = told
        assert "caf\\udce9.txt is not shared" in line
        assert "not UTF-8" in line


async def test_a_fault_at_one_watched_entry_is_told_and_logged_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_logging(monkeypatch)
    (watched := tmp_path / "watched").mkdir()
    for name in ("bad", "good"):
        (watched / name).write_bytes(b"x")
    share, told = TransferKeeper.share, list[str]()

    async def faulty(keeper: TransferKeeper, path: str, wishes: Wishes) -> object:
        if path.endswith("bad"):
            raise KeyError("a fault of ours")
        return await share(keeper, path, wishes)

    monkeypatch.setattr(TransferKeeper, "share", faulty)
    options = DaemonOptions(node_options(tmp_path), watch=(watched,))
    async with open_daemon(options, told.append, "0") as daemon:
        await until(lambda: daemon.keeper.entries and told, "the good one, and a line about the bad one")
        # Many looks later it is still one line, and one place in the log.
        await trio.sleep(0.5)
    assert told == [f"{watched}/bad is not shared: the daemon has a fault here: see its log"]
    assert capsys.readouterr().err.count("KeyError: 'a fault of ours'") == 1


async def test_names_that_are_not_utf8_are_refused_and_name_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / NO_UTF8).write_bytes(b"x")
    (tmp_path / "link").symlink_to(NO_UTF8)
    asked = (
        {"path": str(tmp_path / NO_UTF8), "name": "cafe"},
        {"path": str(tmp_path / "link")},
        {"path": str(tmp_path), "name": NO_UTF8},
        {"path": str(tmp_path), "only": [NO_UTF8]},
        {"link": NO_UTF8},
        {"link": "swarm:bafyr4ih?name=\ud800"},
        {"path": "/\ud800"},
    )
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        client = DaemonClient(daemon.socket.parent)
        for fields in asked:
            with pytest.raises(DaemonRefused) as caught:
                await trio.to_thread.run_sync(client.post, "/v1/transfers", fields)
            assert caught.value.exit_code == 2, fields
            assert "not UTF-8" in str(caught.value) or "is a text" in str(caught.value)
        with pytest.raises(SwarmError, match="File name too long"):
            await daemon.keeper.share(f"/{'x' * 300}", Wishes())
        assert not daemon.keeper.entries
        client.close()


async def test_a_fault_of_the_api_is_in_the_log_that_its_answer_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_logging(monkeypatch)

    async def faulty(_api: Api, _request: object) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("a fault of ours")

    monkeypatch.setattr(Api, "answer", faulty)
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        client = DaemonClient(daemon.socket.parent)
        with pytest.raises(DaemonRefused, match="see its log"):
            await trio.to_thread.run_sync(client.get, "/v1/status")
        client.close()
    written = capsys.readouterr().err
    assert "the API failed at GET /v1/status" in written
    assert "KeyError: 'a fault of ours'" in written


# --- Commands that cross its work ---------------------------------------------------------------------


async def test_whoever_pauses_what_was_seeded_enough_finds_it_paused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        keeper = daemon.keeper
        entry, _ = await keeper.share(str(tmp_path / "data"), Wishes())
        await until(lambda: state(entry) == "seeding", "seeding")
        entry.sent, entry.copies = 7, 1
        await keeper.finish(entry, "it was enough")
        assert (state(entry), entry.kept.counted_sent) == ("finished", 7)
        await keeper.pause(entry)
        # As after `resume`, its rule counts anew.
        assert (state(entry), entry.kept.finished, entry.kept.counted_sent) == ("paused", "", 0)
        assert entry.counts(trio.current_time()) == SeedingCounts(0, 0, 0.0)
        entry.sent = 5
        await keeper.pause(entry)
        assert (state(entry), entry.kept.counted_sent) == ("paused", 5)
        await keeper.resume(entry)
        await until(lambda: state(entry) == "seeding", "seeding again")


async def test_an_empty_text_names_no_transfer(tmp_path: Path) -> None:
    """Also where one has no name yet: 'swarm remove "$UNSET"' removed it."""
    link = f"swarm:bafyr4i{'a' * 52}?peer={NOBODY}"
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        entry, _ = await daemon.keeper.fetch(link, str(tmp_path), Wishes())
        assert entry.kept.name == entry.tally_name == ""
        with pytest.raises(NotKept, match="empty text"):
            daemon.keeper.find("")
        assert daemon.keeper.find(entry.kept.id) is entry


async def test_what_is_removed_while_it_begins_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_bytes(b"x")
    async with loopback_node(tmp_path / "other") as node:
        shared = await node.share(tmp_path / "data")
        envelope = shared.envelope
    reads, removed, was_read = threading.Event(), threading.Event(), threading.Event()
    read = Envelope.from_bytes

    def slow(data: bytes) -> Envelope:
        reads.set()
        removed.wait(20)
        try:
            return read(data)
        finally:
            was_read.set()

    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        monkeypatch.setattr(Envelope, "from_bytes", slow)
        entry, _ = await daemon.keeper.fetch(envelope, str(tmp_path / "out"), Wishes())
        await until(reads.is_set, "the manifest is read")
        await daemon.keeper.remove(entry)
        begun, fetch = [], daemon.node.fetch

        def noted(*some: Any, **more: Any) -> Transfer:
            begun.append(some)
            return fetch(*some, **more)

        monkeypatch.setattr(daemon.node, "fetch", noted)
        removed.set()
        # A task whose thread still works counts as blocked.
        await until(was_read.is_set, "the manifest was read")
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert not begun
        assert entry.transfer is None


async def news_of(daemon: RunningDaemon, change: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """What a reader is told at once that waits for changes while ``change`` runs."""
    client = DaemonClient(daemon.socket.parent)
    version = (await trio.to_thread.run_sync(client.get, "/v1/transfers"))["version"]
    told: list[dict[str, Any]] = []

    async def ask() -> None:
        told.append(
            await trio.to_thread.run_sync(
                lambda: client.get("/v1/transfers", since=version, wait=25), abandon_on_cancel=True
            )
        )

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: daemon.keeper._news.statistics().tasks_waiting, "it is waited for")
            await change()
    (delta,) = told
    assert (delta["removed"], delta["whole"]) == ([], False)
    assert delta["version"] != version
    client.close()
    return delta


@pytest.mark.parametrize("what", ["limits", "schedule", "rule"])
async def test_who_waits_for_changes_is_told_of_the_rules_at_once(tmp_path: Path, what: str) -> None:
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        rules = daemon.keeper.rules

        async def change() -> None:
            match what:
                case "limits":
                    await rules.limit(upload=1_000_000, download=None)
                case "schedule":
                    await rules.set_schedule(("daily up 1MB/s",))
                case _:
                    await rules.set_rule(SeedingRule(ratio=2.0))

        delta = await news_of(daemon, change)
        assert delta["transfers"] == []
        assert delta["node"].items() >= rules.view().items()


async def test_who_waits_for_changes_is_told_of_links_with_new_addresses_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    async with open_daemon(DaemonOptions(node_options(tmp_path)), print, "0") as daemon:
        entry, _ = await daemon.keeper.share(str(tmp_path / "data"), Wishes())
        await until(lambda: state(entry) == "seeding", "seeding")
        await trio.testing.wait_all_tasks_blocked(0.05)

        async def move() -> None:
            daemon.node._address_keeper.mapped(Endpoint.parse("/ip4/5.5.5.2/tcp/4001"))
            await trio.lowlevel.checkpoint()

        delta = await news_of(daemon, move)
        (about,) = delta["transfers"]
        assert "5.5.5.2" in about["link"]
        assert "5.5.5.2" in delta["node"]["addresses"][0]


async def events(daemon: RunningDaemon, since: str) -> list[str]:
    """The kind or the number of each event since a number, until one is told that a test has put there."""
    stream = await trio.open_unix_socket(daemon.socket)
    data = b""
    async with stream:
        await stream.send_all(f"GET /v1/events?since={since} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        with trio.fail_after(20):
            while b"the last" not in data:
                data += await stream.receive_some()
                daemon.keeper.ring.put(Warned("the last"), 0.0)
    return [line for line in data.decode().splitlines() if line.startswith(("event: ", "id: "))]


async def test_a_reader_of_events_that_missed_a_restart_begins_with_a_snapshot(tmp_path: Path) -> None:
    options = DaemonOptions(node_options(tmp_path))
    async with open_daemon(options, print, "0") as daemon:
        ring = daemon.keeper.ring
        ring.put(Warned("of the first run"), 0.0)
        first = ring.last
        # Within a run nothing is told twice or left out.
        assert (await events(daemon, str(first)))[0] == f"id: {first + 1}"
        first = ring.last
    async with open_daemon(options, print, "0") as daemon:
        ring = daemon.keeper.ring
        for _ in range(100):
            ring.put(Warned("of the second run"), 0.0)
        assert (await events(daemon, str(first)))[0] == "event: snapshot"
        # All of a run is had without a number of it, as long as nothing is forgotten.
        assert len(await events(daemon, "0")) > 100
        assert (await events(daemon, "0"))[0] == f"id: {ring.first}"
    assert ring.last < 1 << 53, "a reader's numbers may be those of JavaScript"


def state(entry: KeptEntry) -> str:
    return entry.state(entry.tally.snapshot(trio.current_time()))
