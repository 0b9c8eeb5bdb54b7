"""The surface of relays, punches, probes and meeting points: each message that others send."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from swarm.endpoint import Circuit, Endpoint, PeerAddress
from swarm.errors import RemoteError
from swarm.ids import PeerId
from swarm.reach import reach_limits as limits
from swarm.reach.multiaddrs import address_from_bytes, address_to_bytes
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
)

_PEER = PeerId("12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB")
_HERE = Endpoint.parse("/ip4/192.0.2.1/tcp/4001")
_SIX = Endpoint.parse("/ip6/2001:db8::7/tcp/4001")
_NAME = Endpoint.parse("/dns4/meet.example.org/tcp/443")

_READERS: tuple[tuple[Callable[[bytes], object], Callable[[object], bytes]], ...] = (
    (HopMessage.decode, lambda message: message.encode()),  # type: ignore[attr-defined]
    (StopMessage.decode, lambda message: message.encode()),  # type: ignore[attr-defined]
    (PunchMessage.decode, lambda message: message.encode()),  # type: ignore[attr-defined]
    (ProbeRequest.decode, lambda message: message.encode()),  # type: ignore[attr-defined]
    (ProbeAnswer.decode, lambda message: message.encode()),  # type: ignore[attr-defined]
    (decode_rendezvous, encode_rendezvous),  # type: ignore[arg-type]
)


def run_reach(data: bytes) -> None:
    """Whatever is read is written and read again as the same; everything else is the peer's fault."""
    for read, write in _READERS:
        try:
            message = read(data)
        except RemoteError:
            continue
        if read(write(message)) != message:
            raise AssertionError(f"{message!r:.300} is read again as {read(write(message))!r:.300}")
    route = address_from_bytes(data)
    if route is not None and address_from_bytes(address_to_bytes(route)) != route:
        raise AssertionError(f"{route} is read again as another address")
    for read_only in (open_record, observed_address):
        try:
            found = read_only(data)
        except RemoteError:
            continue
        if read_only is open_record and len(found.addresses) > limits.MAX_ADDRESSES:  # type: ignore[union-attr]
            raise AssertionError("a record names too many addresses")


def reach_seeds() -> Iterator[bytes]:
    """One of each kind."""
    grant = ReservationGrant(1_800_000_000, (PeerAddress(_PEER, _HERE),), b"voucher")
    status = HopMessage(HopKind.STATUS, grant=grant, limit=CircuitLimit(120, 1 << 17), status=RelayStatus.OK)
    yield HopMessage(HopKind.RESERVE).encode()
    yield HopMessage(HopKind.CONNECT, _PEER).encode()
    yield status.encode()
    yield StopMessage(StopKind.CONNECT, _PEER, CircuitLimit(1, 2)).encode()
    yield StopMessage(StopKind.STATUS, status=RelayStatus.CONNECTION_FAILED).encode()
    yield PunchMessage(PunchKind.CONNECT, (_HERE, _SIX)).encode()
    yield PunchMessage(PunchKind.SYNC).encode()
    yield ProbeRequest(_PEER, (_HERE, _NAME)).encode()
    yield ProbeAnswer(ProbeStatus.OK, "yes", _HERE).encode()
    record = seal_record(bytes(range(32)), [_HERE, _SIX, Circuit(PeerAddress(_PEER, _NAME))], 7)
    yield record
    yield encode_rendezvous(Register("swarm/1/abc", record, 7200))
    yield encode_rendezvous(RegisterResponse(RendezvousStatus.UNAVAILABLE, "full", 60))
    yield encode_rendezvous(Unregister("swarm/1/abc"))
    yield encode_rendezvous(Discover("swarm/1/abc", 5, b"cookie", 30))
    yield encode_rendezvous(DiscoverResponse(RendezvousStatus.OK, (Register("a", record, 5),), b"c"))
    yield address_to_bytes(Circuit(PeerAddress(_PEER, _HERE)))
