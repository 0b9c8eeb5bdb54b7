"""Peers that find each other in a network: hosts on a bridge, what goes over it, and what does not."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from swarm.ids import ManifestId
from swarm.protocol.dns_message import decode_message
from swarm.protocol.lan_records import OWN_SERVICE, Sighting, sightings
from tests.netns.capture import ALL_PROTOCOLS, BUFFER_BYTES, SO_RCVBUFFORCE
from tests.netns.network import Network, why_unavailable
from tests.support.processes import Processes, Running
from tests.support.requirements import require
from tests.support.running import EVENT_KEY

pytestmark = pytest.mark.e2e
BITS = 200_000_000
SIZE = 3_000_000
WIRE_SECONDS = 20.0
"""How long a test waits for a packet."""
MARK = b"what was sent before this has left"


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    why = why_unavailable()
    require(not why, why)


SHOW_ADDRESSES = """
import swarm, trio

async def main():
    options = swarm.NodeOptions(listen=("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"), lan=False)
    async with swarm.open_node(options) as node:
        shown = ()
        while True:
            if node.addresses != shown:
                shown = node.addresses
                print(*shown, flush=True)
            await trio.sleep(0.05)

trio.run(main)
"""
"""A node that does not look around in its networks; a line with its addresses whenever they are others."""


class Capture:
    """The UDP and TCP packets that a socket sees, IP headers first."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def until(self, last: Callable[[bytes], object]) -> list[bytes]:
        """All packets, once one has come of which ``last`` is true.

        What a process has sent may still be on its way when the process has ended.
        """
        packets: list[bytes] = []
        self._wire.settimeout(WIRE_SECONDS)
        while not packets or not last(packets[-1]):
            packets.append(self._wire.recv(1 << 16))
        self._wire.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                packets.append(self._wire.recv(1 << 16))
        return packets


class Lan:
    """Hosts with a node each; what crosses the bridge is seen on the first host's interface."""

    def __init__(self, network: Network, processes: Processes) -> None:
        self.network = network
        self.processes = processes

    def swarm(self, host: int, *arguments: str | Path, lan: bool = True, name: str | None = None) -> Running:
        optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
        argv = self.network.inside(host, sys.executable, *optimize, "-m", "swarm", *arguments)
        env = {"SWARM_NO_LAN": "0" if lan else "1"}
        return self.processes.command(argv, name=name or f"host{host}", env=env)

    def share(self, host: int, *arguments: str, seed: int = 1, **options: bool) -> tuple[Running, str]:
        """Share a file of this host; returns the process and the id, once it is announced."""
        path = self.processes.work(f"host{host}") / "file.bin"
        path.write_bytes(random.Random(seed).randbytes(SIZE))
        share = self.swarm(host, "share", path, "--json", *arguments, **options)
        return share, str(share.event("path_shared")["manifest"])

    @contextmanager
    def captured(self, host: int) -> Iterator[Capture]:
        """The packets on a host's interface."""
        kind = socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS)
        with self.network.socket(host, *kind) as wire:
            wire.bind(("eth0", ALL_PROTOCOLS))
            wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            yield Capture(wire)


@pytest.fixture
def lan(processes: Processes) -> Iterator[Lan]:
    with Network(4, bits=BITS) as network:
        yield Lan(network, processes)


def multicast(packets: list[bytes]) -> list[bytes]:
    """The payloads of multicast DNS over IPv4 among the packets."""
    found = []
    for packet in packets:
        if packet[0] == 0x45 and packet[9] == socket.IPPROTO_UDP and packet[16:20] == bytes((224, 0, 0, 251)):
            found.append(packet[28 : 20 + struct.unpack_from("!H", packet, 24)[0]])
    return found


def test_an_id_is_enough_on_a_lan_and_nothing_there_tells_what_is_fetched(lan: Lan) -> None:
    with lan.captured(1) as wire:
        share, manifest = lan.share(0)
        fetches = [lan.swarm(host, "fetch", manifest, "--json") for host in (1, 2, 3)]
        inspected = lan.swarm(1, "inspect", manifest, "--json", name="inspect")
        inspected.expect_exit(0)
        assert inspected.event("manifest_inspected")["size"] == SIZE
        for fetch in fetches:
            fetch.event("peer_found", provenance="lan")
            fetch.expect_exit(0)
            path = fetch.cwd / "file.bin"
            assert path.read_bytes() == random.Random(1).randbytes(SIZE)
        share.terminate()
        share.expect_exit(143)
        me = share.event("node_listening")["peer"]

        def seen(packets: list[bytes]) -> list[Sighting]:
            told = [
                each for data in multicast(packets) for each in sightings(decode_message(data), [OWN_SERVICE])
            ]
            return [each for each in told if each.peer == me]

        # At the end it took its leave.
        packets = wire.until(lambda packet: any(each.ttl == 0 for each in seen([packet])))
    assert len(packets) > SIZE / 1500
    secret = ManifestId.parse(manifest)
    for spelling in (secret.digest, manifest.encode(), secret.digest.hex().encode()):
        assert not any(spelling in packet for packet in packets)
    own = seen(packets)
    # Only the addresses of this network.
    assert {endpoint.host for each in own for endpoint in each.endpoints if endpoint.kind == "ip4"} == {
        lan.network.address(0)
    }
    assert not any(each.instance[0] in str(me).encode() for each in own)
    assert [each.ttl for each in own][-1] == 0


def test_who_is_near_is_listed_until_it_leaves(lan: Lan) -> None:
    share, _manifest = lan.share(0)
    seen = lan.swarm(1, "peers", "--json")
    seen.expect_exit(0)
    (near,) = seen.events("peer_seen")
    assert near["peer"] == share.event("node_listening")["peer"]
    assert near["source"] == "lan"
    assert any(address.startswith(f"/ip4/{lan.network.address(0)}/tcp/") for address in near["addresses"])
    assert near["seconds"] is not None
    table = lan.swarm(1, "peers")
    table.expect_exit(0)
    assert table.line(r"12D3Koo\w+ +\S+ +lan +/ip4/198\.18\.0\.1/tcp/\d+")
    share.terminate()
    share.expect_exit(143)
    gone = lan.swarm(1, "peers", "--for", "1s")
    gone.expect_exit(4)
    assert "nobody was found near" in gone.errors()


def test_who_finds_a_share_on_the_lan_is_not_told_what_it_has(lan: Lan) -> None:
    share, _ = lan.share(0)
    listed, _ = lan.share(1, "--listed", seed=2)
    hidden, _ = lan.share(2, "--no-lan", "--unlisted", seed=3)
    open_to_all, _ = lan.share(3, "--no-lan", seed=4)
    # From another machine, and from the share's own by the address that others use.
    for host, peer, manifests in (
        (1, share, 0),
        (0, share, 1),
        (0, listed, 1),
        (0, hidden, 0),
        (0, open_to_all, 1),
    ):
        listing = lan.swarm(host, "list", peer.address(), "--json", name=f"listing{host}{peer.name}")
        listing.expect_exit(0)
        assert listing.event("peer_listed")["manifests"] == manifests, (host, peer.name)


def test_a_peer_that_has_other_content_says_no_more_than_no(lan: Lan) -> None:
    share, manifest = lan.share(0)
    other = str(ManifestId(bytes(32)))
    fetch = lan.swarm(1, "fetch", other, "--patience", "3", "--json")
    fetch.expect_exit(5)
    assert "does not have it" in fetch.errors()
    assert manifest not in "".join((*fetch.lines(), fetch.errors()))
    assert not share.events("peer_connected")


@pytest.mark.parametrize("how", ["--no-lan", "--allow"])
def test_with_everything_off_nothing_is_sent(lan: Lan, how: str) -> None:
    allowed = ["--allow", "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"]
    with lan.captured(0) as wire, lan.network.socket(0, socket.AF_INET, socket.SOCK_DGRAM) as ours:
        share, _ = lan.share(0, *(allowed if how == "--allow" else [how]))
        # Somebody asks around meanwhile, and gets no answer.
        lan.swarm(1, "peers", "--for", "1s").expect_exit(4)
        share.terminate()
        share.expect_exit(143)
        ours.sendto(MARK, (lan.network.address(1), 9))
        packets = wire.until(lambda packet: MARK in packet)
    host = socket.inet_aton(lan.network.address(0))
    sent = [packet for packet in packets if packet[0] >> 4 == 4 and packet[12:16] == host]
    # The kernel itself joins and leaves groups (IGMP); a program speaks UDP or TCP.
    spoken = [packet for packet in sent if packet[9] in {socket.IPPROTO_UDP, socket.IPPROTO_TCP}]
    assert [packet for packet in spoken if MARK not in packet] == []


def test_peers_over_ipv6_are_told_apart(lan: Lan) -> None:
    """A share sees the IPv6 address of each receiver, that of a link-local one with its zone."""
    for host in range(3):
        where = f"2001:db8:{host + 1}::1/32"
        address = lan.network.inside(host, "ip", "address", "add", where, "dev", "eth0", "nodad")
        subprocess.run(address, check=True, capture_output=True)
    share, _ = lan.share(0, "--listen", "/ip6/::/tcp/0")
    path = share.event("path_shared")
    port = path["link"].partition("/tcp/")[2].partition("/")[0]
    shown = json.loads(
        subprocess.run(
            lan.network.inside(0, "ip", "-json", "-6", "address", "show", "dev", "eth0", "scope", "link"),
            check=True,
            capture_output=True,
        ).stdout
    )
    own = next(each["local"] for link in shown for each in link.get("addr_info", ()) if "local" in each)
    me = share.event("node_listening")["peer"]
    ways = {
        1: f"/ip6/2001:db8:1::1/tcp/{port}/p2p/{me}",
        2: f"/ip6/2001:db8:1::1/tcp/{port}/p2p/{me}",
        3: f"/ip6zone/eth0/ip6/{own}/tcp/{port}/p2p/{me}",
    }
    for host, way in ways.items():
        # Only what is named: a name of the IPv4 network leads nowhere here.
        lan.swarm(host, "fetch", path["manifest"], way, "--json", lan=False).expect_exit(0)
    connected = share.events_until("peer_connected", len(ways))
    came = {event["address"].rpartition("/tcp/")[0] for event in connected}
    assert {"/ip6/2001:db8:2::1", "/ip6/2001:db8:3::1"} < came
    assert any(each.startswith("/ip6zone/eth0/ip6/fe80::") for each in came)
    assert len(came) == 3


def test_who_starts_first_finds_who_comes_later(lan: Lan) -> None:
    path = lan.processes.work("host0") / "file.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    known = lan.swarm(0, "share", path, "--json", lan=False)
    manifest = str(known.event("path_shared")["manifest"])
    known.terminate()
    known.expect_exit(143)
    fetch = lan.swarm(1, "fetch", manifest, "--json")
    awaited = fetch.event("peers_awaited")
    assert "nobody has been found" in awaited["reason"]
    share, _ = lan.share(0)
    fetch.expect_exit(0)
    assert fetch.event("path_fetched")[EVENT_KEY]
    share.stop()


def test_an_interface_that_comes_later_is_used(lan: Lan) -> None:
    def link(state: str) -> None:
        subprocess.run(lan.network.inside(0, "ip", "link", "set", "eth0", state), check=True)

    link("down")
    share, manifest = lan.share(0)
    fetch = lan.swarm(1, "fetch", manifest, "--json")
    fetch.event("peers_awaited")
    link("up")
    found = fetch.event("peer_found", peer=share.event("node_listening")["peer"])
    assert found["provenance"] == "lan"
    fetch.expect_exit(0)


def test_a_burst_of_new_interfaces_ends_no_share(lan: Lan) -> None:
    share, manifest = lan.share(0)
    # More news than the system keeps for a program that lets them settle.
    burst = "".join(
        f"link add v{number} type veth peer name w{number}\nlink set v{number} up\nlink set w{number} up\n"
        for number in range(40)
    )
    subprocess.run(lan.network.inside(0, "ip", "-batch", "-"), input=burst, text=True, check=True)
    fetch = lan.swarm(1, "fetch", manifest, "--json")
    fetch.expect_exit(0)
    share.stop()


def test_a_node_names_the_addresses_that_its_machine_has_now(lan: Lan) -> None:
    def address(change: str, ip: str) -> None:
        subprocess.run(lan.network.inside(0, "ip", "address", change, ip, "dev", "eth0"), check=True)

    argv = lan.network.inside(0, sys.executable, "-c", SHOW_ADDRESSES)
    node = lan.processes.command(argv, name="moves")
    before = node.line(r"^/ip4/([^/]+)/tcp/").group(1)
    address("add", "10.9.8.7/24")
    node.line(f"/ip4/{before}/.*/ip4/10.9.8.7/|/ip4/10.9.8.7/.*/ip4/{before}/")
    address("add", "fd00:9::7/64")
    address("del", f"{before}/24")
    node.line(rf"^(?!.*/ip4/{before}/).*/ip6/fd00:9::7/")


def test_what_strangers_say_does_not_hide_why_the_named_peer_is_away(lan: Lan) -> None:
    """Peers that only happen to be near change neither what is told nor how the command ends."""
    seeder, _ = lan.share(0)
    link = str(seeder.event("path_shared")["link"])
    manifest = next(seeder.cwd.glob("*.swarm"))
    seeder.terminate()
    seeder.expect_exit(143)
    stranger, _ = lan.share(1, seed=2)
    stranger.address()
    for number, what in enumerate((link, manifest)):
        fetch = lan.swarm(
            2, "fetch", what, "--output", f"no{number}", "--patience", "6", "--json", name=f"me{number}"
        )
        fetch.expect_exit(4)
        near = fetch.event("peer_found", provenance="lan")
        assert near["peer"] == stranger.address().rpartition("/p2p/")[2]
        assert "Connection refused" in fetch.event("peers_awaited")["reason"]
        (told,) = fetch.errors().splitlines()
        assert told.startswith("swarm: no peer could be reached in 6 s: ")
        assert "Connection refused" in told


def test_a_named_peer_that_refuses_is_told_before_strangers(lan: Lan) -> None:
    seeder, _ = lan.share(0, "--allow", "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
    link = str(seeder.event("path_shared")["link"])
    manifest = next(seeder.cwd.glob("*.swarm"))
    peer = seeder.address().rpartition("/p2p/")[2]
    stranger, _ = lan.share(1, seed=2)
    stranger.address()
    for number, what in enumerate((link, manifest)):
        fetch = lan.swarm(
            2, "fetch", what, "--output", f"no{number}", "--patience", "6", "--json", name=f"me{number}"
        )
        fetch.expect_exit(5)
        fetch.event("peer_found", provenance="lan")
        (told,) = fetch.errors().splitlines()
        for reason in (fetch.event("peers_awaited")["reason"], told):
            assert peer in reason
            assert "--allow" in reason
        assert "is kept" not in told


def test_an_untrusted_signer_is_told_at_once_whoever_else_is_near(lan: Lan) -> None:
    seeder, _ = lan.share(0)
    link = str(seeder.event("path_shared")["link"])
    signer = str(seeder.event("manifest_ready")["signer"])
    stranger, _ = lan.share(1, seed=2)
    stranger.address()
    fetch = lan.swarm(
        2, "fetch", link, "--trust", "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo", "--json"
    )
    fetch.expect_exit(3, within=15)
    fetch.event("peer_found", provenance="lan")
    assert f"signed by {signer}, which is not a signer you trust" in fetch.errors()
    assert signer in fetch.event("peers_awaited")["reason"]
