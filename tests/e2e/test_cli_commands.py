"""The commands as real processes: what they print, when they end, and with which exit code."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK, MIB, random_file, share

pytestmark = pytest.mark.e2e

NOBODY = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
# The promise is two seconds; the rest is for a machine that does other things too.
EXIT_LIMIT = 3.0


def one_line(running: Running, code: int, *words: str) -> None:
    """The process ended with ``code`` and said why in one line that has all of ``words``."""
    running.expect_exit(code)
    lines = running.errors().splitlines()
    assert [line for line in lines if line.startswith("swarm: ")] == lines[-1:]
    for word in words:
        assert word in lines[-1]
    assert "Traceback" not in running.errors()


def test_two_terminals_of_the_ping_tutorial(processes: Processes) -> None:
    node = processes.swarm("listen", *LOOPBACK, name="node")
    address = node.address()
    assert re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/[1-9]\d*/p2p/12D3KooW\w+", address)
    for target in (address, address.replace("/p2p/", "/ipfs/")):
        ping = processes.swarm("ping", target)
        ping.expect_exit(0)
        own, start, *answers, summary = [line for line in ping.lines() if "127.0.0.1" in line]
        assert own.startswith("libp2p node address: /ip4/127.0.0.1/tcp/")
        assert start == f"sending 5 ping messages to {target}"
        assert len(answers) == 5
        for answer in answers:
            assert re.fullmatch(rf"pinged {target} in \d+(\.\d{{3}})?(ns|µs|ms|s)", answer)
        assert summary.startswith(f"{target}: 5 sent, 0 lost, min/median/max ")
    node.interrupt()
    node.expect_exit(130, within=EXIT_LIMIT)
    assert node.errors() == ""


def test_peers_are_pinged_side_by_side_and_one_answer_is_enough(processes: Processes) -> None:
    nodes = [processes.swarm("listen", *LOOPBACK) for _ in range(2)]
    addresses = [node.address() for node in nodes]
    ping = processes.swarm("ping", *addresses, NOBODY, "--count", "2", "--interval", "1.5", "--json")
    ping.expect_exit(0)
    order = [event["address"] for event in ping.events("peer_pinged")]
    assert sorted(order[:2]) == sorted(addresses), "the second peer did not wait for the first"
    for address in addresses:
        (summary,) = [event for event in ping.events("ping_summary") if event["address"] == address]
        assert (summary["sent"], summary["lost"]) == (2, 0)
        assert 0 < summary["min"] <= summary["median"] <= summary["max"]


def test_nobody_there_is_exit_code_4(processes: Processes) -> None:
    for arguments in (("ping", NOBODY), ("list", NOBODY)):
        one_line(processes.swarm(*arguments), 4, "127.0.0.1")


def test_what_share_prints_is_what_the_other_commands_take(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "two words.bin", 300_000)
    seeder = share(processes, source, "--piece-size", "16KiB", name="seeder")
    lines = seeder.process.lines()
    assert lines[0] == "two words.bin.swarm"
    manifest, cid = seeder.process.cwd / lines[0], lines[1]
    assert lines[2].startswith(f"swarm:{cid}?name=two%20words.bin&peer=")
    assert lines[3:] == [f"libp2p node address: {seeder.address}"]

    listing = processes.swarm("list", seeder.address)
    listing.expect_exit(0)
    assert re.split(r" {2,}", listing.lines()[-1]) == [cid, "two words.bin", "293.0KiB", "19", "100.0%"]

    who = processes.swarm("id", name="seeder")
    who.expect_exit(0)
    # The id of the machine signs; what is shared is served under one of its own.
    assert who.lines() != [seeder.peer]

    inspect = processes.swarm("inspect", manifest)
    inspect.expect_exit(0)
    assert f"signed by:    {who.lines()[0]}" in inspect.lines()
    assert f"id:           {cid}" in inspect.lines()

    for number, what in enumerate((manifest, cid, seeder.link)):
        output = tmp_path / f"out {number}"
        fetch = processes.swarm("fetch", what, seeder.address, "--output", output, *LOOPBACK)
        fetch.expect_exit(0)
        assert fetch.lines() == [str(output / "two words.bin")]
        assert (output / "two words.bin").read_bytes() == source.read_bytes()
        assert "fetched 293.0KiB in " in fetch.errors()
    alone = processes.swarm("fetch", seeder.link, "--output", tmp_path / "by link", *LOOPBACK)
    alone.expect_exit(0)

    verify = processes.swarm("verify", manifest, output / "two words.bin")
    verify.expect_exit(0)
    with (output / "two words.bin").open("r+b") as file:
        file.seek(5 * 16384)
        file.write(b"!")
    verify = processes.swarm("verify", manifest, output / "two words.bin")
    one_line(verify, 6, "does not match", ": 1 piece bad")
    assert verify.lines() == ["two words.bin: the bytes differ, piece 5"]


def test_a_process_beside_the_first_has_an_identity_of_its_own(processes: Processes) -> None:
    first = processes.swarm("listen", *LOOPBACK, name="same")
    first.address()
    second = processes.swarm("listen", *LOOPBACK, name="same")
    assert first.address().rpartition("/")[2] != second.address().rpartition("/")[2]


@pytest.mark.parametrize(("name", "code"), [("interrupt", 130), ("terminate", 143)])
def test_share_ends_in_time(processes: Processes, tmp_path: Path, name: str, code: int) -> None:
    seeder = share(processes, random_file(tmp_path / "file", 100_000))
    start = time.monotonic()
    getattr(seeder.process, name)()
    seeder.process.expect_exit(code)
    assert time.monotonic() - start < EXIT_LIMIT
    hint, unquoted, warning = seeder.process.errors().splitlines()
    assert hint == f"others fetch it with: swarm fetch '{seeder.link}'"
    assert unquoted.startswith("or, where quotes get lost: swarm fetch swarm:")
    assert warning.startswith("warning: this node can be reached from this machine only")


def test_a_signal_while_hashing_ends_in_time(processes: Processes, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 30)
    hashing = processes.swarm("share", tmp_path / "large", *LOOPBACK, "--json", "--piece-size", "16MiB")
    hashing.event("hashing_progress")
    start = time.monotonic()
    hashing.interrupt()
    hashing.expect_exit(130)
    assert time.monotonic() - start < EXIT_LIMIT


def test_bad_manifests_are_exit_code_3(processes: Processes, tmp_path: Path) -> None:
    seeder = share(processes, random_file(tmp_path / "file", 100_000))
    data = bytearray(seeder.manifest.read_bytes())
    data[len(data) // 2] ^= 1
    broken = tmp_path / "broken.swarm"
    broken.write_bytes(data)
    for arguments in (
        ("inspect", broken),
        ("fetch", broken, seeder.address, "--output", tmp_path / "out"),
        ("fetch", f"{seeder.link}&peer=%zz", "--output", tmp_path / "out"),
    ):
        one_line(processes.swarm(*arguments), 3)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_fetch_from_nobody_is_exit_code_4(processes: Processes, tmp_path: Path) -> None:
    seeder = share(processes, random_file(tmp_path / "file", 100_000))
    # The manifest names the address of its sharer.
    seeder.process.kill()
    fetch = processes.swarm(
        "fetch", seeder.manifest, NOBODY, "--output", tmp_path / "out", "--patience", "1", *LOOPBACK
    )
    one_line(fetch, 4)


def test_pieces_that_nobody_has_are_exit_code_5_and_named(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "file", 4 * MIB)
    seeder = share(processes, source, "--piece-size", "1MiB", "--upload-limit", "600kB/s")
    half = processes.swarm(
        "fetch", seeder.manifest, seeder.address, "--output", tmp_path / "half", "--json=pieces", *LOOPBACK
    )
    half.events_until("piece_stored", 2)
    seeder.process.kill()
    last = processes.swarm(
        "fetch", seeder.manifest, half.address(), "--output", tmp_path / "last", "--patience", "3", *LOOPBACK
    )
    one_line(last, 5, "piece")
    have = {event["piece"] for event in half.events("piece_stored")}
    said = re.search(r"lacks (?:piece|\d pieces:) ([-0-9, ]+);", last.errors())
    assert said is not None, last.errors()
    named = set()
    for part in said.group(1).split(", "):
        first, _, end = part.partition("-")
        named |= set(range(int(first), int(end or first) + 1))
    assert named == set(range(4)) - have


def test_a_target_that_the_disk_refuses_is_exit_code_7(processes: Processes, tmp_path: Path) -> None:
    seeder = share(processes, random_file(tmp_path / "file", 100_000))
    where = tmp_path / "file" / "out"
    one_line(processes.swarm("fetch", seeder.manifest, seeder.address, "--output", where, *LOOPBACK), 7)


def test_two_fetches_of_one_target_are_exit_code_8(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "file", 4 * MIB)
    seeder = share(processes, source, "--piece-size", "64KiB", "--upload-limit", "300kB/s")
    arguments = ("fetch", seeder.manifest, seeder.address, "--output", tmp_path / "out", *LOOPBACK)
    first = processes.swarm(*arguments, "--json=pieces")
    first.event("piece_stored")
    one_line(processes.swarm(*arguments), 8)
    first.interrupt()
    first.expect_exit(130, within=EXIT_LIMIT)


def test_without_a_terminal_progress_is_a_line_now_and_then(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "file", 2 * MIB)
    seeder = share(processes, source, "--piece-size", "64KiB", "--upload-limit", "300kB/s")
    fetch = processes.swarm(
        "fetch", seeder.manifest, seeder.address, "--output", tmp_path / "out", "-vv", *LOOPBACK
    )
    fetch.expect_exit(0)
    lines = fetch.errors().splitlines()
    progress = [line for line in lines if line.startswith("fetching file: ")]
    assert 1 <= len(progress) <= 6
    assert re.fullmatch(
        r"fetching file: \d+\.\d%, \S+ of 2\.0MiB, (\S+ left, )?1 peer, \d+/32 pieces, "
        r"down \S+/s, up \S+ at \S+/s",
        progress[-1],
    )
    assert [line for line in lines if line.startswith("piece 7 asked of …")], "-vv says why"


def test_the_help_takes_less_than_a_fifth_of_a_second(tmp_path: Path) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "swarm", "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The time of the processor: what others do on this machine is not our doing.
    assert min(seconds() for _ in range(3)) < 0.2


def test_a_signal_asks_how_things_stand(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "image.bin", 8 * MIB)
    sharer = processes.swarm("share", source, *LOOPBACK, "--upload-limit", "150KB/s", name="sharer")
    link = sharer.line(r"swarm:\S+").group(0)
    out = tmp_path / "out"
    quiet = processes.swarm("fetch", link, "-q", "-o", out, *LOOPBACK, name="quiet")
    json = processes.swarm("fetch", link, "--json=pieces", "-o", tmp_path / "json", *LOOPBACK, name="json")
    json.events_until("piece_stored", 2)
    sharer.line("^seeding image.bin: 2 peers", stderr=True)
    before = len(json.events("transfer_progress"))
    for each in (sharer, quiet, json):
        each.signal(signal.SIGUSR1)
    json.events_until("transfer_progress", before + 1)
    sharer.line(r"^  PEER +HAS +DOWN +UP", stderr=True)
    quiet.line(r"^fetching image\.bin: [0-9.]+%", stderr=True)
    quiet.line(r"^  …\S+ +100%", stderr=True)
    assert {each.exit_code for each in (sharer, quiet, json)} == {None}
