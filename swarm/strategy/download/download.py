"""The download side of one transfer: turns what sources have and send into requests and pieces."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from swarm.bits import PieceSet
from swarm.events import PieceRefused, PiecesReused, PieceStored, PieceWasted
from swarm.ids import SourceId, TransferId
from swarm.lazy_dataclass import dataclass, field
from swarm.protocol.messages import Cancel, RejectReason
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Ban, Blame, Command, Disconnect, Publish, Send, StorePiece
from swarm.strategy.download.asking import Asker, SourcePolicies
from swarm.strategy.download.endgame import Endgame
from swarm.strategy.download.interest import Interest
from swarm.strategy.download.local import LocalSources
from swarm.strategy.download.locality import Locality
from swarm.strategy.download.origins import OriginOptions, Origins
from swarm.strategy.download.picker import InOrder, InView, Picker, RarestFirst
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import MOST_BACKOFF, Claims, DownloadRequests, PendingRequest
from swarm.strategy.download.timeouts import RECHECK_SECONDS, SILENCE_SECONDS, Timeouts
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup


def always() -> bool:
    """Return True."""
    return True


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """``limited``: a download limit of ours holds; the others are those of `BrainSetup`."""

    me: SourceId
    limited: bool = False
    sequential: bool = False
    prefer_near: bool = False
    origins: OriginOptions = field(default_factory=OriginOptions)
    spared: frozenset[SourceId] = frozenset()
    explains: Callable[[], bool] = always


class DownloadSide:
    """Inputs about sources as sources; each returns the commands that follow. Sources are joined ones."""

    def __init__(
        self,
        transfer: TransferId,
        pieces: Pieces,
        rng: random.Random,
        timers: Timers,
        options: DownloadOptions,
    ) -> None:
        self._transfer = transfer
        self._pieces = pieces
        self._timers = timers
        self.availability = Availability(pieces.size)
        self.requests = DownloadRequests(pieces.size)
        self._ranking = Ranking(pieces.layout.piece_length)
        self._claims = Claims()
        self._timeouts = Timeouts(self.availability, self.requests, throttled=options.limited)
        self._interest = Interest(pieces, self.availability)
        self._endgame = Endgame(pieces, self.availability, self.requests, self._ranking)
        picker: Picker = RarestFirst(pieces, self.availability, rng)
        if options.sequential:
            picker = InOrder(picker, pieces, self.availability, rng)
        self._in_view = picker = InView(picker, pieces, self.availability)
        self._locality = Locality(
            options.me,
            pieces,
            self.availability,
            self._ranking,
            enabled=options.prefer_near,
            spared=options.spared,
        )
        self._origins = Origins(options.me, pieces, self.availability, self._ranking, rng, options.origins)
        self._local = LocalSources(pieces, self.availability)
        self._asker = Asker(
            transfer,
            pieces,
            timers,
            SourcePolicies(
                self.requests,
                self._ranking,
                picker,
                self._endgame,
                self._timeouts,
                self._locality,
                self._origins,
                self._local,
            ),
            explains=options.explains,
        )

    def limits_changed(self, *, throttled: bool) -> None:
        """A download limit of ours came or went."""
        self._origins.limits_changed(throttled=throttled)
        self._timeouts.limits_changed(throttled=throttled)

    # --- Sources ----------------------------------------------------------------------------------

    def source_joined(
        self,
        source: SourceId,
        rtt: float | None,
        now: float,
        *,
        receives: bool = True,
        origin: bool = False,
        local: bool = False,
    ) -> None:
        """A session begins: the source chokes us and has nothing; ``receives`` if it is a peer."""
        self.availability.source_joined(source, receives=receives)
        self.requests.source_joined(source, local=local)
        if local:
            self._local.joined(source)
            self._timers.set(Wakeup.SILENCE, now + SILENCE_SECONDS, source)
        self._ranking.source_joined(source, rtt, now)
        if receives:
            self._interest.source_joined(source)
            self._locality.source_joined(source)
            self._origins.peer_joined(source, now)
        elif origin:
            self._origins.origin_joined(source, now)

    def source_left(self, source: SourceId, now: float) -> list[Command]:
        """A session ended: what the source was asked for is asked elsewhere."""
        self._release(self.requests.source_left(source))
        self.availability.source_left(source)
        self._ranking.source_left(source)
        self._claims.source_left(source)
        self._interest.source_left(source)
        self._asker.source_left(source)
        self._timeouts.source_left(source)
        self._timers.forget(source)
        self._locality.source_left(source)
        self._origins.source_left(source, now)
        self._local.left(source)
        return self._asker.refill(now)

    def pinged(self, source: SourceId, seconds: float | None, now: float) -> list[Command]:
        """A ping took ``seconds``, or was lost."""
        alive = self._ranking.pinged(source, seconds)
        if seconds is not None:
            self._timeouts.answered(source, now)
        self._locality.measured(source)
        return [] if alive else [Disconnect(source, "does not answer pings")]

    def choked(self, source: SourceId) -> None:
        """The source takes no more requests; what is outstanding still gets its replies."""
        self.requests.choked(source, yes=True)
        self._asker.source_left(source)

    def unchoked(self, source: SourceId, now: float) -> list[Command]:
        """The source takes requests."""
        self.requests.choked(source, yes=False)
        return self._asker.fill(source, now)

    def snubbed(self, source: SourceId) -> bool:
        """Whether the source lets our requests wait."""
        return self.requests.queues[source].snubbed

    # --- What sources have ------------------------------------------------------------------------

    def has_exactly(self, source: SourceId, pieces: PieceSet, now: float) -> list[Command]:
        """The source says what it has; whatever was held against it is void."""
        self.availability.replace(source, pieces)
        self._origins.spoke(source)
        self._claims.source_left(source)
        self._timers.clear(Wakeup.CLAIMS, source)
        self._locality.restated()
        if source in self._local:
            self._local.offered(source)
            self._timers.clear(Wakeup.SILENCE, source)
            return self._asker.fill(source, now) + self._asker.refill(now)
        return self._interest.review(source) + self._asker.fill(source, now)

    def has_new(self, source: SourceId, pieces: Sequence[int], now: float) -> list[Command]:
        """The source says that it got pieces."""
        self._claims.restated(source, *pieces)
        self._origins.has(source, pieces, now)
        news = self.availability.have_many(source, pieces)
        commands = self._interest.got(source, pieces) if news else []
        self._locality.has(source, pieces)
        # Most of what is heard in a swarm comes from sources that choke us.
        if news and not self.requests.queues[source].choked:
            commands += self._asker.fill(source, now)
        return commands

    def withdrew(self, source: SourceId, piece: int) -> list[Command]:
        """The source says that it no longer has a piece; a request for it still gets its reply."""
        self._claims.restated(source, piece)
        self.availability.withdraw(source, piece)
        self._locality.restated()
        return self._interest.review(source)

    # --- Replies --------------------------------------------------------------------------------

    def data(self, source: SourceId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` bytes of a piece came."""
        if not self.requests.progress(source, piece, size, now):
            return self._asker.fill(source, now)
        self._timeouts.received(source, size, now)
        self._ranking.received(source, size, now)
        self._origins.received(source, size, now)
        others = self.requests.begun(source, piece, size, now)
        return [*(Send(other, Cancel(piece)) for other in others), *self._asker.fill(source, now)]

    def whole(self, source: SourceId, piece: int, now: float) -> list[Command]:
        """A piece is whole in memory; that of a cancelled request is not stored."""
        return self.whole_many(source, ((piece, 0),), now)

    def whole_many(self, source: SourceId, arrived: Iterable[tuple[int, int]], now: float) -> list[Command]:
        """As `whole`, for many, each with its bytes that `data` was not told of."""
        commands: list[Command] = []
        stores: list[Command] = []
        come, settled = self.requests.whole(source, arrived)
        if come:
            self._timeouts.received(source, come, now)
            self._ranking.received(source, come, now)
            self._origins.received(source, come, now)
        if not settled:
            return []
        self._credit(source, settled, now)
        for piece, asked in settled:
            if not asked.live:
                commands += self._waste(source, piece, asked)
                continue
            commands += [Send(p, Cancel(piece)) for p in self.requests.outrun(source, piece, now)]
            self._pieces.verifying(piece)
            stores.append(StorePiece(source, piece))
        # Asking first: hashing and writing must not leave the source without work.
        return [*commands, *self._asker.fill(source, now), *stores]

    def rejected(self, source: SourceId, piece: int, reason: RejectReason, now: float) -> list[Command]:
        """A request ended without its piece."""
        if reason == RejectReason.NOT_STORED and source in self._local:
            return self.denied(source, (piece,), now)
        settled = self.requests.settle(source, piece)
        if settled is None:
            return []
        asked, free = settled
        commands = self._waste(source, piece, asked) if asked.received else []
        self._release([piece] if free else [])
        self._idle_if_done(source, now)
        if asked.live and not self._excused(source, piece, reason):
            commands += self._blame(source, [piece], now, denied=reason == RejectReason.NOT_STORED)
        return commands + self._asker.refill(now) + self._asker.fill(source, now)

    def denied(self, source: SourceId, pieces: Iterable[int], now: float) -> list[Command]:
        """A source on this machine does not have these pieces after all: others are asked at once."""
        commands: list[Command] = []
        for piece in pieces:
            if (settled := self.requests.settle(source, piece)) is None:
                continue
            asked, free = settled
            commands += self._waste(source, piece, asked) if asked.received else []
            self._local.denied(source, (piece,))
            self._release([piece] if free else [])
        return commands + self._asker.refill(now) + self._asker.fill(source, now)

    def _excused(self, source: SourceId, piece: int, reason: RejectReason) -> bool:
        """Whether a reject is no failure: the source chokes us, would rather give another piece, or has
        said already that it lost this one."""
        if reason == RejectReason.NOT_STORED and not self.availability.has(source, piece):
            return True
        if reason == RejectReason.BUSY:
            return self.requests.avoid(source, piece)
        return reason == RejectReason.CHOKED and self.requests.queues[source].choked

    def reused(self, source: SourceId, pieces: Iterable[int], now: float) -> tuple[list[int], list[Command]]:
        """The store has taken requested pieces from files on this machine, verified and written.

        Returns those of them that it did not have yet.
        """
        commands: list[Command] = []
        news: list[int] = []
        for piece in pieces:
            if self.requests.settle(source, piece) is None:
                continue
            commands += [Send(other, Cancel(piece)) for other in self.requests.outrun(source, piece, now)]
            if self._pieces.taken(piece):
                news.append(piece)
        self._timeouts.moved(source, now)
        self._idle_if_done(source, now)
        if news:
            size = sum(map(self._pieces.layout.length, news))
            commands.append(Publish(PiecesReused(self._transfer, source, len(news), size)))
        return news, commands + self._asker.fill(source, now)

    # --- What became of a piece -----------------------------------------------------------------

    def stored(self, source: SourceId, pieces: Iterable[int], now: float) -> list[Command]:
        """Pieces are verified and written: their sender is trusted with more."""
        told: list[Command] = []
        length = self._pieces.layout.length
        for piece in pieces:
            self._pieces.now_stored(piece)
            told.append(Publish(PieceStored(self._transfer, piece, length(piece), source)))
        return told + self._asker.fill(source, now) if self.requests.verified(source) else told

    def refused(self, source: SourceId, piece: int) -> list[Command]:
        """A piece did not match its hash. One source sent all of it, so that source is to blame."""
        self._pieces.failed(piece)
        size = self._pieces.layout.length(piece)
        event = PieceRefused(self._transfer, piece, size, source)
        if self._origins.is_origin(source):
            # The file there is another one; the rest of the server may be as it should.
            self.requests.wrong(source)
            own = self._pieces.layout.pieces_of(self._pieces.layout.span(piece).file)
            theirs = self.availability.pieces_of(source)
            without = PieceSet.between(theirs.size, own.start, own.stop)
            self.availability.replace(source, theirs - without)
            return [Publish(event), Blame(source, f"piece {piece} does not match its hash", piece)]
        return [Publish(event), Ban(source, f"piece {piece} does not match its hash", piece)]

    def expect_peers(self) -> None:
        """Peers are named, and may be here in a moment."""
        self._origins.expected = True

    def watch(self, reader: int, window: range, now: float) -> list[Command]:
        """A reader needs these pieces next, in this order; none: it reads no more."""
        self._in_view.watch(reader, window)
        return self.refill(now)

    def is_origin(self, source: SourceId) -> bool:
        """Whether the source is a web server, which is not dropped for one wrong piece."""
        return self._origins.is_origin(source)

    def failed(self, piece: int, now: float) -> None:
        """Our disk refused a piece. It is asked for again, but not in a hurry: the disk may be full."""
        self._pieces.failed(piece)
        self._timers.set(Wakeup.IDLE, now + RECHECK_SECONDS)

    def sweep(self) -> list[Command]:
        """Tell the sources that have nothing for us any more."""
        return self._interest.sweep()

    def wanted_again(self, now: float) -> list[Command]:
        """A stored piece was lost: sources may have something for us that had nothing."""
        return [c for source in self.requests.queues for c in self._interest.review(source)] + self.refill(
            now
        )

    def refill(self, now: float) -> list[Command]:
        """Ask the sources with room for what is open."""
        return self._asker.refill(now)

    # --- Wake-ups -------------------------------------------------------------------------------

    def look_at_requests(self, source: SourceId, now: float) -> list[Command]:
        """Move the source's late requests elsewhere."""
        if self._timeouts.owes(source, now):
            return [Disconnect(source, "does not answer cancelled requests")]
        commands: list[Command] = []
        if self._timeouts.is_silent(source, now):
            self.requests.snub(source)
            moved = self._timeouts.movable(source, now)
            for piece in moved:
                self._release([piece] if self.requests.cancel(source, piece, now) else [])
                commands.append(Send(source, Cancel(piece)))
            if source in self._local:
                self._local.denied(source, moved)
            if moved:
                commands += self._blame(source, moved, now, silent=True) + self._asker.refill(now)
        self._timers.set(Wakeup.REQUESTS, self._timeouts.next_look(source, now), source)
        return commands

    def retry(self, source: SourceId, now: float) -> list[Command]:
        """The source's back-off is over, unless it was made longer meanwhile."""
        if (at := self.requests.queues[source].retry_at) > now:
            self._timers.set(Wakeup.RETRY, at, source)
        return self._asker.fill(source, now)

    def waited(self, source: SourceId, now: float) -> list[Command]:
        """A local source has not said what it has in time."""
        self._local.offered(source)
        return self._asker.refill(now)

    def restore_claims(self, source: SourceId, now: float) -> list[Command]:
        """Cleared claims get another chance."""
        for piece in self._claims.due(source, now):
            self.availability.have(source, piece)
        if (at := self._claims.next_due(source)) is not None:
            self._timers.set(Wakeup.CLAIMS, at, source)
        return self._interest.review(source) + self._asker.fill(source, now)

    # --- Shared steps ---------------------------------------------------------------------------

    def _credit(self, source: SourceId, settled: Sequence[tuple[int, PendingRequest]], now: float) -> None:
        self._timeouts.moved(source, now)
        length = sum(asked.length for _, asked in settled)
        self.requests.delivered(source, length, self._asker.demand(source, now), now)
        self._claims.delivered(source, *(piece for piece, _ in settled))
        self._ranking.outcome(source, good=True)
        self._idle_if_done(source, now)

    def _blame(
        self, source: SourceId, pieces: list[int], now: float, *, denied: bool = False, silent: bool = False
    ) -> list[Command]:
        self._ranking.outcome(source, good=False)
        for piece in self._claims.failed(source, pieces, now, denied=denied):
            if not self.availability.withdraw(source, piece):
                self._claims.restated(source, piece)  # it was withdrawn meanwhile: nothing to restore
        if (at := self._claims.next_due(source)) is not None:
            self._timers.set(Wakeup.CLAIMS, at, source)
        self.requests.back_off(source, now + self._back_off(source, silent=silent))
        self._timers.set(Wakeup.RETRY, self.requests.queues[source].retry_at, source)
        return self._interest.review(source)

    def _back_off(self, source: SourceId, *, silent: bool) -> float:
        """Seconds; the longest at once for a source that is silent, never delivered, and is not needed."""
        if not silent:
            return self._claims.backoff(source)
        spare = not self.requests.queues[source].trusted and self.requests.anybody_delivers
        return MOST_BACKOFF if spare else self._claims.backoff(source, SILENCE_SECONDS)

    def _waste(self, source: SourceId, piece: int, asked: PendingRequest) -> list[Command]:
        self._endgame.wasted(asked.received)
        self._timeouts.allowance_is(spent=self._endgame.spent)
        return [Publish(PieceWasted(self._transfer, piece, asked.received, source))]

    def _release(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self._pieces.released(piece)

    def _idle_if_done(self, source: SourceId, now: float) -> None:
        if not self.requests.queues[source].asked:
            self._ranking.idle(source, now)
