"""Keeps every source that would serve us asked for as much as it can deliver."""

from __future__ import annotations

from collections.abc import Callable

from swarm.content.manifest import MIN_PIECE_LENGTH
from swarm.events import PieceRequested
from swarm.ids import SourceId, TransferId
from swarm.lazy_dataclass import dataclass
from swarm.protocol.messages import Request
from swarm.strategy.commands import Command, Publish, Send
from swarm.strategy.download.endgame import Endgame
from swarm.strategy.download.local import LocalSources
from swarm.strategy.download.locality import Locality
from swarm.strategy.download.origins import Origins
from swarm.strategy.download.picker import Pick, Picker
from swarm.strategy.download.pipeline import demand
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests, RequestQueue
from swarm.strategy.download.timeouts import RECHECK_SECONDS, SILENCE_SECONDS, Timeouts
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
    origins: Origins
    local: LocalSources


class Asker:
    """Picks pieces for sources with room.

    A source with room for which nothing was found is idle: it is tried again when a piece comes free. There
    is no bound over all sources: a request holds no memory before its data comes, and a session has one
    piece under way.
    """

    def __init__(
        self,
        transfer: TransferId,
        pieces: Pieces,
        timers: Timers,
        policies: SourcePolicies,
        *,
        explains: Callable[[], bool],
    ) -> None:
        self._transfer = transfer
        self._explains = explains
        self._pieces = pieces
        self._timers = timers
        self._requests = policies.requests
        self._ranking = policies.ranking
        self._picker = policies.picker
        self._endgame = policies.endgame
        self._timeouts = policies.timeouts
        self._locality = policies.locality
        self._origins = policies.origins
        self._local = policies.local
        self._idle: dict[SourceId, None] = {}

    def source_left(self, source: SourceId) -> None:
        """The source can be asked for nothing any more."""
        self._idle.pop(source, None)

    def fill(self, source: SourceId, now: float) -> list[Command]:
        """Ask the source for as much as it has room for."""
        commands: list[Command] = []
        # Nothing comes while requests are made, so what keeps the source busy stays the same.
        demand = self.demand(source, now)
        more = self._ask_some(source, demand, now, commands)
        queue = self._requests.queues[source]
        if more and self._only_rarity_decides(source, queue):
            picks = self._picker.picks(source)
            while queue.has_room(demand, now):
                if not self._take(next(picks, None), source, demand, now, commands):
                    break
            return commands
        while more:
            more = self._ask_some(source, demand, now, commands)
        return commands

    def _only_rarity_decides(self, source: SourceId, queue: RequestQueue) -> bool:
        """Whether the picker alone says what the source is asked for, as nearly always."""
        special = queue.local or queue.avoided or queue.cancelled or self._origins.is_origin(source)
        return not special and not self._locality.is_far(source)

    def refill(self, now: float) -> list[Command]:
        """Pieces came free: the idle sources take turns, the best first, one piece each time."""
        commands: list[Command] = []
        order = self._ranking.order(self._idle, now) if self._idle else []
        while order:
            order = [each for each in order if self._ask_some(each, self.demand(each, now), now, commands)]
        return commands

    def demand(self, source: SourceId, now: float) -> float:
        """Bytes that keep the source busy."""
        return demand(self._ranking.rate(source, now), self._ranking.round_trip(source))

    def _ask_some(self, source: SourceId, demand: float, now: float, commands: list[Command]) -> bool:
        """Ask for a piece, or for a run of small ones; says whether there may be room for more."""
        queue = self._requests.queues[source]
        self.source_left(source)
        if queue.local:
            return self._ask_local(source, now, commands)
        pick = self._more_of_run(source, now)
        if pick is None:
            if not queue.has_room(demand, now):
                return False
            pick = self._pick(source, now)
        return self._take(pick, source, demand, now, commands)

    def _take(
        self, pick: Pick | None, source: SourceId, demand: float, now: float, commands: list[Command]
    ) -> bool:
        """Ask for what was picked, or for a second copy of something if there is nothing and the source idle.

        Says whether there may be room for more.
        """
        queue = self._requests.queues[source]
        if pick is None and not queue.asked and self._may_double(source, now):
            # Nothing is open for a source that has nothing to do: it may double what another is slow with.
            pick = self._endgame.pick(source, now)
            if pick is None and self._endgame.may_help(source):
                self._timers.set(Wakeup.IDLE, now + RECHECK_SECONDS)
        if pick is None:
            self._idle[source] = None
            return False
        why = f"{pick.why}; {self._ranking.describe(source, now)}" if self._explains() else None
        piece = pick.piece
        left = MIN_PIECE_LENGTH - self._ask(source, piece, why, now, commands)
        # Pieces of small files are asked for in runs: neighbours on the disks of both ends. A run is as long
        # as the shortest piece of a large file, so it costs the swarm no more variety than that would.
        while left > 0 and pick.next_alike(piece := piece + 1) and queue.has_room(demand, now):
            left -= self._ask(source, piece, why, now, commands)
        return True

    def _ask_local(self, source: SourceId, now: float, commands: list[Command]) -> bool:
        """Ask a source on this machine for the next of its pieces; says that there is no room for more."""
        queue = self._requests.queues[source]
        for piece in self._local.next_pieces(source):
            if not queue.has_room(0.0, now):
                return False
            if piece not in queue.asked:
                self._ask(source, piece, None, now, commands)
        self._idle[source] = None
        return False

    def _more_of_run(self, source: SourceId, now: float) -> Pick | None:
        """What an origin is asked for beyond what keeps it busy, so that one request is for many pieces."""
        if not self._origins.is_origin(source) or not self._requests.queues[source].takes_runs(now):
            return None
        return self._origins.more_of_run(source)

    def _may_double(self, source: SourceId, now: float) -> bool:
        return not self._origins.is_origin(source) or self._origins.may_double(now)

    def _pick(self, source: SourceId, now: float) -> Pick | None:
        unwelcome = self._requests.unwelcome(source)
        if self._origins.is_origin(source):
            pick, again = self._origins.pick(source, unwelcome or self._requests.occupied(source), now)
            if pick is None and again is not None:
                self._timers.set(Wakeup.IDLE, again)
            return pick
        if self._locality.is_far(source):
            pick, again = self._locality.pick(
                lambda out: self._picker.pick(source, out), unwelcome or self._requests.occupied(source), now
            )
            if again is not None:
                self._timers.set(Wakeup.IDLE, again)
            return pick
        if unwelcome is not None and (pick := self._picker.pick(source, unwelcome)):
            return pick
        return self._picker.pick(source, self._requests.occupied(source))

    def _ask(self, source: SourceId, piece: int, why: str | None, now: float, commands: list[Command]) -> int:
        """Ask for a piece, and return its length; observers are told ``why`` unless it is None."""
        if not self._requests.queues[source].asked:
            self._ranking.busy(source, now)
            self._timeouts.moved(source, now)
        self._timers.set(Wakeup.REQUESTS, now + SILENCE_SECONDS, source)
        length = self._pieces.layout.length(piece)
        self._requests.ask(source, piece, length, now)
        self._pieces.requested(piece)
        commands.append(Send(source, Request(piece)))
        if why is not None:
            commands.append(Publish(PieceRequested(self._transfer, piece, source, why)))
        return length
