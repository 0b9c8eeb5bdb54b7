"""One brain per transfer: every input returns the commands that follow. It routes, it never computes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.events import PieceLost
from swarm.ids import PeerId, SourceId, TransferId
from swarm.lazy_dataclass import dataclass, field
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
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.strategy.announcer import Announcer
from swarm.strategy.commands import Command, Publish
from swarm.strategy.download.download import DownloadOptions, DownloadSide, always
from swarm.strategy.download.origins import OriginOptions
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup
from swarm.strategy.upload.upload import UploadSide

NOBODY = PeerId(SourceId(""))


@dataclass(frozen=True, slots=True)
class BrainSetup:
    """What a brain knows from the start.

    ``stored`` are the pieces that are here, ``wanted`` those to be fetched (None: all). ``me`` is the name
    under which others know this peer; only the preference for near peers needs it. ``sequential`` fetches
    mostly in order, ``prefer_near`` takes over far links only what no near peer has, and ``spared`` are peers
    that count as far whatever their link. ``upload_limited`` and
    ``download_limited`` say that a rate limit of the user holds. ``explains`` says whether somebody wants a
    `PieceRequested` now.
    """

    transfer: TransferId
    layout: Layout
    stored: PieceSet
    wanted: PieceSet | None = None
    me: PeerId = NOBODY
    upload_limited: bool = False
    download_limited: bool = False
    sequential: bool = False
    prefer_near: bool = False
    origins: OriginOptions = field(default_factory=OriginOptions)
    spared: frozenset[SourceId] = frozenset()
    explains: Callable[[], bool] = always


class Brain:
    """Decides which piece is asked of which source and which peer is served; ``now`` is monotonic seconds.

    An input about a source that has not joined, or has left, is ignored: the reports of the transfer and the
    end of a session may cross. Nothing here raises for anything that a session let through.
    """

    def __init__(self, setup: BrainSetup, rng: random.Random, now: float) -> None:
        self._transfer = setup.transfer
        self._timers = Timers()
        self._pieces = Pieces(setup.layout, setup.stored, setup.wanted)
        options = DownloadOptions(
            setup.me,
            setup.download_limited,
            setup.sequential,
            setup.prefer_near,
            setup.origins,
            setup.spared,
            setup.explains,
        )
        self._download = DownloadSide(setup.transfer, self._pieces, rng, self._timers, options)
        self._upload = UploadSide(
            self._pieces, self._download, rng, self._timers, now, limited=setup.upload_limited
        )
        self._announcer = Announcer(self._pieces, self._timers, now)
        self._sources: dict[SourceId, PeerId | None] = {}
        """The sources; those that are peers, and so receive, with their name as one."""

    # --- Outputs beside commands ----------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        return self._pieces.complete

    def missing(self) -> Iterator[int]:
        """The wanted pieces that are not stored and that no connected source has, in order."""
        return self._download.availability.unreachable(self._pieces.lacking)

    def stored_of(self, pieces: PieceSet) -> PieceSet:
        """Those of ``pieces`` that count as stored."""
        return pieces & self._pieces.stored

    def lacks(self, piece: int) -> bool:
        """Whether the piece is wanted and not stored, so that it is still to come."""
        return piece in self._pieces.lacking

    def expect_peers(self) -> None:
        """Peers are named, and may be here in a moment."""
        self._download.expect_peers()

    def watch(self, reader: int, window: range, now: float) -> list[Command]:
        """A reader needs these pieces next, in this order; none: it reads no more."""
        return self._download.watch(reader, window, now)

    def pieces_held(self, source: SourceId) -> int:
        """How many pieces a connected source has."""
        return self._download.availability.pieces_held(source)

    def next_wakeup(self) -> float:
        """When `tick` next has something to do; infinity when only an input can change anything."""
        return self._timers.next()

    # --- Sources and time -----------------------------------------------------------------------

    def tick(self, now: float) -> list[Command]:
        """Do what is due at ``now``."""
        commands: list[Command] = []
        for wakeup, source in self._timers.due(now):
            if source is None:
                commands += self._wake(wakeup, now)
            elif source in self._sources:
                commands += self._wake_for(wakeup, source, now)
        return commands

    def limits_changed(self, now: float, *, upload_limited: bool, download_limited: bool) -> list[Command]:
        """Whether a rate limit of the user holds, as in `BrainSetup`: who is served is decided anew."""
        self._download.limits_changed(throttled=download_limited)
        return self._upload.limits_changed(now, limited=upload_limited)

    def source_joined(
        self,
        source: SourceId,
        now: float,
        *,
        rtt: float | None = None,
        receives: bool = True,
        restates: bool = False,
        origin: bool = False,
        local: bool = False,
    ) -> list[Command]:
        """A session is open and its handshake done; ``rtt`` is a measured round trip in seconds, if any.

        ``restates``: both sides understand `Restate`. Without ``receives`` the source is no peer: it is asked
        for pieces, and never sent any nor told what is here. Then ``source`` need not be a peer id. An
        ``origin`` is such a source that many share (`swarm.strategy.download.origins`); a ``local`` one is
        on this machine (`swarm.strategy.download.local`).
        """
        commands = self.source_left(source, now)
        self._sources[source] = peer = PeerId(source) if receives else None
        self._download.source_joined(source, rtt, now, receives=receives, origin=origin, local=local)
        if peer is None:
            return commands
        self._upload.peer_joined(peer, now)
        return commands + self._announcer.peer_joined(peer, restates=restates)

    def source_left(self, source: SourceId, now: float) -> list[Command]:
        """The session with the source ended, for whatever reason."""
        if source not in self._sources:
            return []
        peer = self._sources.pop(source)
        commands = self._download.source_left(source, now)
        if peer is None:
            return commands
        self._announcer.peer_left(peer)
        return commands + self._upload.peer_left(peer, now)

    def round_trip(self, source: SourceId, seconds: float | None, now: float) -> list[Command]:
        """A ping of the source was answered after ``seconds``, or lost (None)."""
        return self._download.pinged(source, seconds, now) if source in self._sources else []

    def _wake(self, wakeup: Wakeup, now: float) -> list[Command]:
        match wakeup:
            case Wakeup.CHOKER:
                return self._upload.round(now)
            case Wakeup.HAVES:
                return self._announcer.flush(now) + self._download.sweep()
            case Wakeup.UPLOADS:
                return self._upload.look_at_uploads(now)
            case _:
                return self._download.refill(now)

    def _wake_for(self, wakeup: Wakeup, source: SourceId, now: float) -> list[Command]:
        match wakeup:
            case Wakeup.REQUESTS:
                return self._download.look_at_requests(source, now)
            case Wakeup.CLAIMS:
                return self._download.restore_claims(source, now)
            case Wakeup.SILENCE:
                return self._download.waited(source, now)
            case _:
                return self._download.retry(source, now)

    # --- Messages -------------------------------------------------------------------------------

    def received(self, source: SourceId, message: Message, now: float) -> list[Command]:
        """A control message of the source that is legal in its session."""
        if source not in self._sources:
            return []
        match message:
            case Have():  # most of what is said in a swarm
                if (peer := self._sources[source]) is not None:
                    self._upload.has(peer, message.pieces)
                return self._download.has_new(source, message.pieces, now)
            case Request() | Cancel() | Interested() | NotInterested():
                peer = self._sources[source]
                return [] if peer is None else self._received_as_receiver(peer, message, now)
            case _:
                return self._received_as_source(source, message, now)

    def _received_as_receiver(
        self, peer: PeerId, message: Request | Cancel | Interested | NotInterested, now: float
    ) -> list[Command]:
        match message:
            case Request():
                return self._upload.requested(peer, message.piece, now)
            case Cancel():
                return self._upload.cancelled(peer, message.piece, now)
            case _:
                return self._upload.interested(peer, now, yes=isinstance(message, Interested))

    def _received_as_source(self, source: SourceId, message: Message, now: float) -> list[Command]:
        match message:
            case Reject():
                return self._download.rejected(source, message.piece, message.reason, now)
            case Unchoke():
                return self._download.unchoked(source, now)
            case Choke():
                self._download.choked(source)
            case Withdraw():
                return self._download.withdrew(source, message.piece)
            case HaveBitfield() | HaveAll() | HaveNone() | Restate():
                return self._download.has_exactly(source, self._read(message), now)
        return []

    def _read(self, message: HaveBitfield | HaveAll | HaveNone | Restate) -> PieceSet:
        size = self._pieces.size
        match message:
            case HaveAll():
                return PieceSet.all(size)
            case HaveNone():
                return PieceSet(size)
            case _:
                return PieceSet.from_bytes(message.data, size)

    # --- Pieces that come -----------------------------------------------------------------------

    def data_received(self, source: SourceId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` payload bytes of a requested piece arrived."""
        if source not in self._sources:
            return []
        if (peer := self._sources[source]) is not None:
            self._upload.received(peer, size, now)
        return self._download.data(source, piece, size, now)

    def piece_received(self, source: SourceId, piece: int, now: float) -> list[Command]:
        """All bytes of a requested piece have come.

        The answer to a cancelled request has no `StorePiece`, so its bytes may be thrown away as they come.
        """
        return self._download.whole(source, piece, now) if source in self._sources else []

    def pieces_received(
        self, source: SourceId, arrived: Sequence[tuple[int, int]], now: float
    ) -> list[Command]:
        """As `data_received` and `piece_received`, for many: each piece with its bytes not told before."""
        if source not in self._sources:
            return []
        if (peer := self._sources[source]) is not None:
            self._upload.received(peer, sum(size for _, size in arrived), now)
        return self._download.whole_many(source, arrived, now)

    def piece_stored(self, source: SourceId, piece: int, now: float) -> list[Command]:
        """The piece matched its hash and is written."""
        return self.pieces_stored(source, (piece,), now)

    def pieces_stored(self, source: SourceId, pieces: Sequence[int], now: float) -> list[Command]:
        """As `piece_stored`, for many."""
        commands = self._download.stored(source, pieces, now)
        if announced := self._announcer.stored(pieces, now):
            commands += announced + self._download.sweep()
        return commands

    def pieces_reused(
        self, source: SourceId, taken: Sequence[int], denied: Sequence[int], now: float
    ) -> list[Command]:
        """Of what was asked of a ``local`` source some was taken into the store, and some is not there."""
        if source not in self._sources:
            return []
        commands = self._download.denied(source, denied, now) if denied else []
        news, followed = self._download.reused(source, taken, now)
        commands += followed
        if announced := self._announcer.stored(news, now):
            commands += announced + self._download.sweep()
        return commands

    def piece_refused(self, source: SourceId, piece: int, now: float) -> list[Command]:
        """The piece did not match its hash: its sender is banned and its session over, but not an origin."""
        commands = self._download.refused(source, piece)
        if self._download.is_origin(source):
            return commands + self._download.refill(now)
        return commands + self.source_left(source, now)

    def piece_failed(self, source: SourceId, piece: int, now: float) -> list[Command]:  # noqa: ARG002
        """Our own disk refused the piece; nobody is to blame."""
        self._download.failed(piece, now)
        return []

    def piece_lost(self, piece: int, now: float) -> list[Command]:
        """A stored piece can no longer be served as it was; a second report of it changes nothing."""
        if not self._pieces.is_stored(piece):
            return []
        told = Publish(PieceLost(self._transfer, piece, self._pieces.layout.length(piece)))
        return [told, *self.pieces_lost(PieceSet.of(self._pieces.size, [piece]), now)]

    def stored_changed(self, stored: PieceSet, now: float) -> list[Command]:
        """The store has exactly these pieces: some were lost, or lost ones are back as they were.

        What is on its way into the store is left alone.
        """
        commands = self.pieces_lost(self._pieces.stored - stored, now)
        back = self._pieces.found_many(stored - self._pieces.stored)
        if not back:
            return commands
        commands += self._announcer.found(back, now) + self._download.sweep()
        return commands

    def pieces_lost(self, pieces: PieceSet, now: float, *, again: bool = False) -> list[Command]:
        """Stored pieces can no longer be served, because of something that happened to all of them.

        ``again``: they are fetched again, also if everything was complete.
        """
        gone = self._pieces.lost_many(pieces, again=again)
        if not gone and not again:
            return []
        # The peers hear of it before their requests are rejected: so they blame nobody.
        commands = self._announcer.lost(gone, now) + self._upload.lost(gone, now)
        return commands + self._download.wanted_again(now)

    # --- Pieces that go -------------------------------------------------------------------------

    def pieces_requested(self, peer: PeerId, pieces: Sequence[int], now: float) -> list[Command]:
        """As `received`, for a run of requests."""
        return self._upload.requested_many(peer, pieces, now) if self._sources.get(peer) is not None else []

    def pieces_uploaded(self, peer: PeerId, finished: Sequence[int], size: int, now: float) -> list[Command]:
        """As `uploaded` and `upload_finished` for many: ``size`` bytes went, and these are over."""
        return self._upload.sent(peer, finished, size, now) if self._sources.get(peer) is not None else []

    def uploaded(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:  # noqa: ARG002
        """``size`` payload bytes of the piece were handed to the link."""
        return self._upload.uploaded(peer, size, now) if self._sources.get(peer) is not None else []

    def upload_finished(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """An `Upload` is over: its final reply was handed to the link."""
        return self._upload.finished(peer, piece, now) if self._sources.get(peer) is not None else []
