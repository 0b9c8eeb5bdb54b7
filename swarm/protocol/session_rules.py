"""The rules of one exchange session, in both directions. Source: docs/protocol.md.

`SessionRules` checks every message: outgoing ones before they are written, incoming ones once the body
(for DATA, the head) was read. It refuses illegal messages and makes no other decision; what to request and
whom to serve is up to the strategy. The rules are the same for both sides. An illegal message raises
`RemoteError` when the peer sent it and `LocalProtocolError` when this side is about to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import ManifestId
from swarm.limits import TokenBucket
from swarm.protocol import codec
from swarm.protocol import protocol_limits as limits
from swarm.protocol.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Data,
    Goodbye,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    Message,
    Packed,
    Peers,
    Reject,
    Request,
    Restate,
    Withdraw,
)


class OutstandingRequests:
    """The outstanding requests of one side, each with the offset of its next DATA.

    The DATA of two pieces are never interleaved: a started piece is finished or rejected before another
    starts, so a session needs only one buffer. Methods raise ValueError for an illegal message.
    """

    __slots__ = ("_cancelled", "_count", "_layout", "_next", "_started")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._count = layout.piece_count
        self._next: dict[int, int] = {}
        self._cancelled: set[int] = set()
        self._started: int | None = None

    def __len__(self) -> int:
        return len(self._next)

    def __contains__(self, piece: int) -> bool:
        return piece in self._next

    def among(self, pieces: Iterable[int]) -> list[int]:
        """Those of ``pieces`` that are outstanding."""
        return [piece for piece in pieces if piece in self._next]

    def is_cancelled(self, piece: int) -> bool:
        """Whether this outstanding request was cancelled."""
        return piece in self._cancelled

    def record_request(self, piece: int) -> None:
        """Record a REQUEST."""
        if not 0 <= piece < self._count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._next:
            raise ValueError(f"piece {piece} is requested already")
        if len(self._next) >= limits.MAX_REQUESTS:
            raise ValueError(f"more than {limits.MAX_REQUESTS} requests are outstanding")
        self._next[piece] = 0

    def record_cancel(self, piece: int) -> None:
        """Record a CANCEL; without an outstanding request it has no effect, a repeated one is illegal."""
        if not 0 <= piece < self._count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._cancelled:
            raise ValueError(f"piece {piece} is cancelled already")
        if piece in self._next:
            self._cancelled.add(piece)

    def record_data(self, piece: int, offset: int, size: int) -> bool:
        """Record a DATA; return whether it completes its piece and so ends the request."""
        expected = self._next.get(piece)
        if expected is None:
            raise ValueError(f"data of piece {piece}, which was not requested")
        if self._started is not None and self._started != piece:
            raise ValueError(f"data of piece {piece} before piece {self._started} is complete")
        if offset != expected:
            raise ValueError(f"data of piece {piece} at byte {offset} instead of {expected}")
        end = offset + size
        length = self._layout.length(piece)
        if not 1 <= size <= limits.MAX_DATA_BYTES or end > length:
            raise ValueError(f"{size} bytes at byte {offset} do not fit into piece {piece} of {length} bytes")
        if end == length:
            self._end(piece)
            return True
        self._next[piece] = end
        self._started = piece
        return False

    def record_whole(self, pieces: Iterable[int]) -> None:
        """As `record_data`, for pieces that follow each other, each as one DATA."""
        fits = self._layout.piece_length <= limits.MAX_DATA_BYTES
        for piece in pieces:
            if fits and self._started is None and self._next.get(piece) == 0:
                del self._next[piece]
                self._cancelled.discard(piece)
            else:
                self.record_data(piece, 0, self._layout.length(piece))

    def record_reject(self, piece: int) -> None:
        """Record a REJECT, which ends the request."""
        if piece not in self._next:
            raise ValueError(f"piece {piece} is rejected but was not requested")
        self._end(piece)

    def _end(self, piece: int) -> None:
        del self._next[piece]
        self._cancelled.discard(piece)
        if self._started == piece:
            self._started = None


class SidePhase(Enum):
    """Which message a side may send next."""

    HELLO = "HELLO"
    ANNOUNCEMENT = "HAVE_BITFIELD, HAVE_ALL or HAVE_NONE"
    OPEN = "any message but a second greeting"
    SILENT = "no message after GOODBYE"


class SessionSide:
    """The state of one side; methods raise ValueError for a message that is illegal now."""

    __slots__ = ("announced", "farewell", "hello", "phase", "requests")

    def __init__(self, layout: Layout) -> None:
        self.phase = SidePhase.HELLO
        self.hello: Hello | None = None
        self.farewell: str | None = None
        self.announced = PieceSet(layout.piece_count)
        self.requests = OutstandingRequests(layout)

    def record_greeting(self, message: Message, manifest: ManifestId) -> None:
        """Record a message of this side while its phase is not OPEN."""
        if isinstance(message, Goodbye) and self.phase is not SidePhase.SILENT:
            self.record_goodbye(message)
        elif isinstance(message, Hello) and self.phase is SidePhase.HELLO:
            self._record_hello(message, manifest)
        elif isinstance(message, HaveBitfield | HaveAll | HaveNone) and self.phase is SidePhase.ANNOUNCEMENT:
            self._record_announcement(message)
        else:
            raise ValueError(f"got {type(message).__name__}, expected {self.phase.value}")

    def record_goodbye(self, message: Goodbye) -> None:
        """Record a GOODBYE."""
        self.phase = SidePhase.SILENT
        self.farewell = message.reason

    def record_have(self, pieces: tuple[int, ...]) -> None:
        """Record a HAVE; each piece must not be announced already."""
        for piece in pieces:
            if not 0 <= piece < self.announced.size or not self.announced.add(piece):
                raise ValueError(f"piece {piece} is announced twice or does not exist")

    def record_withdraw(self, piece: int) -> None:
        """Record a WITHDRAW; the piece must be announced."""
        if piece not in self.announced or not self.announced.discard(piece):
            raise ValueError(f"piece {piece} is withdrawn but was not announced")

    def record_restatement(self, message: Restate) -> None:
        """Record a RESTATE: what was announced counts no longer."""
        self.announced = PieceSet.from_bytes(message.data, self.announced.size)

    def _record_hello(self, hello: Hello, manifest: ManifestId) -> None:
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"protocol version {hello.version} instead of {PROTOCOL_VERSION}")
        if hello.manifest != manifest:
            raise ValueError(f"the session is about {manifest}, not {hello.manifest}")
        if hello.pieces != self.announced.size:
            raise ValueError(f"{hello.pieces} pieces, but the manifest has {self.announced.size}")
        self.hello = hello
        self.phase = SidePhase.ANNOUNCEMENT

    def _record_announcement(self, message: HaveBitfield | HaveAll | HaveNone) -> None:
        if isinstance(message, HaveBitfield):
            self.announced = PieceSet.from_bytes(message.data, self.announced.size)
        elif isinstance(message, HaveAll):
            self.announced = PieceSet.all(self.announced.size)
        self.phase = SidePhase.OPEN


class Arrival(NamedTuple):
    """A received DATA. ``wanted``: the request is not cancelled. ``last``: it ends the request."""

    wanted: bool
    last: bool


class MessageBudget:
    """How many messages a peer may send: ``rate`` a second on average, at most ``burst`` at once.

    What the peer sent while this side did not read arrives all at once, and is no fault of the peer:
    `excuse` allows what it could have sent meanwhile beside the burst, but no more than in `IDLE_TIMEOUT`.
    """

    __slots__ = ("_bucket", "_excused", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._bucket = TokenBucket(rate, burst, now)
        self._excused = 0.0

    def excuse(self, seconds: float) -> None:
        """This side did not read for so many ``seconds``."""
        self._excused = min(self._excused + seconds * self._rate, limits.IDLE_TIMEOUT * self._rate)

    def earn(self, messages: float) -> None:
        """Allow so many messages more, up to the burst."""
        self._bucket.earn(messages)

    def spend(self, now: float) -> bool:
        """Count a message; says whether it was allowed."""
        if self._bucket.spend(now):
            return True
        if self._excused < 1.0:
            return False
        self._excused -= 1.0
        return True

    def spend_together(self, now: float, messages: int) -> bool:
        """Count so many messages, or none of them if not all are allowed without an excuse; says which."""
        return self._bucket.spend(now, messages)


class SessionRules:
    """The rules of one session with one peer for one manifest; ``now`` is monotonic seconds.

    ``layout`` gives the number and lengths of the pieces.
    """

    def __init__(self, manifest: ManifestId, layout: Layout, now: float) -> None:
        self._manifest = manifest
        self._bitfield_bytes = (layout.piece_count + 7) // 8
        self._local = SessionSide(layout)
        self._remote = SessionSide(layout)
        self._budget = MessageBudget(limits.CONTROL_RATE, limits.CONTROL_BURST, now)
        self._peers_budget = MessageBudget(1.0 / limits.PEERS_INTERVAL, limits.PEERS_BURST, now)
        self._restate_budget = MessageBudget(1.0 / limits.RESTATE_INTERVAL, limits.RESTATE_BURST, now)

    @property
    def remote_hello(self) -> Hello | None:
        """The peer's HELLO, once it has arrived."""
        return self._remote.hello

    @property
    def peer_greeted(self) -> bool:
        """Whether the peer has sent HELLO and announced its pieces, and not said GOODBYE."""
        return self._remote.phase is SidePhase.OPEN

    @property
    def peer_left(self) -> bool:
        """Whether the peer has sent GOODBYE."""
        return self._remote.phase is SidePhase.SILENT

    @property
    def farewell(self) -> str | None:
        """The reason in the peer's GOODBYE, once it has arrived."""
        return self._remote.farewell

    @property
    def restating(self) -> bool:
        """Whether both sides have said that they understand RESTATE."""
        hellos = (self._local.hello, self._remote.hello)
        return all(hello is not None and hello.restates for hello in hellos)

    @property
    def packing(self) -> bool:
        """Whether both sides have said that they understand PACKED."""
        hellos = (self._local.hello, self._remote.hello)
        return all(hello is not None and hello.unpacks for hello in hellos)

    @property
    def announced(self) -> PieceSet:
        """The pieces that this side has announced; callers must not change it."""
        return self._local.announced

    @property
    def awaits_pieces(self) -> bool:
        """Whether any request of this side is outstanding."""
        return len(self._local.requests) > 0

    def asked(self, piece: int) -> bool:
        """Whether this side's request for ``piece`` is outstanding."""
        return piece in self._local.requests

    def owed(self, piece: int) -> bool:
        """Whether the peer's request for ``piece`` is outstanding, so this side owes the final reply."""
        return piece in self._remote.requests

    def owed_among(self, pieces: Iterable[int]) -> list[int]:
        """Those of ``pieces`` that are `owed`."""
        return self._remote.requests.among(pieces)

    def owed_cancelled(self, piece: int) -> bool:
        """Whether the peer's request for ``piece`` is outstanding and cancelled."""
        return self._remote.requests.is_cancelled(piece)

    def check_size(self, kind: int, size: int) -> None:
        """Check the size of a body before it is read; raises RemoteError if it cannot be in this session."""
        if kind in {codec.HAVE_BITFIELD, codec.RESTATE} and size != self._bitfield_bytes:
            raise RemoteError(f"a bitfield of {size} bytes, but the manifest needs {self._bitfield_bytes}")
        if kind == codec.PACKED and not self.packing:
            raise RemoteError("got packed data, which needs an extension that both sides name")

    def reading_paused(self, seconds: float) -> None:
        """This side did not read for so many ``seconds``: what the peer sent meanwhile arrives at once."""
        self._budget.excuse(seconds)
        self._peers_budget.excuse(seconds)
        self._restate_budget.excuse(seconds)

    def received(self, message: Message, now: float) -> None:
        """Record a received ``message`` (not `Data`); raises RemoteError if it is illegal."""
        if not self._budget.spend(now):
            raise RemoteError("too many messages")
        if isinstance(message, Peers) and not self._peers_budget.spend(now):
            raise RemoteError("too many PEERS messages")
        if isinstance(message, Restate) and not self._restate_budget.spend(now):
            raise RemoteError("too many RESTATE messages")
        try:
            self._apply(self._remote, self._local, message)
        except ValueError as error:
            raise RemoteError(str(error)) from error

    def received_requests(self, pieces: Sequence[int], now: float, legal: list[int]) -> None:
        """As `received`, for REQUESTs in a row; adds those before an illegal one, or all, to ``legal``."""
        if self._remote.phase is not SidePhase.OPEN or not self._budget.spend_together(now, len(pieces)):
            for piece in pieces:
                self.received(Request(piece), now)
                legal.append(piece)
            return
        try:
            for piece in pieces:
                self._remote.requests.record_request(piece)
                legal.append(piece)
        except ValueError as error:
            raise RemoteError(str(error)) from error

    def received_data(self, data: Data | Packed) -> Arrival:
        """Record the head of a received DATA or PACKED; raises RemoteError if it is illegal."""
        if self._remote.phase is not SidePhase.OPEN:
            raise RemoteError(f"got Data, expected {self._remote.phase.value}")
        requests = self._local.requests
        wanted = not requests.is_cancelled(data.piece)
        try:
            last = requests.record_data(data.piece, data.offset, data.size)
        except ValueError as error:
            raise RemoteError(str(error)) from error
        if last:
            self._budget.earn(limits.CONTROL_PER_PIECE)
        return Arrival(wanted, last)

    def sent(self, message: Message) -> None:
        """Record a ``message`` (not `Data`) about to be sent; raises LocalProtocolError if it is illegal."""
        try:
            self._apply(self._local, self._remote, message)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error

    def sent_data(self, piece: int, offset: int, size: int) -> bool:
        """Record a DATA about to be sent; return whether it completes its piece.

        Raises LocalProtocolError if it is illegal.
        """
        if self._local.phase is not SidePhase.OPEN:
            raise LocalProtocolError(f"got Data, expected {self._local.phase.value}")
        try:
            last = self._remote.requests.record_data(piece, offset, size)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        if last:
            self._budget.earn(limits.CONTROL_PER_PIECE)
        return last

    def sent_whole(self, pieces: Sequence[int]) -> None:
        """As `sent_data`, for pieces that follow each other, each as one DATA."""
        if self._local.phase is not SidePhase.OPEN:
            raise LocalProtocolError(f"got Data, expected {self._local.phase.value}")
        try:
            self._remote.requests.record_whole(pieces)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        self._budget.earn(len(pieces) * limits.CONTROL_PER_PIECE)

    def _apply_loss(self, sender: SessionSide, message: Withdraw | Restate) -> None:
        if isinstance(message, Withdraw):
            sender.record_withdraw(message.piece)
        elif self.restating:
            sender.record_restatement(message)
        else:
            raise ValueError("got Restate, which needs an extension that both sides name")

    def _apply(self, sender: SessionSide, receiver: SessionSide, message: Message) -> None:
        """Apply the rules for ``message``, the same for both directions; raises ValueError."""
        if sender.phase is not SidePhase.OPEN:
            sender.record_greeting(message, self._manifest)
            return
        match message:
            case Request():
                sender.requests.record_request(message.piece)
            case Reject():
                receiver.requests.record_reject(message.piece)
            case Have():
                sender.record_have(message.pieces)
            case Cancel():
                sender.requests.record_cancel(message.piece)
            case Withdraw() | Restate():
                self._apply_loss(sender, message)
            case Goodbye():
                sender.record_goodbye(message)
            case Hello() | HaveBitfield() | HaveAll() | HaveNone() | Data():
                raise ValueError(f"got {type(message).__name__}, expected {sender.phase.value}")
            case _:
                pass  # choking, interest, KEEP_ALIVE and PEERS are legal at any time
