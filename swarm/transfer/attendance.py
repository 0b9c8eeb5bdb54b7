"""One peer's stay in a transfer: what its session reports becomes inputs of the brain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swarm.events import BytesReceived, BytesSent
from swarm.ids import ManifestId, PeerId
from swarm.ports import ByteStream
from swarm.protocol.messages import Goodbye, Hello, KeepAlive, Message, Peers
from swarm.transfer.buffers import PieceBuffer
from swarm.transfer.performer import Performer
from swarm.transfer.session import PeerSession, SessionResources


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


class Attendance:
    """The `Reports` of one session; silent once the peer has left.

    ``on_hello`` and ``on_peers`` are told what is not the brain's business.
    """

    def __init__(
        self,
        link: ByteStream,
        shared: SessionResources,
        performer: Performer,
        *,
        greeting: Hello,
        heard: Hello | None,
        address: str,
        inbound: bool,
        rtt: float | None,
        on_hello: Callable[[Attendance, Hello], None],
        on_peers: Callable[[Attendance, Peers], None],
    ) -> None:
        self.peer = link.peer
        self.address = address
        self.inbound = inbound
        self.rtt = rtt
        self.remote_address = link.remote_address
        self.hello: Hello | None = None
        self.since = shared.now()
        self.left = False
        self.received = 0
        self.sent = 0
        self.session = PeerSession(link, shared, self, greeting, heard)
        self._manifest: ManifestId = greeting.manifest
        self._performer = performer
        self._on_hello = on_hello
        self._on_peers = on_peers

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

    # --- Reports ------------------------------------------------------------------------------------

    def message_received(self, message: Message) -> None:
        """Sort what the brain must hear from what it need not."""
        if self.left:
            return
        match message:
            case KeepAlive() | Goodbye():
                pass
            case Hello():
                self.hello = message
                self._on_hello(self, message)
            case Peers():
                self._on_peers(self, message)
            case _:
                performer = self._performer
                performer.perform(performer.brain.received(self.peer, message, performer.now()))

    def data_received(self, piece: int, size: int) -> None:
        """Payload came."""
        if self.left:
            return
        self.received += size
        performer = self._performer
        performer.perform(performer.brain.data_received(self.peer, piece, size, performer.now()))
        performer.publish(BytesReceived(self._manifest, self.peer, size))

    def piece_received(self, piece: int, buffer: PieceBuffer | None) -> None:
        """A piece came."""
        if not self.left:
            self._performer.piece_received(self.peer, piece, buffer)
        elif buffer is not None:
            buffer.release()

    def uploaded(self, piece: int, size: int) -> None:
        """Payload went."""
        if self.left:
            return
        self.sent += size
        performer = self._performer
        performer.perform(performer.brain.uploaded(self.peer, piece, size, performer.now()))
        performer.publish(BytesSent(self._manifest, self.peer, size))

    def upload_finished(self, piece: int) -> None:
        """An upload is over."""
        if not self.left:
            performer = self._performer
            performer.perform(performer.brain.upload_finished(self.peer, piece, performer.now()))

    def piece_lost(self, piece: int) -> None:
        """The store withdrew a piece, whoever asked for it."""
        performer = self._performer
        performer.perform(performer.brain.piece_lost(piece, performer.now()))
