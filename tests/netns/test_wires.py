"""All ways to find and reach peers at once, while strangers lie: what is on the wires, and what never is."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarm.ids import ManifestId
from swarm.reach.kad_messages import key_of
from swarm.reach.rendezvous_messages import namespace_of
from tests.netns.capture import Packet, frames, packets, spellings, told
from tests.netns.nats import HOMES, PUBLIC, ROUTERS
from tests.netns.test_port_mapping import Home, home, tools
from tests.support.lying_stranger import LIE_PORT
from tests.support.requirements import MAY_INSTALL
from tests.support.running import Running

pytestmark = [pytest.mark.e2e, MAY_INSTALL]
__all__ = ["tools"]
ROOT = str(Path(__file__).parents[2])
ROUTER_PORTS = {("udp", 5351), ("udp", 1900)}
LAN = {"SWARM_NO_LAN": "0"}


@contextmanager
def captured(here: Home, *hosts: str) -> Iterator[dict[str, Path]]:
    """The frames of some namespaces, complete when the block ends."""
    files = {host: here.folder / f"frames-{host}" for host in hosts}
    sniffers = []
    for host, path in files.items():
        argv = here.nats.inside(host, sys.executable, "-m", "tests.netns.capture", path)
        sniffers.append(here.processes.command(argv, env={"PYTHONPATH": ROOT}))
    for each in sniffers:
        each.line("capturing")
    yield files
    for each in sniffers:
        each.stop()


def stranger(here: Home, port: int, *meeting: str) -> Running:
    program = [sys.executable, "-m", "tests.support.lying_stranger", str(port), *meeting]
    return here.processes.command(here.nats.inside("public", *program), env={"PYTHONPATH": ROOT})


def known_as(stranger: Running) -> str:
    return stranger.line(rf"^STRANGER (/ip4/{re.escape(PUBLIC)}/\S+)").group(1)


def leave(of: set[Packet], host: str) -> set[Packet]:
    """Those of the packets that a home sends, but for what stays in its own scope by design."""
    own, router = f"{HOMES[host]}.10", f"{HOMES[host]}.1"
    return {
        each
        for each in of
        if each.source == own
        and not ipaddress.ip_address(each.destination).is_multicast
        and not (each.destination == router and (each.protocol, each.port) in ROUTER_PORTS)
    }


def test_with_everything_on_the_wires_tell_no_id_and_no_stranger_leads_into_a_private_network(
    tmp_path: Path,
) -> None:
    with home(tmp_path) as here, captured(here, "a", "b", "wan") as files:
        here.begin_router("PCP")
        hidden = here.folder / "hidden.bin"
        hidden.write_bytes(b"hidden" * 10_000)
        meet = here.swarm("public", "meet", "-l", "/ip4/0.0.0.0/tcp/4001", name="meet")
        table = stranger(here, 4010)
        meeting = meet.line(rf"(/ip4/{re.escape(PUBLIC)}/\S+)").group(1)
        met, entry = ("--meet", meeting, "--json"), ("--dht", known_as(table), "--json")
        share = here.swarm("a", "share", here.content, *met, *entry[:2], name="share", **LAN)
        # Without a port of the router: found at the meeting point, reached through its relay and by a punch.
        punched = here.swarm("a", "share", hidden, *met, "--no-map-port", name="punched")
        other = str(punched.event("path_shared")["manifest"])
        liar = stranger(here, 4011, meeting, other)
        manifest = str(share.event("path_shared")["manifest"])
        near = here.swarm("ra", "fetch", manifest, "--json", name="near", **LAN)
        near.event("peer_found", provenance="lan")
        # Over before the next begins: peers of one content name each other, private addresses too (exchange).
        near.expect_exit(0)
        table.line("^TOLD ")
        far = here.swarm("b", "fetch", manifest, *entry, name="far", **LAN)
        liar.line("^REGISTERED")
        fetch = here.swarm("b", "fetch", other, *met, name="other")
        far.event("peer_found", provenance="dht")
        fetch.event("peer_found", provenance="meeting", peer=known_as(liar).rpartition("/")[2])
        for running in (far, fetch):
            running.expect_exit(0)
        for running in (share, punched):
            running.terminate()
            running.expect_exit(143)
        assert table.lines("^ASKED")
        said = {line.split()[1].rpartition("/p2p/")[0] for line in table.lines("^TOLD ")}
    assert {where.split("/")[2] for where in said} == {ROUTERS["a"]}
    seen = {host: packets(path) for host, path in files.items()}
    assert all(each.port != LIE_PORT for of in seen.values() for each in of)
    assert {each.destination for each in leave(seen["a"], "a")} <= {PUBLIC, ROUTERS["b"], f"{HOMES['a']}.1"}
    assert {each.destination for each in leave(seen["b"], "b")} <= {PUBLIC, ROUTERS["a"]}
    wires = b"".join(path.read_bytes() for path in files.values())
    assert len(wires) > 4 * here.content.stat().st_size
    secrets = {here.content.name.encode(), hidden.name.encode()}
    for each in map(ManifestId.parse, (manifest, other)):
        secrets |= {*spellings(each), namespace_of(each).encode(), key_of(each)[2:]}
    assert told(wires, secrets) == set()
    # They would have been seen.
    assert all(told(b"..." + each[: len(each) // 2], secrets) >= {each} for each in secrets)


def test_with_everything_off_nothing_is_sent_through_a_router(tmp_path: Path) -> None:
    with home(tmp_path) as here, captured(here, "a") as files:
        here.begin_router("PCP")
        off = ("--no-lan", "--no-map-port")
        share = here.swarm("a", "share", here.content, *off, "--json", name="share", **LAN)
        share.event("path_shared")
        share.terminate()
        share.expect_exit(143)
    assert frames(files["a"])
    own = {f"{HOMES['a']}.10", "127.0.0.1", "::1"}
    assert [each for each in packets(files["a"]) if each.source in own] == []
