"""One exchange session over a stream: greeting, a reader and a writer side by side, and one end.

Nothing that the peer does can end more than this session. When it ends, the stream is closed if GOODBYE
could be sent in time, and reset otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import trio

from swarm.content.paths import printable
from swarm.errors import LinkClosed, LocalProtocolError, RemoteError
from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass
from swarm.ports import ByteStream
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import GOODBYE, HEADER_BYTES, HELLO, decode_body, decode_header, encode
from swarm.protocol.messages import (
    Cancel,
    Goodbye,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    KeepAlive,
    Message,
    Peers,
    RejectReason,
    Restate,
    Withdraw,
)
from swarm.protocol.session_rules import SessionRules
from swarm.transfer.buffers import ArrivedPieces
from swarm.transfer.performer import Performer
from swarm.transfer.session_io import Outbox, Reports, SessionResources, SessionWriter
from swarm.transfer.session_reader import SessionReader

REFUSAL_TIMEOUT = 2.0
"""Seconds to send one GOODBYE."""


async def read_greeting(stream: ByteStream) -> Hello:
    """Read the HELLO with which a peer begins a stream; without one the stream is reset.

    Raises RemoteError for anything else or after `limits.HELLO_TIMEOUT`, LinkClosed when the stream ends.
    """
    try:
        with trio.fail_after(limits.HELLO_TIMEOUT):
            return await _read_hello(stream)
    except trio.TooSlowError as error:
        await stream.reset()
        raise RemoteError(f"no greeting within {limits.HELLO_TIMEOUT:.0f} s") from error
    except RemoteError:
        await stream.reset()
        raise


async def _read_hello(stream: ByteStream) -> Hello:
    kind, size = decode_header(await stream.read_exactly(HEADER_BYTES))
    if kind == GOODBYE:
        # It has another session with us by now, which we opened meanwhile.
        raise LinkClosed("the peer needs no session any more")
    if kind != HELLO:
        raise RemoteError(f"message kind {kind} where HELLO belongs")
    return cast(Hello, decode_body(kind, await stream.read_exactly(size)))


def goodbye(reason: str) -> Goodbye:
    """GOODBYE with as much of ``reason`` as it may carry."""
    line = printable(reason).encode("utf-8", "replace")[: limits.MAX_GOODBYE_BYTES]
    return Goodbye(line.decode("utf-8", "ignore"))


async def refuse_stream(stream: ByteStream, reason: str) -> None:
    """Say GOODBYE on an unwanted stream and close it; never waits long and never raises."""
    with trio.move_on_after(REFUSAL_TIMEOUT) as scope:
        try:
            await stream.write(encode(goodbye(reason)))
            await stream.close()
        except LinkClosed:
            return
    if scope.cancelled_caught:
        with trio.CancelScope(shield=True):
            await stream.reset()


GOODBYE_TIMEOUT = 1.0
"""Seconds for queued messages and GOODBYE to be sent, and for the peer to close, when a session ends."""


class PeerSession:
    """Runs one session; `send`, `flush`, `upload`, `drop_upload` and `stop` may be called at any time.

    They never wait.

    ``hello`` is our greeting, ``heard`` the peer's if it was read before the session could be chosen.
    """

    def __init__(
        self,
        stream: ByteStream,
        resources: SessionResources,
        reports: Reports,
        hello: Hello,
        heard: Hello | None = None,
    ) -> None:
        self._stream = stream
        self._now = resources.now
        self._store = resources.store
        self._layout = resources.store.manifest.layout
        self._reports = reports
        self._hello = hello
        self._heard = heard
        self._rules = SessionRules(hello.manifest, self._layout, resources.now())
        self._outbox = Outbox(self._rules)
        self._writer = SessionWriter(stream, self._rules, self._outbox, resources, reports)
        self._reader = SessionReader(stream, self._rules, resources, reports)
        self._scope = trio.CancelScope()
        self._reason: str | None = None
        self._read_all = trio.Event()
        self._closed = False
        self._unflushed = False
        self.offence: str | None = None
        """The rule that the peer broke after its greeting, if this ended the session."""

    @property
    def heard_at(self) -> float:
        """When something last came from the peer."""
        return self._reader.heard_at

    # --- What the owner wants -----------------------------------------------------------------------

    def send(self, *messages: Message) -> None:
        """Queue control messages; a peer that lets too many pile up loses the session.

        A message that would break the rules ends this session too, and no other.
        """
        try:
            look = self._outbox.put(*messages)
        except (LinkClosed, LocalProtocolError) as error:
            self._fail(str(error))
            return
        for message in messages:
            if type(message) is Cancel:
                self._reader.cancelled(message.piece, lambda: self._fail("stalled in a cancelled piece"))
        if look:
            # What belongs to the same step follows; the owner calls `flush` then.
            self._unflushed = True

    def flush(self) -> None:
        """Send what was queued by `send`."""
        if self._unflushed:
            self._unflushed = False
            self._writer.flush_control()

    def upload(self, pieces: list[int]) -> None:
        """Queue requested pieces."""
        self._outbox.add_uploads(pieces, self._layout)
        self._writer.wake()

    def drop_upload(self, piece: int) -> None:
        """Give the final reply of a queued or begun upload now."""
        try:
            self._outbox.drop_upload(
                piece, RejectReason.CHOKED if piece in self._store.stored else RejectReason.NOT_STORED
            )
        except LinkClosed as error:
            self._fail(str(error))
        self._writer.wake()

    def limits_changed(self) -> None:
        """A rate limit has changed; whoever waits to read is told by the limit itself."""
        self._writer.limits_changed()

    def stop(self, reason: str) -> None:
        """End the session: say GOODBYE, and leave within `GOODBYE_TIMEOUT` whether it is heard or not."""
        if self._reason is not None:
            return
        try:
            self._outbox.put(goodbye(reason))
        except LinkClosed as error:
            self._fail(str(error))
            return
        self._reason = reason
        self._scope.deadline = trio.current_time() + GOODBYE_TIMEOUT
        self._writer.wake()

    # --- The session --------------------------------------------------------------------------------

    async def run(self) -> str:
        """Run until either side or the link ends; returns the reason in one line.

        Safe to cancel anywhere: the link is reset and all memory given back.
        """
        try:
            with self._scope:
                await self._converse()
        finally:
            self._reader.release()
            self._outbox.clear()
            with trio.CancelScope(shield=True):
                await self._hang_up()
        return self._reason or "the session took too long to end"

    async def _converse(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._read)
            await self._guarded(self._write)
            await self._read_all.wait()
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        self._outbox.put(self._hello)
        await self._writer.run()
        await self._stream.close()
        self._closed = True

    async def _read(self) -> None:
        await self._guarded(self._greet_and_read)
        self._read_all.set()

    async def _greet_and_read(self) -> None:
        try:
            with trio.fail_after(limits.HELLO_TIMEOUT):
                await self._greet()
        except trio.TooSlowError:
            self._fail(f"no greeting within {limits.HELLO_TIMEOUT:.0f} s")
            return
        await self._reader.run()
        self._fail(f"the peer left: {printable(self._rules.farewell or '')}")

    async def _greet(self) -> None:
        if self._heard is not None:
            self._rules.received(self._heard, self._now())
            self._reports.message_received(self._heard)
        while not self._rules.peer_greeted and not self._rules.peer_left:
            await self._reader.step()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """The one place where errors of the peer or of the stream end the session."""
        try:
            await work()
        except LinkClosed as error:
            self._fail(str(error))
        except RemoteError as error:
            if self._reason is None and self._rules.remote_hello is not None:
                self.offence = str(error)
            self.stop(str(error))

    async def _hang_up(self) -> None:
        if self._rules.peer_left and not self._closed:
            await self._stream.close()
        elif not self._closed:
            await self._stream.reset()

    def _fail(self, reason: str) -> None:
        """End the session without GOODBYE."""
        if self._reason is None:
            self._reason = reason
        self._scope.cancel()

    async def _watch(self) -> None:
        """End the session of a silent peer."""
        while True:
            left = self._reader.heard_at + limits.IDLE_TIMEOUT - self._now()
            if left <= 0:
                self._fail("nothing was heard from the peer")
                return
            await trio.sleep(left)


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One connected peer; payload bytes since ``since`` (seconds of the runner's clock)."""

    peer: PeerId
    address: str
    inbound: bool
    agent: str
    since: float
    received: int
    sent: int


class ParticipantOwner(Protocol):
    """Hears from a participant what does not concern the brain."""

    def participant_joined(self, participant: Participant, hello: Hello) -> None:
        """The peer has greeted."""

    def peers_received(self, participant: Participant, peers: Peers) -> None:
        """The peer has named other peers."""

    def pieces_announced(self, participant: Participant) -> None:
        """The peer has said which pieces it has, or has no longer."""


@dataclass(frozen=True, slots=True)
class SessionOrigin:
    """How a session with a peer came about.

    ``address`` is what was dialled, or where the peer came from; ``hello`` is its greeting if that was read
    before the session could be chosen.
    """

    inbound: bool
    address: str = ""
    hello: Hello | None = None


SPARED_SECONDS = 1.0
"""Between two reports of what was spared in one session."""


class Participant:
    """One peer in a transfer: what its session reports becomes input of the brain, until it has left."""

    def __init__(
        self,
        stream: ByteStream,
        resources: SessionResources,
        performer: Performer,
        owner: ParticipantOwner,
        greeting: Hello,
        origin: SessionOrigin,
    ) -> None:
        self.peer = stream.peer
        self.address = origin.address or stream.remote_address
        self.inbound = origin.inbound
        self.remote_address = stream.remote_address
        self.hello: Hello | None = None
        self.since = resources.now()
        self.left = False
        self.received = 0
        self.sent = 0
        self.session = PeerSession(stream, resources, self, greeting, origin.hello)
        self._performer = performer
        self._owner = owner
        self._now = resources.now
        self._spared, self._spared_at = (0, 0), -math.inf

    @property
    def joined(self) -> bool:
        """Whether the peer has greeted."""
        return self.hello is not None

    @property
    def heard_at(self) -> float:
        """When something last came from the peer."""
        return self.session.heard_at

    def status(self) -> PeerStatus:
        """For display."""
        agent = "" if self.hello is None else self.hello.agent
        return PeerStatus(self.peer, self.address, self.inbound, agent, self.since, self.received, self.sent)

    # --- Reports of the session ---------------------------------------------------------------------

    def message_received(self, message: Message) -> None:
        """Pass on what concerns the brain, and handle the rest."""
        if self.left:
            return
        match message:
            case KeepAlive() | Goodbye():
                pass
            case Hello():
                self.hello = message
                self._owner.participant_joined(self, message)
            case Peers():
                self._owner.peers_received(self, message)
            case Have() | HaveBitfield() | HaveAll() | HaveNone() | Withdraw() | Restate():
                self._performer.message_received(self.peer, message)
                if not self.left:
                    self._owner.pieces_announced(self)
            case _:
                self._performer.message_received(self.peer, message)

    def requests_received(self, pieces: list[int]) -> None:
        """Requests came."""
        if not self.left:
            self._performer.requests_received(self.peer, pieces)

    def data_received(self, piece: int, size: int) -> None:
        """Payload came."""
        if not self.left:
            self.received += size
            self._performer.data_received(self.peer, piece, size)

    def pieces_received(self, arrived: ArrivedPieces) -> None:
        """Pieces came."""
        if self.left:
            arrived.release()
        else:
            self.received += sum(fresh for _, fresh, _ in arrived.pieces)
            self._performer.pieces_received(self.peer, arrived)

    def pieces_sent(self, finished: list[int], size: int) -> None:
        """Payload went."""
        if not self.left:
            self.sent += size
            self._performer.pieces_sent(self.peer, finished, size)

    def bytes_spared(self, *, received: int = 0, sent: int = 0) -> None:
        """Payload travelled in compressed form; told once a second."""
        spared = self._spared
        self._spared = (spared[0] + received, spared[1] + sent)
        if self._now() >= self._spared_at + SPARED_SECONDS:
            self.tell_spared()

    def tell_spared(self) -> None:
        """Tell what was spared since the last time."""
        (received, sent), self._spared, self._spared_at = self._spared, (0, 0), self._now()
        if (received or sent) and not self.left:
            self._performer.bytes_spared(self.peer, received, sent)

    def upload_finished(self, piece: int) -> None:
        """An upload has its final reply."""
        if not self.left:
            self._performer.upload_finished(self.peer, piece)

    def piece_lost(self, piece: int, *, alone: bool) -> None:
        """The store withdrew a piece that some peer had requested; unless ``alone``, with its whole file."""
        if alone:
            self._performer.piece_lost(piece)
        else:
            self._performer.stored_changed()
