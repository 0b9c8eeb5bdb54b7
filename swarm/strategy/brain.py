"""One brain per transfer: every input returns the commands that follow. It routes, it never computes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from swarm.bits import PieceSet
from swarm.config import TransferConfig
from swarm.content.layout import Layout
from swarm.events import PieceLost
from swarm.ids import ManifestId, PeerId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Interested,
    Message,
    NotInterested,
    Reject,
    Request,
    Unchoke,
    Withdraw,
)
from swarm.strategy.announcer import Announcer
from swarm.strategy.commands import Command, Publish
from swarm.strategy.download.download import DownloadSide
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup
from swarm.strategy.upload.upload import UploadSide

NOBODY = PeerId("")


class Brain:
    """Decides who is asked for what and who is served; ``now`` is monotonic seconds everywhere.

    ``wanted`` are the pieces to be fetched (None: all); it is complete when they are stored. ``me`` is the
    name under which others know this peer; only the preference for near peers needs it.

    An input about a peer that has not joined, or has left, is ignored: the runner's reports and a
    session's end may cross. Nothing here raises for anything that a session let through.
    """

    def __init__(  # noqa: PLR0917 - the order of the contract
        self,
        manifest_id: ManifestId,
        layout: Layout,
        stored: PieceSet,
        rng: random.Random,
        now: float,
        config: TransferConfig,
        wanted: PieceSet | None = None,
        me: PeerId = NOBODY,
    ) -> None:
        self._manifest_id = manifest_id
        self._timers = Timers()
        self._pieces = Pieces(layout, stored, wanted)
        self._download = DownloadSide(
            manifest_id,
            self._pieces,
            rng,
            self._timers,
            throttled=config.download_limit is not None,
            sequential=config.sequential,
            me=me,
            prefer_near=config.prefer_near,
        )
        self._upload = UploadSide(
            self._pieces,
            self._download.availability,
            self._download.snubbed,
            self._download.is_far,
            rng,
            self._timers,
            now,
            limited=config.upload_limit is not None,
        )
        self._announcer = Announcer(self._pieces, self._timers)
        self._peers: dict[PeerId, None] = {}

    # --- Outputs beside commands ----------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        return self._pieces.complete

    def missing(self) -> Iterator[int]:
        """The wanted pieces that are not stored and that no connected peer has, in order."""
        return self._download.availability.unreachable(self._pieces.lacking)

    def next_wakeup(self) -> float:
        """When `tick` next has something to do; infinity when only an input can change anything."""
        return self._timers.next()

    # --- Peers and time -------------------------------------------------------------------------

    def tick(self, now: float) -> list[Command]:
        """Do what is due at ``now``."""
        commands: list[Command] = []
        for alarm, peer in self._timers.due(now):
            if peer is None:
                commands += self._ring(alarm, now)
            elif peer in self._peers:
                commands += self._ring_for(alarm, peer, now)
        return commands

    def peer_joined(self, peer: PeerId, now: float, *, rtt: float | None) -> list[Command]:
        """A session is open and its handshake done; ``rtt`` is a measured round trip in seconds, if any."""
        commands = self.peer_left(peer, now)
        self._peers[peer] = None
        self._download.source_joined(peer, rtt, now)
        self._upload.peer_joined(peer, now)
        return commands + self._announcer.peer_joined(peer)

    def peer_left(self, peer: PeerId, now: float) -> list[Command]:
        """The peer's session ended, for whatever reason."""
        if peer not in self._peers:
            return []
        del self._peers[peer]
        self._announcer.peer_left(peer)
        return self._download.source_left(peer, now) + self._upload.peer_left(peer, now)

    def round_trip(self, peer: PeerId, seconds: float | None, now: float) -> list[Command]:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        if peer not in self._peers:
            return []
        if seconds is not None:
            self._download.requests.lines[peer].heard_at = now
        return self._download.pinged(peer, seconds)

    def _ring(self, alarm: Wakeup, now: float) -> list[Command]:
        match alarm:
            case Wakeup.CHOKER:
                return self._upload.round(now)
            case Wakeup.HAVES:
                return self._announcer.flush(now) + self._download.sweep()
            case Wakeup.UPLOADS:
                return self._upload.look_at_uploads(now)
            case _:
                return self._download.refill(now)

    def _ring_for(self, alarm: Wakeup, peer: PeerId, now: float) -> list[Command]:
        match alarm:
            case Wakeup.REQUESTS:
                return self._download.look_at_requests(peer, now)
            case Wakeup.CLAIMS:
                return self._download.restore_claims(peer, now)
            case _:
                return self._download.retry(peer, now)

    # --- Messages -------------------------------------------------------------------------------

    def received(self, peer: PeerId, message: Message, now: float) -> list[Command]:
        """A control message of the peer that is legal in its session."""
        if peer not in self._peers:
            return []
        self._download.requests.lines[peer].heard_at = now
        match message:
            case Request():
                return self._upload.requested(peer, message.piece, now)
            case Cancel():
                return self._upload.cancelled(peer, message.piece, now)
            case Interested():
                return self._upload.interested(peer, now, yes=True)
            case NotInterested():
                return self._upload.interested(peer, now, yes=False)
            case _:
                return self._received_as_source(peer, message, now)

    def _received_as_source(self, peer: PeerId, message: Message, now: float) -> list[Command]:
        match message:
            case Have():
                self._upload.has(peer, message.pieces)
                return self._download.has_new(peer, message.pieces, now)
            case Reject():
                return self._download.rejected(peer, message.piece, message.reason, now)
            case Unchoke():
                return self._download.unchoked(peer, now)
            case Choke():
                self._download.choked(peer)
            case Withdraw():
                return self._download.withdrew(peer, message.piece)
            case HaveBitfield() | HaveAll() | HaveNone():
                return self._download.has_exactly(peer, self._read(message), now)
        return []

    def _read(self, message: HaveBitfield | HaveAll | HaveNone) -> PieceSet:
        size = self._pieces.size
        match message:
            case HaveAll():
                return PieceSet.all(size)
            case HaveNone():
                return PieceSet(size)
            case _:
                return PieceSet.from_bytes(message.data, size)

    # --- Pieces that come -----------------------------------------------------------------------

    def data_received(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` payload bytes of a requested piece arrived."""
        if peer not in self._peers:
            return []
        self._upload.received(peer, size, now)
        return self._download.data(peer, piece, size, now)

    def piece_received(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """All bytes of a requested piece have come.

        The answer to a cancelled request has no `StorePiece`, so its bytes may be thrown away as they come.
        """
        return self._download.whole(peer, piece, now) if peer in self._peers else []

    def piece_stored(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The piece matched its hash and is written."""
        commands = self._download.stored(peer, piece, now)
        if announced := self._announcer.stored(piece, now):
            commands += announced + self._download.sweep()
        return commands

    def piece_refused(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The piece did not match its hash: its sender is banned and its session over."""
        return self._download.refused(peer, piece) + self.peer_left(peer, now)

    def piece_failed(self, peer: PeerId, piece: int, now: float) -> list[Command]:  # noqa: ARG002
        """Our own disk refused the piece; nobody is to blame."""
        self._download.failed(piece, now)
        return []

    def piece_lost(self, piece: int, now: float) -> list[Command]:
        """A stored piece can no longer be served as it was; a second report of it changes nothing."""
        if not self._pieces.is_stored(piece):
            return []
        self._pieces.lost(piece)
        commands = self._upload.lost(piece, now) + self._announcer.lost(piece)
        commands.append(Publish(PieceLost(self._manifest_id, piece)))
        return commands + self._download.wanted_again(now)

    # --- Pieces that go -------------------------------------------------------------------------

    def uploaded(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:  # noqa: ARG002
        """``size`` payload bytes of the piece were handed to the link."""
        if peer in self._peers:
            return self._upload.uploaded(peer, size, now)
        return []

    def upload_finished(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """An `Upload` is over: its final reply was handed to the link."""
        return self._upload.finished(peer, piece, now) if peer in self._peers else []
