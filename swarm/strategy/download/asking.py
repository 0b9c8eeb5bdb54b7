"""Keeps every source that would serve us asked for as much as it can deliver."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.events import PieceRequested
from swarm.ids import SourceId, TransferId
from swarm.protocol.messages import Request
from swarm.strategy.commands import Command, Publish, Send
from swarm.strategy.download.endgame import RECHECK_SECONDS, Endgame
from swarm.strategy.download.locality import Locality
from swarm.strategy.download.picker import Pick, Picker
from swarm.strategy.download.pipeline import demand
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests, RequestQueue
from swarm.strategy.download.timeouts import SILENCE_SECONDS, Timeouts
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup


@dataclass(frozen=True, slots=True)
class SourcePolicies:
    """What decides which piece is asked of which source."""

    requests: DownloadRequests
    ranking: Ranking
    picker: Picker
    endgame: Endgame
    timeouts: Timeouts
    locality: Locality


class Asker:
    """Picks pieces for sources with room.

    A source with room that found nothing to ask is hungry: it is tried again when a piece comes free. There
    is no bound over all sources: a request holds no memory before its data comes, and a session has one
    piece under way.
    """

    def __init__(
        self,
        transfer: TransferId,
        pieces: Pieces,
        timers: Timers,
        policies: SourcePolicies,
    ) -> None:
        self._transfer = transfer
        self._pieces = pieces
        self._timers = timers
        self._requests = policies.requests
        self._ranking = policies.ranking
        self._picker = policies.picker
        self._endgame = policies.endgame
        self._timeouts = policies.timeouts
        self._locality = policies.locality
        self._hungry: dict[SourceId, None] = {}

    def source_left(self, source: SourceId) -> None:
        """Forget the source."""
        self._hungry.pop(source, None)

    def fill(self, source: SourceId, now: float) -> list[Command]:
        """Ask the source for as much as it has room for."""
        commands: list[Command] = []
        while self._ask_one(source, now, commands):
            pass
        return commands

    def verified(self, source: SourceId, now: float) -> list[Command]:
        """A piece of the source was what it should be. Before that it was asked for one piece at a time, so
        that a liar wastes one piece and no more."""
        line = self._requests.lines.get(source)
        if line is None or line.trusted:
            return []
        line.trusted, line.unverified = True, False
        return self.fill(source, now)

    def refill(self, now: float) -> list[Command]:
        """Pieces came free: the hungry sources take turns, the best first, one piece each time."""
        commands: list[Command] = []
        order = self._ranking.order(self._hungry, now) if self._hungry else []
        while order:
            order = [source for source in order if self._ask_one(source, now, commands)]
        return commands

    def _ask_one(self, source: SourceId, now: float, commands: list[Command]) -> bool:
        line = self._requests.lines[source]
        self.source_left(source)
        if not self._has_room(source, line, now):
            return False
        pick = self._pick(source, now)
        if pick:
            self._ask(source, pick, now, commands)
            return True
        if not line.asked and self._ask_idle(source, now, commands):
            return True
        self._hungry[source] = None
        return False

    def _pick(self, source: SourceId, now: float) -> Pick | None:
        if self._locality.is_far(source):
            occupied = self._requests.unwelcome(source) or self._requests.occupied(source)
            pick, again = self._locality.pick(lambda out: self._picker.pick(source, out), occupied, now)
            if again is not None:
                self._timers.set(Wakeup.IDLE, again)
            return pick
        unwelcome = self._requests.unwelcome(source)
        if unwelcome is not None and (pick := self._picker.pick(source, unwelcome)):
            return pick
        return self._picker.pick(source, self._requests.occupied(source))

    def _ask_idle(self, source: SourceId, now: float, commands: list[Command]) -> bool:
        """Nothing is open for a source that has nothing to do: it may help others with what they hold."""
        if pick := self._endgame.pick(source, now):
            self._ask(source, pick, now, commands)
            return True
        if self._endgame.may_help(source, now):
            self._timers.set(Wakeup.IDLE, now + RECHECK_SECONDS)
        return False

    def _has_room(self, source: SourceId, line: RequestQueue, now: float) -> bool:
        if line.choked or now < line.retry_at:
            return False
        if line.snubbed or not line.trusted:
            return not line.asked and not line.unverified
        needed = demand(self._ranking.rate(source, now), self._ranking.round_trip(source))
        return line.window.fits(line.bytes - line.come, len(line.asked), needed)

    def _ask(self, source: SourceId, pick: Pick, now: float, commands: list[Command]) -> None:
        if not self._requests.lines[source].asked:
            self._ranking.busy(source, now)
        self._timers.set(Wakeup.REQUESTS, now + SILENCE_SECONDS, source)
        length = self._pieces.layout.length(pick.piece)
        self._requests.ask(source, pick.piece, length, now)
        self._pieces.requested(pick.piece)
        why = f"{pick.why}; {self._ranking.describe(source, now)}"
        commands.append(Send(source, Request(pick.piece)))
        commands.append(Publish(PieceRequested(self._transfer, pick.piece, source, why)))
