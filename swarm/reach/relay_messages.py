"""Messages of circuit relay v2, and of the upgrade to a direct connection (DCUtR).

Source: the libp2p specifications ``relay/circuit-v2.md`` and ``relay/DCUtR.md``. What a peer leaves out has
the value that the specification gives it; a message that breaks a rule raises RemoteError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from swarm.endpoint import Circuit, Endpoint, PeerAddress, Route
from swarm.errors import RemoteError
from swarm.ids import PeerId
from swarm.reach.multiaddrs import (
    address_from_bytes,
    address_to_bytes,
    peer_address_from_bytes,
    peer_address_to_bytes,
    peer_from_bytes,
    peer_to_bytes,
)
from swarm.reach.protobuf import Fields, decode, encode
from swarm.reach.reach_limits import LEAST_RESERVATION, MAX_ADDRESSES, RESERVATION_SECONDS

_MAX_SECONDS = (1 << 32) - 1


class RelayStatus(IntEnum):
    """How a relay, or the peer at the end of a circuit, answers."""

    UNUSED = 0
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


class HopKind(IntEnum):
    """What a message to or from a relay is."""

    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopKind(IntEnum):
    """What a message between a relay and the end of a circuit is."""

    CONNECT = 0
    STATUS = 1


class PunchKind(IntEnum):
    """What a message about a punch is."""

    CONNECT = 100
    SYNC = 300


@dataclass(frozen=True, slots=True)
class CircuitLimit:
    """What one circuit may carry: ``seconds`` in all, ``size`` bytes in each direction; 0 for no limit."""

    seconds: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ReservationGrant:
    """``expires`` is UNIX time; ``addresses`` are the relay's."""

    expires: int
    addresses: tuple[PeerAddress, ...] = ()
    voucher: bytes | None = None

    def seconds_left(self, unix_time: float) -> float:
        """How long the place lasts, within what is plausible: the relay's clock or this one may be wrong."""
        left = self.expires - unix_time if self.expires else RESERVATION_SECONDS
        return float(max(LEAST_RESERVATION, min(left, RESERVATION_SECONDS)))


@dataclass(frozen=True, slots=True)
class HopMessage:
    """One message of the hop protocol."""

    kind: HopKind
    peer: PeerId | None = None
    grant: ReservationGrant | None = None
    limit: CircuitLimit | None = None
    status: int = RelayStatus.UNUSED

    def encode(self) -> bytes:
        """The message without its length."""
        grant = None
        if self.grant is not None:
            grant = encode(
                [
                    (1, self.grant.expires),
                    *((2, peer_address_to_bytes(address)) for address in self.grant.addresses),
                    (3, self.grant.voucher),
                ]
            )
        return encode(
            [
                (1, int(self.kind)),
                (2, _peer(self.peer)),
                (3, grant),
                (4, _limit(self.limit)),
                (5, int(self.status) or None),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> HopMessage:
        """Read a message; raises RemoteError."""
        fields = decode(data)
        grant = None
        if (found := fields.message(3)) is not None:
            named = map(peer_address_from_bytes, found.all_bytes(2))
            addresses = tuple(each for each in named if each is not None)[:MAX_ADDRESSES]
            grant = ReservationGrant(found.number(1, 0), addresses, found.one_bytes(3))
        return cls(
            HopKind(_known(fields.number(1, 0), HopKind)),
            _read_peer(fields.message(2)),
            grant,
            _read_limit(fields.message(4)),
            fields.number(5, 0),
        )


@dataclass(frozen=True, slots=True)
class StopMessage:
    """One message of the stop protocol."""

    kind: StopKind
    peer: PeerId | None = None
    limit: CircuitLimit | None = None
    status: int = RelayStatus.UNUSED

    def encode(self) -> bytes:
        """The message without its length."""
        return encode(
            [
                (1, int(self.kind)),
                (2, _peer(self.peer)),
                (3, _limit(self.limit)),
                (4, int(self.status) or None),
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> StopMessage:
        """Read a message; raises RemoteError."""
        fields = decode(data)
        return cls(
            StopKind(_known(fields.number(1, 0), StopKind)),
            _read_peer(fields.message(2)),
            _read_limit(fields.message(3)),
            fields.number(4, 0),
        )


@dataclass(frozen=True, slots=True)
class PunchMessage:
    """One message of DCUtR; ``addresses`` are where the sender is seen from outside."""

    kind: PunchKind
    addresses: tuple[Endpoint, ...] = ()

    def encode(self) -> bytes:
        """The message without its length."""
        return encode([(1, int(self.kind)), *((2, address_to_bytes(each)) for each in self.addresses)])

    @classmethod
    def decode(cls, data: bytes) -> PunchMessage:
        """Read a message; raises RemoteError. Addresses through a relay are of no use and left out."""
        fields = decode(data)
        found = read_addresses(fields.all_bytes(2))
        direct = tuple(each for each in found if not isinstance(each, Circuit))
        return cls(PunchKind(_known(fields.number(1), PunchKind)), direct)


def read_addresses(encoded: Iterable[bytes]) -> tuple[Route, ...]:
    """The addresses that can be used here, each once, at most `MAX_ADDRESSES`."""
    found: dict[Route, None] = {}
    for data in encoded:
        if len(found) < MAX_ADDRESSES and (route := address_from_bytes(data)) is not None:
            found[route] = None
    return tuple(found)


def _known(value: int, kinds: type[IntEnum]) -> int:
    if value not in tuple(kinds):
        raise RemoteError(f"a message of the unknown kind {value}")
    return value


def _peer(peer: PeerId | None) -> bytes | None:
    return None if peer is None else encode([(1, peer_to_bytes(peer))])


def _read_peer(fields: Fields | None) -> PeerId | None:
    if fields is None:
        return None
    try:
        return peer_from_bytes(fields.one_bytes(1) or b"")
    except ValueError as error:
        raise RemoteError(str(error)) from None


def _limit(limit: CircuitLimit | None) -> bytes | None:
    if limit is None:
        return None
    return encode([(1, limit.seconds or None), (2, limit.size or None)])


def _read_limit(fields: Fields | None) -> CircuitLimit | None:
    if fields is None:
        return None
    return CircuitLimit(min(fields.number(1, 0), _MAX_SECONDS), fields.number(2, 0))
