"""Keeps every peer that would serve us asked for as much as it can deliver."""

from __future__ import annotations

from swarm.events import PieceRequested
from swarm.ids import ManifestId, PeerId
from swarm.protocol.messages import Cancel, Request
from swarm.strategy.commands import Command, Publish, Send
from swarm.strategy.download.endgame import RECHECK_SECONDS, Endgame
from swarm.strategy.download.locality import Locality
from swarm.strategy.download.picker import Pick, Picker
from swarm.strategy.download.pipeline import DEADLINE_LEAST, demand
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests, RequestQueue
from swarm.strategy.download.timeouts import Timeouts
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup


class Asker:
    """Picks pieces for peers with room.

    A peer with room that found nothing to ask is hungry: it is tried again when a piece comes free. There
    is no bound over all peers: a request holds no memory before its data comes, and a session has one
    piece under way.
    """

    def __init__(
        self,
        manifest_id: ManifestId,
        pieces: Pieces,
        timers: Timers,
        *,
        requests: DownloadRequests,
        ranking: Ranking,
        picker: Picker,
        endgame: Endgame,
        timeouts: Timeouts,
        locality: Locality,
    ) -> None:
        self._manifest_id = manifest_id
        self._pieces = pieces
        self._requests = requests
        self._ranking = ranking
        self._picker = picker
        self._endgame = endgame
        self._timeouts = timeouts
        self._locality = locality
        self._timers = timers
        self._hungry: dict[PeerId, None] = {}

    def source_left(self, peer: PeerId) -> None:
        """Forget the peer."""
        self._hungry.pop(peer, None)

    def fill(self, peer: PeerId, now: float) -> list[Command]:
        """Ask the peer for as much as it has room for."""
        commands: list[Command] = []
        while self._ask_one(peer, now, commands):
            pass
        return commands

    def verified(self, peer: PeerId, now: float) -> list[Command]:
        """A piece of the peer was what it should be. Before that it was asked for one piece at a time, so
        that a liar wastes one piece and no more."""
        line = self._requests.lines.get(peer)
        if line is None or line.trusted:
            return []
        line.trusted, line.unverified = True, False
        return self.fill(peer, now)

    def refill(self, now: float) -> list[Command]:
        """Pieces came free: the hungry peers take turns, the best first, one piece each time."""
        commands: list[Command] = []
        order = self._ranking.order(self._hungry, now) if self._hungry else []
        while order:
            order = [peer for peer in order if self._ask_one(peer, now, commands)]
        return commands

    def _ask_one(self, peer: PeerId, now: float, commands: list[Command]) -> bool:
        line = self._requests.lines[peer]
        self.source_left(peer)
        if not self._has_room(peer, line, now):
            return False
        pick = self._pick(peer, now)
        if pick and not line.trusted and self._endgame.too_risky(pick.piece, now):
            self._timers.set(Wakeup.IDLE, now + RECHECK_SECONDS)
            pick = None
        if pick:
            self._ask(peer, pick, now, commands)
            return True
        if not line.asked and self._ask_idle(peer, now, commands):
            return True
        self._hungry[peer] = None
        return False

    def _pick(self, peer: PeerId, now: float) -> Pick | None:
        if self._locality.is_far(peer):
            occupied = self._requests.unwelcome(peer, now) or self._requests.occupied(peer)
            pick, again = self._locality.pick(lambda out: self._picker.pick(peer, out), occupied, now)
            if again is not None:
                self._timers.set(Wakeup.IDLE, again)
            return pick
        unwelcome = self._requests.unwelcome(peer, now)
        if unwelcome is not None and (pick := self._picker.pick(peer, unwelcome)):
            return pick
        return self._picker.pick(peer, self._requests.occupied(peer))

    def _ask_idle(self, peer: PeerId, now: float, commands: list[Command]) -> bool:
        """Nothing is open for a peer that has nothing to do: it may help others with what they hold."""
        if self._ranking.proven(peer) and (
            quiet := self._timeouts.take_over(peer, now, self._endgame.affords)
        ):
            holder, piece = quiet
            self._requests.cancel(holder, piece, now)
            self._pieces.released(piece)
            commands.append(Send(holder, Cancel(piece)))
            self._ask(peer, Pick(piece, "taken over from a quiet peer"), now, commands, taken_over=True)
            return True
        if pick := self._endgame.pick(peer, now):
            self._ask(peer, pick, now, commands)
            return True
        if self._endgame.may_help(peer, now):
            self._timers.set(Wakeup.IDLE, now + RECHECK_SECONDS)
        return False

    def _has_room(self, peer: PeerId, line: RequestQueue, now: float) -> bool:
        if line.choked or now < line.retry_at:
            return False
        if line.snubbed or not line.trusted:
            return not line.asked and not line.unverified
        needed = demand(self._ranking.rate(peer, now), self._ranking.round_trip(peer))
        return line.window.fits(line.bytes - line.come, len(line.asked), needed)

    def _ask(
        self, peer: PeerId, pick: Pick, now: float, commands: list[Command], *, taken_over: bool = False
    ) -> None:
        if not self._requests.lines[peer].asked:
            self._ranking.busy(peer, now)
        self._timers.set(Wakeup.REQUESTS, now + DEADLINE_LEAST, peer)
        length = self._pieces.layout.length(pick.piece)
        self._requests.ask(peer, pick.piece, length, now, taken_over=taken_over)
        self._pieces.requested(pick.piece)
        why = f"{pick.why}; {self._ranking.describe(peer, now)}"
        commands.append(Send(peer, Request(pick.piece)))
        commands.append(Publish(PieceRequested(self._manifest_id, pick.piece, peer, why)))
