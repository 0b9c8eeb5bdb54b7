"""The messages of an exchange session, as immutable values. Source: docs/protocol.md.

Pieces are indices into the manifest; sizes and offsets are bytes. `codec` encodes messages,
`session_rules` decides which message is legal when.
"""

from __future__ import annotations

from enum import IntEnum

from swarm.ids import ManifestId, PeerId
from swarm.lazy_dataclass import dataclass

PROTOCOL_VERSION = 1

RESTATE_EXTENSION = "restate"
"""The name in HELLO of a side that understands `Restate`; the parameter is 1."""

PACK_EXTENSION = "zstd"
"""The name in HELLO of a side that understands PACKED, payload as a zstd frame; the parameter is 1."""


class RejectReason(IntEnum):
    """Why a request ends without its data; no reason blames the requester."""

    CHOKED = 1
    """The requester is choked and may request again after the next UNCHOKE."""
    NOT_STORED = 2
    """The sender does not have the piece, or no longer; the requester must not request it here again."""
    CANCELLED = 3
    """The final reply to a CANCEL that arrived before the last byte was sent."""
    BUSY = 4
    """The sender serves other requests first; request this piece later."""
    READ_FAILED = 5
    """The sender could not read the piece; it may be requested again later."""


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages of the exchange protocol."""


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message in each direction: names the manifest and describes the sender.

    ``addresses`` are the sender's own dialable multiaddrs, without ``/p2p``. ``extensions`` are
    (name, parameter) pairs in ascending order of the names; unknown names are ignored.
    """

    manifest: ManifestId
    pieces: int
    agent: str = ""
    addresses: tuple[str, ...] = ()
    extensions: tuple[tuple[str, int], ...] = ()
    version: int = PROTOCOL_VERSION

    @property
    def restates(self) -> bool:
        """Whether the sender understands `Restate`."""
        return any(name == RESTATE_EXTENSION for name, _ in self.extensions)

    @property
    def unpacks(self) -> bool:
        """Whether the sender understands PACKED."""
        return (PACK_EXTENSION, 1) in self.extensions


@dataclass(frozen=True, slots=True)
class HaveBitfield(Message):
    """The pieces that the sender has: ``ceil(pieces / 8)`` bytes, most significant bit first."""

    data: bytes


@dataclass(frozen=True, slots=True)
class HaveAll(Message):
    """The sender has every piece."""


@dataclass(frozen=True, slots=True)
class HaveNone(Message):
    """The sender has no piece."""


@dataclass(frozen=True, slots=True)
class Have(Message):
    """The sender has stored these pieces since its last announcement."""

    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Withdraw(Message):
    """The sender can no longer serve a piece that it announced."""

    piece: int


@dataclass(frozen=True, slots=True)
class Restate(Message):
    """The pieces that the sender has now, in place of all that it announced: coded as in `HaveBitfield`.

    Only for a session in which both sides named `RESTATE_EXTENSION`.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Interested(Message):
    """The receiver has pieces that the sender wants."""


@dataclass(frozen=True, slots=True)
class NotInterested(Message):
    """The receiver has no piece that the sender wants."""


@dataclass(frozen=True, slots=True)
class Choke(Message):
    """The sender will reject further requests; each outstanding one still gets its final reply."""


@dataclass(frozen=True, slots=True)
class Unchoke(Message):
    """The sender serves requests from now on."""


@dataclass(frozen=True, slots=True)
class Request(Message):
    """Requests one whole piece; the final reply is the piece or one `Reject`."""

    piece: int


@dataclass(frozen=True, slots=True)
class Data(Message):
    """``size`` bytes of a requested piece from byte ``offset``; the payload is not part of this value."""

    piece: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Packed(Message):
    """As `Data`, with the payload in a zstd frame of ``packed`` bytes, which is not part of this value.

    Only for a session in which both sides named `PACK_EXTENSION`.
    """

    piece: int
    offset: int
    size: int
    packed: int


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """The sender no longer wants a piece; the request still gets its final reply."""

    piece: int


@dataclass(frozen=True, slots=True)
class Reject(Message):
    """The final reply to a request that is not answered with the whole piece."""

    piece: int
    reason: RejectReason


@dataclass(frozen=True, slots=True)
class KeepAlive(Message):
    """Tells the receiver that the sender is still alive."""


@dataclass(frozen=True, slots=True)
class ExchangedPeer:
    """A peer and its dialable multiaddrs, without ``/p2p``."""

    peer: PeerId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peers(Message):
    """Peer exchange: the peers with which the sender has opened and closed sessions since its last PEERS."""

    added: tuple[ExchangedPeer, ...] = ()
    dropped: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class Goodbye(Message):
    """The last message of the sender; ``reason`` is one short line for the log."""

    reason: str = ""
