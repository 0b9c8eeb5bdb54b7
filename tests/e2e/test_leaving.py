"""A seeder that knows when it has done enough, and a receiver that passes on what it got."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, sha256, share

pytestmark = pytest.mark.e2e


def test_a_share_ends_when_enough_peers_are_complete(processes: Processes, tmp_path: Path) -> None:
    one, two = (random_file(tmp_path / name, MIB, seed) for seed, name in enumerate(("one", "two")))
    sharer = processes.swarm("share", one, two, *LOOPBACK, "--copies", "2", name="sharer")
    address = sharer.address()
    links = [line for line in sharer.lines() if line.startswith("swarm:")]
    assert len(links) == 2
    outputs = []
    for number in range(2):
        # Both are fetched by one process of each receiver, with one of the links from a list.
        listed = tmp_path / f"list{number}"
        listed.write_text(f"# two of them\n{links[1]}\n")
        output = tmp_path / f"out{number}"
        receiver = processes.swarm(
            "fetch", links[0], "-i", listed, "-o", output, *LOOPBACK, name=f"r{number}"
        )
        receiver.expect_exit(0)
        assert sorted(receiver.lines()) == [str(output / "one"), str(output / "two")]
        outputs.append(output)
        if not number:
            assert sharer.exit_code is None, "one peer is not enough"
    sharer.expect_exit(0, within=20)
    assert sharer.errors().count("has all of one\n") == 2
    assert sharer.errors().count("has all of two\n") == 2
    assert sharer.errors().splitlines()[-1] == "no longer seeding: 2 peers have all of it"
    assert {sha256(output / "one") for output in outputs} == {sha256(one)}
    assert "/p2p/" in address


def test_a_peer_that_had_everything_before_is_no_copy(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    first = share(processes, data, name="first")
    fetch(processes, first.link, tmp_path / "out", name="receiver").expect_exit(0)
    first.process.stop()
    second = share(processes, data, "--copies", "1", name="second")
    # It is complete already, dials the sharer, and waits.
    again = fetch(processes, second.link, tmp_path / "out", "--seed", name="receiver")
    again.event("fetched_seeded")
    third = fetch(processes, second.link, tmp_path / "out3", name="third")
    third.expect_exit(0)
    second.process.expect_exit(0, within=20)
    assert second.process.errors().count("complete: ") == 1


def test_a_share_ends_after_its_ratio_or_its_time(processes: Processes, tmp_path: Path) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    ratio = share(processes, data, "--ratio", "1", name="ratio")
    timed = processes.swarm("share", data, *LOOPBACK, "--for", "1s", name="timed")
    fetch(processes, ratio.link, tmp_path / "out", name="receiver").expect_exit(0)
    ratio.process.expect_exit(0, within=20)
    assert ratio.process.errors().splitlines()[-1] == "no longer seeding: 1 times its size was sent"
    timed.expect_exit(0, within=20)
    assert timed.errors().splitlines()[-1] == "no longer seeding: 1s are over"


def test_what_was_fetched_is_passed_on_by_the_link_that_the_receiver_prints(
    processes: Processes, tmp_path: Path
) -> None:
    data = random_file(tmp_path / "data.bin", MIB)
    sharer = share(processes, data, "--copies", "1", name="sharer")
    relay = processes.swarm(
        "fetch", sharer.link, "-o", tmp_path / "a", "--seed", "--copies", "1", *LOOPBACK, name="relay"
    )
    link = relay.line("^swarm:.*").group(0)
    assert relay.lines()[0] == str(tmp_path / "a" / "data.bin")
    relay.line("others fetch it with: swarm fetch 'swarm:", stderr=True)
    assert relay.address() in link
    sharer.process.expect_exit(0, within=20)
    fetch(processes, link, tmp_path / "b", name="last").expect_exit(0)
    assert sha256(tmp_path / "b" / "data.bin") == sha256(data)
    relay.expect_exit(0, within=20)


def test_both_ends_meet_at_one_helper_that_both_dial(processes: Processes, tmp_path: Path) -> None:
    """Nobody can dial the sharer or the receiver: they know only a helper, which may have nothing."""
    data = random_file(tmp_path / "data.bin", MIB)
    sharer = share(processes, data, name="sharer")
    sharer.process.stop()
    helper = processes.swarm(
        "fetch", sharer.manifest, "--seed", "-o", tmp_path / "helper", *LOOPBACK, "--json", name="helper"
    )
    address = helper.address()
    dialling = processes.swarm("share", data, *LOOPBACK, "--peer", address, name="sharer")
    receiver = fetch(processes, sharer.manifest, tmp_path / "out", address, name="receiver")
    receiver.expect_exit(0)
    assert sha256(tmp_path / "out" / "data.bin") == sha256(data)
    assert dialling.exit_code is None
