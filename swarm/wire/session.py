"""The legality of one exchange session, in both directions. Source: docs/protocol.md.

`PeerProtocol` is told of every message: of ours before it is written, of the peer's once its body (of
DATA: its head) was read. It refuses what is illegal and decides nothing: whom to ask and whom to serve
is the strategy's. The rules are the same for both sides, only the blame differs: `RemoteError` for the
peer's messages, `LocalProtocolError` for ours.
"""

from __future__ import annotations

from typing import NamedTuple

from swarm.content.bitfield import Bitfield
from swarm.content.layout import Layout
from swarm.errors import RemoteError
from swarm.ids import ManifestId
from swarm.wire import codec, limits
from swarm.wire.budget import MessageBudget
from swarm.wire.errors import LocalProtocolError
from swarm.wire.messages import (
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
from swarm.wire.speaker import Phase, Speaker


class Arrival(NamedTuple):
    """A DATA of the peer: ``wanted`` is false for a cancelled request, ``last`` ends the request."""

    wanted: bool
    last: bool


class PeerProtocol:
    """One session with one peer about one manifest; ``now`` is monotonic seconds.

    ``layout`` gives the number and the lengths of the pieces.
    """

    def __init__(self, manifest: ManifestId, layout: Layout, now: float) -> None:
        self._manifest = manifest
        self._bitfield_bytes = (layout.piece_count + 7) // 8
        self._here = Speaker(layout)
        self._there = Speaker(layout)
        self._budget = MessageBudget(limits.CONTROL_RATE, limits.CONTROL_BURST, now)
        self._peers_budget = MessageBudget(1.0 / limits.PEERS_INTERVAL, limits.PEERS_BURST, now)

    @property
    def remote_hello(self) -> Hello | None:
        """The peer's greeting, once it is here."""
        return self._there.hello

    @property
    def greeted(self) -> bool:
        """Whether both sides have said HELLO and announced their pieces."""
        return self._here.phase is Phase.OPEN and self._there.phase is Phase.OPEN

    @property
    def peer_greeted(self) -> bool:
        """Whether the peer has said HELLO and announced its pieces."""
        return self._there.phase is Phase.OPEN

    @property
    def peer_left(self) -> bool:
        """Whether the peer has said GOODBYE."""
        return self._there.phase is Phase.SILENT

    @property
    def farewell(self) -> str | None:
        """The reason in the peer's GOODBYE, once it is here."""
        return self._there.farewell

    @property
    def announced(self) -> Bitfield:
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
        if self._there.phase is not Phase.OPEN:
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
        if self._here.phase is not Phase.OPEN:
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
        if speaker.phase is not Phase.OPEN:
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
