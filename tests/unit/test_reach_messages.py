"""Messages of relays, punches, probes and meetings: what is written is read, the malformed is refused."""

from __future__ import annotations

import pytest
from libp2p.peer.envelope import consume_envelope

from swarm.endpoint import Circuit, Endpoint, PeerAddress, Scope, read_route
from swarm.errors import RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.reach import protobuf
from swarm.reach import reach_limits as limits
from swarm.reach.multiaddrs import address_from_bytes, address_to_bytes, peer_from_bytes, peer_to_bytes
from swarm.reach.peer_record import open_record, seal_record
from swarm.reach.probe_messages import ProbeAnswer, ProbeRequest, ProbeStatus, observed_address
from swarm.reach.relay_messages import (
    CircuitLimit,
    HopKind,
    HopMessage,
    PunchKind,
    PunchMessage,
    RelayStatus,
    ReservationGrant,
    StopKind,
    StopMessage,
)
from swarm.reach.rendezvous_messages import (
    Discover,
    DiscoverResponse,
    Register,
    RegisterResponse,
    RendezvousStatus,
    Unregister,
    decode_rendezvous,
    encode_rendezvous,
    namespace_of,
)

PEER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")
RSA = PeerId("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
HERE = Endpoint.parse("/ip4/192.0.2.1/tcp/4001")
SIX = Endpoint.parse("/ip6/2001:db8::7/tcp/65535")
NAME = Endpoint.parse("/dns4/meet.example.org/tcp/443")
CIRCUIT = Circuit(PeerAddress(PEER, HERE))
NAMESPACE = "swarm/1/adlntingabkwmqnobtnwlmkekqjnek67dceer6fi6nnfp546yv2a"
"""Of the manifest id 00 01 … 1f: a second implementation must come to the same."""


@pytest.mark.parametrize(
    "text",
    [
        "/ip4/192.0.2.1/tcp/4001",
        "/ip6/2001:db8::7/tcp/1",
        "/ip6zone/eth0/ip6/fe80::1/tcp/9",
        "/dns/example.org/tcp/443",
        "/dns6/example.org/tcp/443",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit",
        f"/dns4/example.org/tcp/4001/p2p/{RSA}/p2p-circuit",
    ],
)
def test_addresses_are_written_as_libp2p_does(text: str) -> None:
    from multiaddr import Multiaddr

    route = read_route(text)
    assert route is not None
    assert str(route) == text
    encoded = address_to_bytes(route)
    assert encoded == Multiaddr(text).to_bytes()
    assert address_from_bytes(encoded) == route
    # The peer's own id behind it is left out.
    assert address_from_bytes(encoded + Multiaddr(f"/p2p/{PEER}").to_bytes()) == route


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x04\x01\x02\x03\x04",
        b"\x04\x01\x02\x03\x04\x06\x0f",
        b"\xff" * 20,
        b"\x04" * 300,
        b"\x91\x02\x04\x01\x02\x03\x04",
        b"\x35\x03a/b\x06\x00\x01",
        b"\xa5\x03\x02\x01\x02",
    ],
)
def test_an_address_that_cannot_be_used_is_none(data: bytes) -> None:
    assert address_from_bytes(data) is None


def test_peer_ids() -> None:
    for peer in (PEER, RSA):
        assert peer_from_bytes(peer_to_bytes(peer)) == peer
    for wrong in (b"", bytes(34), b"\x12\x20" + bytes(33), b"\x00\x24" + bytes(35), bytes(100)):
        with pytest.raises(ValueError):
            peer_from_bytes(wrong)


@pytest.mark.parametrize(
    "message",
    [
        HopMessage(HopKind.RESERVE),
        HopMessage(HopKind.CONNECT, PEER),
        HopMessage(
            HopKind.STATUS,
            grant=ReservationGrant(
                1_800_000_000, (PeerAddress(PEER, SIX), PeerAddress(RSA, NAME)), b"voucher"
            ),
            limit=CircuitLimit(120, 1 << 17),
            status=RelayStatus.OK,
        ),
        HopMessage(HopKind.STATUS, status=299),
    ],
)
def test_hop(message: HopMessage) -> None:
    assert HopMessage.decode(message.encode()) == message


def test_stop_and_punch() -> None:
    for stop in (
        StopMessage(StopKind.CONNECT, RSA, CircuitLimit(0, 5)),
        StopMessage(StopKind.STATUS, status=RelayStatus.CONNECTION_FAILED),
    ):
        assert StopMessage.decode(stop.encode()) == stop
    for punch in (PunchMessage(PunchKind.CONNECT, (HERE, SIX)), PunchMessage(PunchKind.SYNC)):
        assert PunchMessage.decode(punch.encode()) == punch
    # A way through a relay is no place to punch to.
    data = protobuf.encode([(1, PunchKind.CONNECT), (2, address_to_bytes(CIRCUIT))])
    assert PunchMessage.decode(data) == PunchMessage(PunchKind.CONNECT)


def test_the_bytes_are_those_of_the_specification() -> None:
    assert HopMessage(HopKind.RESERVE).encode() == b"\x08\x00"
    assert StopMessage(StopKind.STATUS, status=RelayStatus.OK).encode() == b"\x08\x01\x20\x64"
    assert PunchMessage(PunchKind.SYNC).encode() == b"\x08\xac\x02"


@pytest.mark.parametrize(
    "data", [b"\x08\x07", b"\x08", b"\x0a\x05", b"\x0f", b"\x08\x00\x12\x02\x0a\x00", b"\x00"]
)
def test_a_malformed_hop_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteError):
        HopMessage.decode(data)


def test_numbers_and_counts_are_bounded() -> None:
    with pytest.raises(RemoteError, match="too long"):
        protobuf.decode(b"\x08" + b"\xff" * 11)
    with pytest.raises(RemoteError, match="more than"):
        protobuf.decode(b"\x08\x01" * (limits.MAX_FIELDS + 1))
    with pytest.raises(RemoteError, match="cut off"):
        protobuf.decode(b"\x0a\xff\xff\xff\xff\x0f")
    many = [(2, address_to_bytes(Endpoint("ip4", "192.0.2.1", "tcp", port))) for port in range(1, 200)]
    message = PunchMessage.decode(protobuf.encode([(1, PunchKind.CONNECT), *many]))
    assert len(message.addresses) == limits.MAX_ADDRESSES
    # Fixed-width fields of other versions are skipped.
    assert protobuf.decode(b"\x0d\x01\x02\x03\x04\x11" + bytes(8) + b"\x18\x07").number(3) == 7


def test_probes() -> None:
    request = ProbeRequest(PEER, (HERE, SIX))
    assert ProbeRequest.decode(request.encode()) == request
    for answer in (ProbeAnswer(ProbeStatus.OK, address=HERE), ProbeAnswer(ProbeStatus.DIAL_ERROR, "nobody")):
        assert ProbeAnswer.decode(answer.encode()) == answer
    assert observed_address(protobuf.encode([(1, b"key"), (4, address_to_bytes(SIX))])) == SIX
    assert observed_address(b"") is None


def test_rendezvous() -> None:
    for message in (
        Register("swarm/1/abc", b"record", 7200),
        Register("n"),
        Register("n", present=True),
        RegisterResponse(RendezvousStatus.OK, ttl=60),
        RegisterResponse(RendezvousStatus.UNAVAILABLE, "full"),
        Unregister("n"),
        Discover("n", 5, b"cookie", 30),
        DiscoverResponse(RendezvousStatus.OK, (Register("n", b"r", 5), Register("n", b"s", 6)), b"c"),
    ):
        assert decode_rendezvous(encode_rendezvous(message)) == message
    for wrong in (Register("n" * 256), Unregister(""), Discover("n", cookie=bytes(65))):
        with pytest.raises(RemoteError):
            decode_rendezvous(encode_rendezvous(wrong))
    with pytest.raises(RemoteError):
        decode_rendezvous(b"\x08\x09")
    assert decode_rendezvous(encode_rendezvous(Discover("n", 10**6, wait=10**6))) == Discover(
        "n", limits.MAX_FOUND, wait=limits.MAX_WAIT
    )


def test_a_namespace_does_not_tell_the_id() -> None:
    manifest = ManifestId(bytes(range(32)))
    namespace = namespace_of(manifest)
    assert namespace == NAMESPACE
    assert str(manifest)[10:] not in namespace
    assert namespace != namespace_of(ManifestId(bytes(32)))


def test_records_are_those_of_libp2p_and_cannot_be_forged() -> None:
    sealed = seal_record(bytes(range(32)), [HERE, SIX], 7)
    record = open_record(sealed)
    assert (record.sequence, record.addresses) == (7, (HERE, SIX))
    _, theirs = consume_envelope(sealed, "libp2p-peer-record")
    assert theirs.peer_id.to_base58() == record.peer
    assert [str(each) for each in theirs.addrs] == [str(HERE), str(SIX)]
    for at in range(len(sealed)):
        forged = bytearray(sealed)
        forged[at] ^= 1
        with pytest.raises(RemoteError):
            open_record(bytes(forged))
    with pytest.raises(RemoteError, match="exceeds"):
        open_record(bytes(limits.MAX_RECORD_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("/ip4/127.0.0.1/tcp/1", Scope.MACHINE),
        ("/ip4/169.254.1.1/tcp/1", Scope.LINK),
        ("/ip4/192.168.1.1/tcp/1", Scope.PRIVATE),
        ("/ip6/fd00::1/tcp/1", Scope.PRIVATE),
        ("/ip4/100.64.0.1/tcp/1", Scope.PRIVATE),
        ("/ip4/5.5.5.1/tcp/1", Scope.PUBLIC),
        ("/dns4/example.org/tcp/1", Scope.PUBLIC),
        ("/dns4/localhost/tcp/1", Scope.MACHINE),
        (f"/ip4/192.168.1.1/tcp/1/p2p/{PEER}/p2p-circuit", Scope.PRIVATE),
    ],
)
def test_scopes(text: str, scope: Scope) -> None:
    route = read_route(text)
    assert route is not None
    assert Scope.of(route) is scope
