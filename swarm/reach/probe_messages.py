"""Messages of the dial-back probe (AutoNAT v1), and the one field of identify that is read.

Source: the libp2p specifications ``autonat/autonat-v1.md`` and ``identify/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.endpoint import Circuit, Endpoint
from swarm.errors import RemoteError
from swarm.ids import PeerId
from swarm.reach.multiaddrs import address_from_bytes, address_to_bytes, peer_from_bytes, peer_to_bytes
from swarm.reach.protobuf import decode, encode
from swarm.reach.relay_messages import read_addresses

PROBE_PROTOCOL = "/libp2p/autonat/1.0.0"
IDENTIFY_PROTOCOL = "/ipfs/id/1.0.0"

_DIAL, _DIAL_RESPONSE = 0, 1
_OBSERVED = 4


class ProbeStatus(IntEnum):
    """What came of a dial back."""

    OK = 0
    DIAL_ERROR = 100
    DIAL_REFUSED = 101
    BAD_REQUEST = 200
    INTERNAL_ERROR = 300


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Dial ``peer`` back at one of ``addresses``."""

    peer: PeerId
    addresses: tuple[Endpoint, ...]

    def encode(self) -> bytes:
        """The message without its length."""
        peer = encode([(1, peer_to_bytes(self.peer)), *((2, address_to_bytes(a)) for a in self.addresses)])
        return encode([(1, _DIAL), (2, encode([(1, peer)]))])

    @classmethod
    def decode(cls, data: bytes) -> ProbeRequest:
        """Read a request; raises RemoteError."""
        fields = decode(data)
        dial = fields.message(2)
        peer = None if dial is None else dial.message(1)
        if fields.number(1, _DIAL) != _DIAL or peer is None:
            raise RemoteError("this is no request to dial back")
        try:
            who = peer_from_bytes(peer.one_bytes(1) or b"")
        except ValueError as error:
            raise RemoteError(str(error)) from None
        found = read_addresses(peer.all_bytes(2))
        return cls(who, tuple(each for each in found if not isinstance(each, Circuit)))


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """``address`` is where the dial back worked."""

    status: int
    text: str = ""
    address: Endpoint | None = None

    def encode(self) -> bytes:
        """The message without its length."""
        address = None if self.address is None else address_to_bytes(self.address)
        answer = encode([(1, int(self.status)), (2, self.text.encode() or None), (3, address)])
        return encode([(1, _DIAL_RESPONSE), (3, answer)])

    @classmethod
    def decode(cls, data: bytes) -> ProbeAnswer:
        """Read an answer; raises RemoteError."""
        fields = decode(data)
        answer = fields.message(3)
        if fields.number(1, _DIAL) != _DIAL_RESPONSE or answer is None:
            raise RemoteError("this is no answer of a dial back")
        address = address_from_bytes(answer.one_bytes(3) or b"")
        where = address if isinstance(address, Endpoint) else None
        return cls(answer.number(1, 0), answer.text(2)[:200], where)


def observed_address(identify: bytes) -> Endpoint | None:
    """Where a peer sees this node come from, by its identify message; RemoteError if that is malformed."""
    observed = decode(identify).one_bytes(_OBSERVED)
    route = None if observed is None else address_from_bytes(observed)
    return route if isinstance(route, Endpoint) else None
