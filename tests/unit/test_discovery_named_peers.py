"""The peers that the user named, as a source of peers."""

from __future__ import annotations

from swarm.discovery.named_peers import NamedPeers
from swarm.endpoint import Endpoint, PeerAddress
from swarm.ids import ManifestId, PeerId
from swarm.ports import Announcement, FoundPeer
from swarm.strategy.peer_book import NAMED

ID = ManifestId(bytes(32))
A, B = PeerId("A" * 40), PeerId("B" * 40)


def at(peer: PeerId, host: str) -> PeerAddress:
    return PeerAddress(peer, Endpoint.parse(f"/ip4/{host}/tcp/4001"))


async def test_each_peer_comes_once_with_all_its_addresses_in_their_order() -> None:
    given = [at(A, "192.0.2.2"), at(B, "192.0.2.3"), at(A, "192.0.2.1"), at(A, "192.0.2.2")]
    named = NamedPeers(given)
    assert [found async for found in named.peers(ID)] == [
        FoundPeer(A, ("/ip4/192.0.2.2/tcp/4001", "/ip4/192.0.2.1/tcp/4001")),
        FoundPeer(B, ("/ip4/192.0.2.3/tcp/4001",)),
    ]
    assert len(named) == 2
    assert named.provenance == NAMED


async def test_it_serves_several_transfers_and_ends_of_itself() -> None:
    named = NamedPeers([at(A, "192.0.2.1")])
    named.announce(Announcement(ID, (), complete=False))
    for _ in range(2):
        assert [found.peer async for found in named.peers(ID)] == [A]
    named.withdraw(ID)
    assert [found async for found in NamedPeers([]).peers(ID)] == []
