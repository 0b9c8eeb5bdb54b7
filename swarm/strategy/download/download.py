"""The download side of one transfer: turns what peers have and send into requests and pieces."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from swarm.bits import PieceSet
from swarm.events import PieceRefused, PieceStored, PieceWasted
from swarm.ids import ManifestId, PeerId
from swarm.protocol.messages import Cancel, RejectReason
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Ban, Command, Disconnect, Publish, Send, StorePiece
from swarm.strategy.download.asking import Asker
from swarm.strategy.download.endgame import Endgame
from swarm.strategy.download.interest import Interest
from swarm.strategy.download.locality import Locality
from swarm.strategy.download.picker import InOrder, Picker, RarestFirst
from swarm.strategy.download.pipeline import demand
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import Claims, DownloadRequests, PendingRequest
from swarm.strategy.download.timeouts import Timeouts
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup

DISK_SECONDS = 1.0
"""How long a piece waits that our own disk refused."""


class DownloadSide:
    """Inputs about peers as sources; each returns the commands that follow. Peers are joined ones."""

    def __init__(
        self,
        manifest_id: ManifestId,
        pieces: Pieces,
        rng: random.Random,
        timers: Timers,
        *,
        throttled: bool,
        sequential: bool,
        me: PeerId,
        prefer_near: bool,
    ) -> None:
        self._manifest_id = manifest_id
        self._pieces = pieces
        self._timers = timers
        self.availability = Availability(pieces.size)
        self.requests = DownloadRequests(pieces.size)
        self._ranking = Ranking(pieces.layout.piece_length, rng)
        self._claims = Claims()
        self._timeouts = Timeouts(self.availability, self.requests, throttled=throttled)
        self._interest = Interest(pieces, self.availability)
        self._endgame = Endgame(pieces, self.availability, self.requests, self._ranking, throttled=throttled)
        picker: Picker = RarestFirst(pieces, self.availability, rng)
        if sequential:
            picker = InOrder(picker, pieces, self.availability, rng)
        self._locality = Locality(me, pieces, self.availability, enabled=prefer_near)
        self._asker = Asker(
            manifest_id,
            pieces,
            timers,
            requests=self.requests,
            ranking=self._ranking,
            picker=picker,
            endgame=self._endgame,
            timeouts=self._timeouts,
            locality=self._locality,
        )

    # --- Peers ----------------------------------------------------------------------------------

    def source_joined(self, peer: PeerId, rtt: float | None, now: float) -> None:
        """A session begins: the peer chokes us and has nothing."""
        self.availability.source_joined(peer)
        self.requests.source_joined(peer)
        self._ranking.source_joined(peer, rtt, now)
        self._interest.source_joined(peer)
        self._locality.measured(peer, rtt)

    def source_left(self, peer: PeerId, now: float) -> list[Command]:
        """A session ended: what the peer was asked for is asked elsewhere."""
        self._release(self.requests.source_left(peer))
        self.availability.source_left(peer)
        self._ranking.source_left(peer)
        self._claims.source_left(peer)
        self._interest.source_left(peer)
        self._asker.source_left(peer)
        self._timers.forget(peer)
        self._locality.source_left(peer)
        return self._asker.refill(now)

    def pinged(self, peer: PeerId, seconds: float | None) -> list[Command]:
        """A ping took ``seconds``, or was lost."""
        self._locality.measured(peer, seconds)
        if self._ranking.pinged(peer, seconds):
            return []
        return [Disconnect(peer, "does not answer pings")]

    def choked(self, peer: PeerId) -> None:
        """The peer takes no more requests; what is outslot still gets its replies."""
        self.requests.lines[peer].choked = True
        self._asker.source_left(peer)

    def unchoked(self, peer: PeerId, now: float) -> list[Command]:
        """The peer takes requests."""
        self.requests.lines[peer].choked = False
        return self._asker.fill(peer, now)

    def snubbed(self, peer: PeerId) -> bool:
        """Whether the peer lets our requests wait."""
        return self.requests.lines[peer].snubbed

    def is_far(self, peer: PeerId) -> bool:
        """See `Locality.is_far`."""
        return self._locality.is_far(peer)

    # --- What peers have ------------------------------------------------------------------------

    def has_exactly(self, peer: PeerId, pieces: PieceSet, now: float) -> list[Command]:
        """The peer says what it has."""
        self.availability.replace(peer, pieces)
        self._locality.restated()
        return self._interest.review(peer) + self._asker.fill(peer, now)

    def has_new(self, peer: PeerId, pieces: Sequence[int], now: float) -> list[Command]:
        """The peer says that it got pieces."""
        commands: list[Command] = []
        news = False
        for piece in pieces:
            self._claims.restated(peer, piece)
            if self.availability.have(peer, piece):
                commands += self._interest.got(peer, piece)
                news = True
        self._locality.has(peer, pieces)
        # Most of what is heard in a swarm comes from peers that choke us.
        if news and not self.requests.lines[peer].choked:
            commands += self._asker.fill(peer, now)
        return commands

    def withdrew(self, peer: PeerId, piece: int) -> list[Command]:
        """The peer says that it no longer has a piece; a request for it still gets its reply."""
        self._claims.restated(peer, piece)
        self.availability.withdraw(peer, piece)
        self._locality.restated()
        return self._interest.review(peer)

    # --- Replies --------------------------------------------------------------------------------

    def data(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` bytes of a piece came."""
        if self.requests.progress(peer, piece, size, now):
            self._timeouts.received(self.requests.lines[peer], size, now)
            self._ranking.received(peer, size, now)
        return self._asker.fill(peer, now)

    def whole(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """A piece is whole in memory; that of a cancelled request is not stored."""
        settled = self.requests.settle(peer, piece)
        if settled is None:
            return []
        asked, _ = settled
        self._credit(peer, piece, asked, now)
        if not asked.live:
            return self._waste(peer, piece, asked) + self._asker.fill(peer, now)
        commands: list[Command] = [Send(p, Cancel(piece)) for p in self.requests.outrun(peer, piece, now)]
        self._pieces.verifying(piece)
        self.requests.lines[peer].unverified = True
        # Asking first: hashing and writing must not leave the peer without work.
        return [*commands, *self._asker.fill(peer, now), StorePiece(peer, piece)]

    def rejected(self, peer: PeerId, piece: int, reason: RejectReason, now: float) -> list[Command]:
        """A request ended without its piece."""
        settled = self.requests.settle(peer, piece)
        if settled is None:
            return []
        asked, free = settled
        commands = self._waste(peer, piece, asked) if asked.received else []
        self._release([piece] if free else [])
        self._idle_if_done(peer, now)
        if asked.live and not self._excused(peer, piece, reason, now):
            commands += self._blame(peer, [piece], now, denied=reason == RejectReason.NOT_STORED)
        return commands + self._asker.refill(now) + self._asker.fill(peer, now)

    def _excused(self, peer: PeerId, piece: int, reason: RejectReason, now: float) -> bool:
        """Whether a reject is no failure: the peer chokes us, or would rather give another piece."""
        if reason == RejectReason.BUSY:
            return self.requests.avoid(peer, piece, now)
        return reason == RejectReason.CHOKED and self.requests.lines[peer].choked

    # --- What became of a piece -----------------------------------------------------------------

    def stored(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """A piece is verified and written: its sender is trusted with more."""
        self._pieces.now_stored(piece)
        size = self._pieces.layout.length(piece)
        told = Publish(PieceStored(self._manifest_id, piece, size, peer))
        return [told, *self._asker.verified(peer, now)]

    def refused(self, peer: PeerId, piece: int) -> list[Command]:
        """A piece did not match its hash. One peer sent all of it, so that peer is to blame."""
        self._pieces.failed(piece)
        size = self._pieces.layout.length(piece)
        event = PieceRefused(self._manifest_id, piece, size, peer)
        return [Publish(event), Ban(peer, f"piece {piece} does not match its hash", piece)]

    def failed(self, piece: int, now: float) -> None:
        """Our disk refused a piece. It is asked for again, but not in a hurry: the disk may be full."""
        self._pieces.failed(piece)
        self._timers.set(Wakeup.IDLE, now + DISK_SECONDS)

    def sweep(self) -> list[Command]:
        """Tell the peers that have nothing for us any more."""
        return self._interest.sweep()

    def wanted_again(self, now: float) -> list[Command]:
        """A stored piece was lost: peers may have something for us that had nothing."""
        return [c for peer in self.requests.lines for c in self._interest.review(peer)] + self.refill(now)

    def refill(self, now: float) -> list[Command]:
        """Ask the peers with room for what is open."""
        return self._asker.refill(now)

    # --- Alarms ---------------------------------------------------------------------------------

    def look_at_requests(self, peer: PeerId, now: float) -> list[Command]:
        """Move the peer's late requests elsewhere."""
        if self._timeouts.owes(peer, now):
            return [Disconnect(peer, "does not answer cancelled requests")]
        late = self._timeouts.move(peer, now)
        if not self._timeouts.hopeless(peer, now, patient=self._endgame.thrifty(now)):
            late = self._endgame.affordable(late, now)
        commands: list[Command] = []
        for piece in late:
            self._release([piece] if self.requests.cancel(peer, piece, now) else [])
            commands.append(Send(peer, Cancel(piece)))
        if late:
            commands += self._blame(peer, late, now, silent=self.snubbed(peer))
        if late or self._endgame.trickles(peer, now):
            commands += self._asker.refill(now)
        self._timers.set(Wakeup.REQUESTS, self._timeouts.next_look(peer, now), peer)
        return commands

    def retry(self, peer: PeerId, now: float) -> list[Command]:
        """The peer's back-off is over, unless it was made longer meanwhile."""
        if (at := self.requests.lines[peer].retry_at) > now:
            self._timers.set(Wakeup.RETRY, at, peer)
        return self._asker.fill(peer, now)

    def restore_claims(self, peer: PeerId, now: float) -> list[Command]:
        """Cleared claims get another chance."""
        for piece in self._claims.due(peer, now):
            self.availability.have(peer, piece)
        if (at := self._claims.next_due(peer)) is not None:
            self._timers.set(Wakeup.CLAIMS, at, peer)
        return self._interest.review(peer) + self._asker.fill(peer, now)

    # --- Shared steps ---------------------------------------------------------------------------

    def _credit(self, peer: PeerId, piece: int, asked: PendingRequest, now: float) -> None:
        line = self.requests.lines[peer]
        line.snubbed = False
        line.turned_away = 0
        line.retry_at = now
        line.progressed(now)
        if asked.live:
            line.times.add(now - asked.at)
        needed = demand(self._ranking.rate(peer, now), self._ranking.round_trip(peer))
        line.window.delivered(asked.length, needed, now)
        self._claims.delivered(peer, piece)
        self._ranking.outcome(peer, good=True)
        self._idle_if_done(peer, now)

    def _blame(
        self, peer: PeerId, pieces: list[int], now: float, *, denied: bool = False, silent: bool = False
    ) -> list[Command]:
        self._ranking.outcome(peer, good=False)
        for piece in self._claims.failed(peer, pieces, now, denied=denied):
            if not self.availability.withdraw(peer, piece):
                self._claims.restated(peer, piece)  # it was withdrawn meanwhile: nothing to restore
        if (at := self._claims.next_due(peer)) is not None:
            self._timers.set(Wakeup.CLAIMS, at, peer)
        line = self.requests.lines[peer]
        spare = silent and not line.trusted and self.requests.anybody_delivers
        line.retry_at = retry_at = now + self._claims.backoff(peer, silent=silent, spare=spare)
        self._timers.set(Wakeup.RETRY, retry_at, peer)
        return self._interest.review(peer)

    def _waste(self, peer: PeerId, piece: int, asked: PendingRequest) -> list[Command]:
        self._endgame.wasted(asked.received)
        return [Publish(PieceWasted(self._manifest_id, piece, asked.received, peer))]

    def _release(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            self._pieces.released(piece)

    def _idle_if_done(self, peer: PeerId, now: float) -> None:
        if not self.requests.lines[peer].asked:
            self._ranking.idle(peer, now)
