"""Two homes behind translators and one public meeting point: direct connections, and what happens without."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.ids import ManifestId
from swarm.reach.rendezvous_messages import namespace_of
from tests.netns.capture import destinations, frames
from tests.netns.nats import CONE, PUBLIC, ROUTERS, SYMMETRIC, Nats
from tests.netns.network import why_unavailable
from tests.support.processes import Processes, Running
from tests.support.requirements import MAY_INSTALL, require, require_program

pytestmark = MAY_INSTALL
MIB = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)
    require_program("nft", "nftables")
    require_program("ethtool")


class Field:
    """A meeting point, and what runs at home."""

    def __init__(self, nats: Nats, processes: Processes, folder: Path, *, size: int = 2 * MIB) -> None:
        self.nats = nats
        self.processes = processes
        self.folder = folder
        self.content = folder / "content.bin"
        self.content.write_bytes(os.urandom(size))

    def swarm(self, host: str, *arguments: str | Path, name: str) -> Running:
        command = self.nats.inside(host, sys.executable, "-m", "swarm", *arguments)
        home = str(self.processes.home(name))
        return self.processes.command(command, name=name, env={"SWARM_HOME": home, "SWARM_NO_LAN": "1"})

    def meet(self, *arguments: str) -> tuple[Running, str]:
        running = self.swarm("public", "meet", "-l", "/ip4/0.0.0.0/tcp/4001", *arguments, name="meet")
        return running, running.line(rf"(/ip4/{re.escape(PUBLIC)}\S+)").group(1)

    def share(self, meeting: str, *arguments: str) -> tuple[Running, str]:
        running = self.swarm("a", "share", self.content, "--meet", meeting, "-v", *arguments, name="share")
        return running, running.line(r"^(swarm:\S+)$").group(1)

    def fetch(self, link: str, name: str, *arguments: str) -> Running:
        output = self.folder / name
        return self.swarm("b", "fetch", link, "-o", output, "-v", *arguments, name=name)

    def assert_fetched(self, name: str) -> None:
        assert (self.folder / name / self.content.name).read_bytes() == self.content.read_bytes()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as made:
        yield made


@pytest.mark.e2e
def test_behind_two_cones_the_connection_is_direct(processes: Processes, tmp_path: Path) -> None:
    with Nats(CONE, CONE) as nats, processes:
        field = Field(nats, processes, tmp_path)
        _, meeting = field.meet()
        share, link = field.share(meeting)
        assert f"meet={meeting}" in link
        for number in range(2):
            fetch = field.fetch(link, f"fetch{number}")
            fetch.expect_exit(0, within=30)
            field.assert_fetched(f"fetch{number}")
            # Not through the relay, and never over the private address of the link.
            assert f"at /ip4/{ROUTERS['a']}/tcp/" in fetch.line("connected to", stderr=True).string
        assert "p2p-circuit" not in share.line("connected from", stderr=True).string


@pytest.mark.e2e
def test_an_id_is_enough_and_the_wires_tell_nothing(processes: Processes, tmp_path: Path) -> None:
    with Nats(CONE, CONE) as nats, processes:
        field = Field(nats, processes, tmp_path)
        captured = tmp_path / "frames"
        sniffer = processes.command(
            nats.inside("wan", sys.executable, "-m", "tests.netns.capture", captured),
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        sniffer.line("capturing")
        _, meeting = field.meet()
        _, link = field.share(meeting)
        manifest = link.removeprefix("swarm:").partition("?")[0]
        fetch = field.fetch(manifest, "fetch", "--meet", meeting)
        fetch.expect_exit(0, within=30)
        field.assert_fetched("fetch")
        # The private address of the other home was not published, and nobody tried to dial one.
        found = fetch.line("found", stderr=True).string
        assert "192.168." not in found
        assert "p2p-circuit" in found
        sniffer.stop()
        # What comes in from a home is not counted: routers translate before the wan.
        assert destinations(captured) == {PUBLIC, *ROUTERS.values()}
        wires = b"".join(frames(captured))
        identifier = ManifestId.parse(manifest)
        for secret in (manifest.encode(), identifier.digest, namespace_of(identifier).encode()):
            assert secret not in wires
        assert len(wires) > field.content.stat().st_size


@pytest.mark.e2e
def test_with_a_symmetric_side_one_line_says_what_would_help(processes: Processes, tmp_path: Path) -> None:
    with Nats(CONE, SYMMETRIC) as nats, processes:
        field = Field(nats, processes, tmp_path)
        _, meeting = field.meet("--relay-limit", "0", "--relay-time", "1h")
        _, link = field.share(meeting)
        fetch = field.fetch(link, "fetch", "--patience", "12")
        # One side alone does not decide that pieces go through the relay.
        lone = field.fetch(link, "lone", "--patience", "12", "--relay-data")
        # The three attempts take 7.2 s, beside the start of two programs; after 12 s it would have given up.
        line = fetch.line("waiting up to", stderr=True).string
        assert "--relay-data on both" in line
        fetch.expect_exit(4, within=30)
        assert "--relay-data on both" in fetch.errors().splitlines()[-1]
        lone.expect_exit(4, within=30)
        assert "if both sides use --relay-data" in lone.errors().splitlines()[-1]


@pytest.mark.e2e
def test_with_relay_data_on_both_sides_pieces_go_through_the_relay(
    processes: Processes, tmp_path: Path
) -> None:
    with Nats(CONE, SYMMETRIC) as nats, processes:
        field = Field(nats, processes, tmp_path)
        _, meeting = field.meet("--relay-limit", "0", "--relay-time", "1h")
        _, link = field.share(meeting, "--relay-data")
        fetch = field.fetch(link, "fetch", "--relay-data")
        fetch.expect_exit(0, within=60)
        field.assert_fetched("fetch")
        assert "p2p-circuit" in fetch.line("connected to", stderr=True).string


@pytest.mark.e2e
def test_a_seeder_leads_two_leechers_behind_cones_to_each_other(processes: Processes, tmp_path: Path) -> None:
    with Nats(CONE, CONE) as nats, processes:
        field = Field(nats, processes, tmp_path)
        # No meeting point: the seeder is all that both know. It is slow, so that they have use of each other.
        share = field.swarm("public", "share", field.content, "--upload-limit", "512KiB", name="share")
        link = share.line(r"^(swarm:\S+)$").group(1)
        fetches = [field.swarm(home, "fetch", link, "-o", tmp_path / home, "-v", name=home) for home in "ab"]
        for home, fetch in zip("ba", fetches, strict=True):
            met = fetch.line(rf"connected (to|from) \S+ at /ip4/{re.escape(ROUTERS[home])}/", stderr=True)
            assert "p2p-circuit" not in met.string
        for home, fetch in zip("ab", fetches, strict=True):
            fetch.expect_exit(0, within=30)
            field.assert_fetched(home)
            assert "from 2 peers" in fetch.line(r"fetched 2.0MiB", stderr=True).string
