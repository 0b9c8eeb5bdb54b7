"""What public sources may name and are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from swarm.discovery.peer_sources import announce_to, peers_of
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, FoundPeer
from swarm.strategy.peer_book import DHT, LAN, MEETING

MANIFEST = ManifestId(bytes(32))
NEAR, FAR = "/ip4/192.168.1.7/tcp/4001", "/ip4/5.5.5.7/tcp/4001"


class Telling:
    """Names one peer at a near and a far address, and keeps what it is told."""

    def __init__(self, provenance: str) -> None:
        self.provenance = provenance
        self.told: list[Announcement] = []

    async def peers(self, manifest: ManifestId) -> AsyncIterator[FoundPeer]:
        yield FoundPeer(PeerId("ann"), (NEAR, FAR, "/dns4/router.lan/tcp/80"))

    def announce(self, announcement: Announcement) -> None:
        self.told.append(announcement)

    def withdraw(self, manifest: ManifestId) -> None:
        pass


@pytest.mark.parametrize("provenance", [MEETING, DHT, LAN, "tracker"])
async def test_public_sources_know_and_name_public_addresses_alone(provenance: str) -> None:
    public = provenance in {MEETING, DHT}
    source = Telling(provenance)
    (found,) = [each async for each in peers_of(source, MANIFEST)]
    assert found.addresses == ((FAR,) if public else (NEAR, FAR, "/dns4/router.lan/tcp/80"))
    announce_to(source, Announcement(MANIFEST, (f"{NEAR}/p2p/me", f"{FAR}/p2p/me"), complete=True))
    (told,) = source.told
    assert told.addresses == ((f"{FAR}/p2p/me",) if public else (f"{NEAR}/p2p/me", f"{FAR}/p2p/me"))
