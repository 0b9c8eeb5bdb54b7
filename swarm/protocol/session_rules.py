"""The rules of one exchange session, in both directions. Source: docs/protocol.md.

`SessionRules` is told of every message: of ours before it is written, of the peer's once its body (of
DATA: its head) was read. It refuses what is illegal and decides nothing else: whom to ask and whom to
serve is the strategy's choice. The rules are the same for both sides; only the blame differs:
`RemoteError` for the peer's messages, `LocalProtocolError` for ours.
"""

from __future__ import annotations

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
    Peers,
    Reject,
    Request,
    Withdraw,
)


class OutstandingRequests:
    """Outstanding requests: piece to the offset that its next DATA must have.

    The DATA of two pieces are never interleaved: a piece that was begun is finished or rejected before
    another begins, so that a session needs one buffer, whatever its peer does.
    Every method raises ValueError with one line for what is illegal.
    """

    __slots__ = ("_begun", "_cancelled", "_layout", "_next")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._next: dict[int, int] = {}
        self._cancelled: set[int] = set()
        self._begun: int | None = None

    def __len__(self) -> int:
        return len(self._next)

    def __contains__(self, piece: int) -> bool:
        return piece in self._next

    def cancelled(self, piece: int) -> bool:
        """Whether the asker has cancelled this outstanding request."""
        return piece in self._cancelled

    def ask(self, piece: int) -> None:
        """A REQUEST."""
        if not 0 <= piece < self._layout.piece_count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._next:
            raise ValueError(f"piece {piece} is requested already")
        if len(self._next) >= limits.MAX_REQUESTS:
            raise ValueError(f"more than {limits.MAX_REQUESTS} requests are outstanding")
        self._next[piece] = 0

    def cancel(self, piece: int) -> None:
        """A CANCEL; one that crosses the final reply is nothing, one that is repeated is illegal."""
        if not 0 <= piece < self._layout.piece_count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._cancelled:
            raise ValueError(f"piece {piece} is cancelled already")
        if piece in self._next:
            self._cancelled.add(piece)

    def data(self, piece: int, offset: int, size: int) -> bool:
        """A DATA; says whether it is the last of its piece, which ends the request."""
        expected = self._next.get(piece)
        if expected is None:
            raise ValueError(f"data of piece {piece}, which is not requested")
        if self._begun is not None and self._begun != piece:
            raise ValueError(f"data of piece {piece} before the end of piece {self._begun}")
        if offset != expected:
            raise ValueError(f"data of piece {piece} from byte {offset} where {expected} is next")
        end = offset + size
        length = self._layout.length(piece)
        if not 1 <= size <= limits.MAX_DATA_BYTES or end > length:
            raise ValueError(f"{size} bytes from byte {offset} do not fit piece {piece} of {length}")
        if end == length:
            self._end(piece)
            return True
        self._next[piece] = end
        self._begun = piece
        return False

    def reject(self, piece: int) -> None:
        """A REJECT, which ends the request."""
        if piece not in self._next:
            raise ValueError(f"piece {piece} is rejected without a request")
        self._end(piece)

    def _end(self, piece: int) -> None:
        del self._next[piece]
        self._cancelled.discard(piece)
        if self._begun == piece:
            self._begun = None


class SpeakerPhase(Enum):
    """What a side must say next."""

    HELLO = "HELLO"
    ANNOUNCEMENT = "HAVE_BITFIELD, HAVE_ALL or HAVE_NONE"
    OPEN = "anything but a second greeting"
    SILENT = "nothing after GOODBYE"


class Speaker:
    """One side; every method raises ValueError with one line for what this side may not say now."""

    __slots__ = ("announced", "farewell", "hello", "phase", "requests")

    def __init__(self, layout: Layout) -> None:
        self.phase = SpeakerPhase.HELLO
        self.hello: Hello | None = None
        self.farewell: str | None = None
        self.announced = PieceSet(layout.piece_count)
        self.requests = OutstandingRequests(layout)

    def greet(self, message: Message, manifest: ManifestId) -> None:
        """A message of this side while its phase is not OPEN."""
        if isinstance(message, Goodbye) and self.phase is not SpeakerPhase.SILENT:
            self.leave(message)
        elif isinstance(message, Hello) and self.phase is SpeakerPhase.HELLO:
            self._say_hello(message, manifest)
        elif (
            isinstance(message, HaveBitfield | HaveAll | HaveNone) and self.phase is SpeakerPhase.ANNOUNCEMENT
        ):
            self._announce(message)
        else:
            raise ValueError(f"{type(message).__name__} where the next message is {self.phase.value}")

    def leave(self, message: Goodbye) -> None:
        """A GOODBYE."""
        self.phase = SpeakerPhase.SILENT
        self.farewell = message.reason

    def have(self, pieces: tuple[int, ...]) -> None:
        """A HAVE: only pieces that were not announced or that were withdrawn since."""
        for piece in pieces:
            if not 0 <= piece < self.announced.size or not self.announced.add(piece):
                raise ValueError(f"piece {piece} is announced twice or does not exist")

    def withdraw(self, piece: int) -> None:
        """A WITHDRAW: only an announced piece."""
        if piece not in self.announced or not self.announced.discard(piece):
            raise ValueError(f"piece {piece} is withdrawn without having been announced")

    def _say_hello(self, hello: Hello, manifest: ManifestId) -> None:
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"protocol version {hello.version} where {PROTOCOL_VERSION} is spoken")
        if hello.manifest != manifest:
            raise ValueError(f"the session is about {manifest}, not {hello.manifest}")
        if hello.pieces != self.announced.size:
            raise ValueError(f"{hello.pieces} pieces where the manifest has {self.announced.size}")
        self.hello = hello
        self.phase = SpeakerPhase.ANNOUNCEMENT

    def _announce(self, message: HaveBitfield | HaveAll | HaveNone) -> None:
        if isinstance(message, HaveBitfield):
            self.announced = PieceSet.from_bytes(message.data, self.announced.size)
        elif isinstance(message, HaveAll):
            self.announced = PieceSet.all(self.announced.size)
        self.phase = SpeakerPhase.OPEN


class Arrival(NamedTuple):
    """A DATA of the peer: ``wanted`` is false for a cancelled request, ``last`` ends the request."""

    wanted: bool
    last: bool


class SessionRules:
    """One session with one peer about one manifest; ``now`` is monotonic seconds.

    ``layout`` gives the number and the lengths of the pieces.
    """

    def __init__(self, manifest: ManifestId, layout: Layout, now: float) -> None:
        self._manifest = manifest
        self._bitfield_bytes = (layout.piece_count + 7) // 8
        self._here = Speaker(layout)
        self._there = Speaker(layout)
        self._budget = TokenBucket(limits.CONTROL_RATE, limits.CONTROL_BURST, now)
        self._peers_budget = TokenBucket(1.0 / limits.PEERS_INTERVAL, limits.PEERS_BURST, now)

    @property
    def remote_hello(self) -> Hello | None:
        """The peer's greeting, once it is here."""
        return self._there.hello

    @property
    def greeted(self) -> bool:
        """Whether both sides have said HELLO and announced their pieces."""
        return self._here.phase is SpeakerPhase.OPEN and self._there.phase is SpeakerPhase.OPEN

    @property
    def peer_greeted(self) -> bool:
        """Whether the peer has said HELLO and announced its pieces."""
        return self._there.phase is SpeakerPhase.OPEN

    @property
    def peer_left(self) -> bool:
        """Whether the peer has said GOODBYE."""
        return self._there.phase is SpeakerPhase.SILENT

    @property
    def farewell(self) -> str | None:
        """The reason in the peer's GOODBYE, once it is here."""
        return self._there.farewell

    @property
    def announced(self) -> PieceSet:
        """The pieces that this side has announced; not to be changed by callers."""
        return self._here.announced

    def asked(self, piece: int) -> bool:
        """Whether our request of ``piece`` still waits for its final reply."""
        return piece in self._here.requests

    def owed(self, piece: int) -> bool:
        """Whether we still owe the peer the final reply to its request of ``piece``."""
        return piece in self._there.requests

    def owed_cancelled(self, piece: int) -> bool:
        """Whether the peer has cancelled its request of ``piece``, which we still owe a reply."""
        return self._there.requests.cancelled(piece)

    def check_size(self, kind: int, size: int) -> None:
        """Refuse a body that this manifest cannot have, before it is read; raises RemoteError."""
        if kind == codec.HAVE_BITFIELD and size != self._bitfield_bytes:
            raise RemoteError(f"a bitfield of {size} bytes where the manifest needs {self._bitfield_bytes}")

    def received(self, message: Message, now: float) -> None:
        """The peer said ``message`` (not `Data`); raises RemoteError if it may not."""
        if not self._budget.spend(now):
            raise RemoteError("too many messages")
        if isinstance(message, Peers) and not self._peers_budget.spend(now):
            raise RemoteError("too many PEERS messages")
        try:
            self._say(self._there, self._here, message)
        except ValueError as error:
            raise RemoteError(str(error)) from error

    def received_data(self, data: Data) -> Arrival:
        """The head of a DATA was read; raises RemoteError if nothing may follow it."""
        if self._there.phase is not SpeakerPhase.OPEN:
            raise RemoteError(f"Data where the next message is {self._there.phase.value}")
        requests = self._here.requests
        wanted = not requests.cancelled(data.piece)
        try:
            last = requests.data(data.piece, data.offset, data.size)
        except ValueError as error:
            raise RemoteError(str(error)) from error
        if last:
            self._budget.earn(limits.CONTROL_PER_PIECE)
        return Arrival(wanted, last)

    def sent(self, message: Message) -> None:
        """This side is about to send ``message`` (not `Data`); raises LocalProtocolError if it may not."""
        try:
            self._say(self._here, self._there, message)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error

    def sent_data(self, piece: int, offset: int, size: int) -> bool:
        """This side is about to send a DATA; says whether it is the last of its piece.

        Raises LocalProtocolError if it may not be sent.
        """
        if self._here.phase is not SpeakerPhase.OPEN:
            raise LocalProtocolError(f"Data where the next message is {self._here.phase.value}")
        try:
            last = self._there.requests.data(piece, offset, size)
        except ValueError as error:
            raise LocalProtocolError(str(error)) from error
        if last:
            self._budget.earn(limits.CONTROL_PER_PIECE)
        return last

    def _say(self, speaker: Speaker, hearer: Speaker, message: Message) -> None:
        """The one rule book; raises ValueError."""
        if speaker.phase is not SpeakerPhase.OPEN:
            speaker.greet(message, self._manifest)
            return
        match message:
            case Request():
                speaker.requests.ask(message.piece)
            case Reject():
                hearer.requests.reject(message.piece)
            case Have():
                speaker.have(message.pieces)
            case Cancel():
                speaker.requests.cancel(message.piece)
            case Withdraw():
                speaker.withdraw(message.piece)
            case Goodbye():
                speaker.leave(message)
            case Hello() | HaveBitfield() | HaveAll() | HaveNone() | Data():
                raise ValueError(f"{type(message).__name__} where the next message is {speaker.phase.value}")
            case _:
                pass  # the state of choking and interest, KEEP_ALIVE and PEERS are legal at any time
