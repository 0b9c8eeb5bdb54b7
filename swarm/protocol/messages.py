"""What two peers say to each other in an exchange session. Values only; see docs/protocol.md.

A message is immutable and carries no behaviour. Pieces are indices into the manifest, sizes and
offsets are bytes. `codec` turns messages into bytes, `session_rules` says which of them is legal when.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from swarm.ids import ManifestId, PeerId

PROTOCOL_VERSION = 1


class RejectReason(IntEnum):
    """Why a request ends without its data; none of them blames the asker."""

    CHOKED = 1
    """The asker is choked; ask again after the next UNCHOKE."""
    NOT_STORED = 2
    """The piece is not here (any more); the asker forgets the claim."""
    CANCELLED = 3
    """The final reply to a CANCEL that arrived before the last byte left."""
    BUSY = 4
    """More requests are queued than this peer will serve; ask later."""
    READ_FAILED = 5
    """The piece is here but could not be read; it may be asked again later."""


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages of the exchange protocol."""


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message in each direction: what this session is about and who speaks.

    ``addresses`` are the speaker's own dialable multiaddrs, without ``/p2p``. ``extensions`` are
    (name, parameter) pairs in ascending order of the names; unknown names are ignored.
    """

    manifest: ManifestId
    pieces: int
    agent: str = ""
    addresses: tuple[str, ...] = ()
    extensions: tuple[tuple[str, int], ...] = ()
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class HaveBitfield(Message):
    """The pieces that the speaker has, ``ceil(pieces / 8)`` bytes, most significant bit first."""

    data: bytes


@dataclass(frozen=True, slots=True)
class HaveAll(Message):
    """The speaker has every piece."""


@dataclass(frozen=True, slots=True)
class HaveNone(Message):
    """The speaker has no piece."""


@dataclass(frozen=True, slots=True)
class Have(Message):
    """The speaker has stored these pieces since its last announcement."""

    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Withdraw(Message):
    """The speaker can no longer serve a piece that it announced."""

    piece: int


@dataclass(frozen=True, slots=True)
class Interested(Message):
    """The hearer has pieces that the speaker wants."""


@dataclass(frozen=True, slots=True)
class NotInterested(Message):
    """The hearer has nothing that the speaker wants."""


@dataclass(frozen=True, slots=True)
class Choke(Message):
    """The speaker will reject further requests; those outstanding still get one reply each."""


@dataclass(frozen=True, slots=True)
class Unchoke(Message):
    """The speaker serves requests from now on."""


@dataclass(frozen=True, slots=True)
class Request(Message):
    """Send one whole piece, or one `Reject`."""

    piece: int


@dataclass(frozen=True, slots=True)
class Data(Message):
    """``size`` bytes of a requested piece from byte ``offset``; the payload travels apart."""

    piece: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """The speaker no longer wants a piece; the request still gets its one final reply."""

    piece: int


@dataclass(frozen=True, slots=True)
class Reject(Message):
    """The one reply to a request that is not answered by the whole piece."""

    piece: int
    reason: RejectReason


@dataclass(frozen=True, slots=True)
class KeepAlive(Message):
    """The speaker has nothing to say and is still there."""


@dataclass(frozen=True, slots=True)
class ExchangedPeer:
    """A peer and where it may be dialled: multiaddrs without ``/p2p``."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peers(Message):
    """Peer exchange: with whom the speaker has opened and closed sessions since its last word."""

    added: tuple[ExchangedPeer, ...] = ()
    dropped: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """The last message of the speaker; ``reason`` is one short line for the log."""

    reason: str = ""
