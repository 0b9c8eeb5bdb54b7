"""In which order the requests of all peers are served, and how many at once.

A piece can be passed on when it is whole, so an uplink that serves eight peers side by side gives each its
piece eight times later, and nobody anything sooner. Here one piece leaves after another: the next is
released when what was released has nearly left (`AHEAD_SECONDS` at the measured rate), so the uplink stays
full and the choice stays late. A receiver that takes its piece much later than the uplink could deliver it
gets a lane of its own, and the uplink goes on with others.

What goes next is the piece that the fewest have or are being sent (rarest first at the uploader's side, the
idea of BEP 16 for a lone seeder), then the peer that was served longest ago.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from operator import attrgetter

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass, field
from swarm.strategy.rates import RATE_SECONDS, Meter

RELEASED_BYTES = 1 << 20
"""Released to one session and not sent yet: as much as it reads, seals and sends in one step.
Half of it for one that takes its pieces late."""

AHEAD_SECONDS = 0.1
"""Released and not sent yet, of all sessions: work for so long, so that the choice of the next stays late."""

LEAST_AHEAD = 128 << 10
"""These bytes at least, while the rate is low or unknown: the link must not run dry between two turns."""

LOOKED_AT = 8
"""Requests of one peer, oldest first, among which the next is searched."""

LATE_SECONDS = 0.25
"""An upload is late after this and `LATE_FACTOR` times what the uplink needs for all that is released:
receivers that take nothing must not hold the uplink, however many they are."""

LATE_FACTOR = 3.0
"""Not less: the measured rate is rough, and an upload that seems late frees a place too early."""

LATE_MOST = 10.0
"""The longest until an upload is late, when the measured rate is near zero because all receivers stopped."""


Release = tuple[PeerId, int]
"""A piece that is to be handed to the session of a peer."""


@dataclass(slots=True)
class _Queue:
    peer: PeerId
    number: int
    waiting: dict[int, None] = field(default_factory=dict)
    released: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    unsent: int = 0
    due: float = 0.0
    late: bool = False
    waits_since: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether the session takes another piece."""
        return self.unsent < (RELEASED_BYTES // 2 if self.late else RELEASED_BYTES)


_number = attrgetter("number")

_Candidate = tuple[float, float, int, int, _Queue]
"""A request that may go next: in the order of rarity, time of waiting, the queue's number and piece."""


class UploadQueue:
    """Requests to us that have no final reply yet, by peer; ``copies`` says of pieces how many
    peers that lack others have each, ``handicap`` how many more it counts as when a peer asks for it."""

    def __init__(
        self,
        layout: Layout,
        copies: Callable[[Sequence[int]], list[int]],
        handicap: Callable[[PeerId, float], float],
        now: float,
    ) -> None:
        self._layout = layout
        self._copies = copies
        self._handicap = handicap
        self._queues: dict[PeerId, _Queue] = {}
        self._joined = 0
        # What is looked at with every byte: those that ask, and those that are being sent something.
        self._asking: dict[PeerId, _Queue] = {}
        self._busy: dict[PeerId, _Queue] = {}
        self._unsent = 0
        self._unsent_late = 0
        self._late = 0
        self._rate = Meter(RATE_SECONDS, now)
        self._idle_since: float | None = now
        self._given: dict[int, dict[PeerId, None]] = {}
        self.given = PieceSet(layout.piece_count)
        """The pieces that somebody was given and has not announced yet; for others to read."""

    def peer_joined(self, peer: PeerId) -> None:
        """A session begins."""
        self._joined += 1
        self._queues[peer] = _Queue(peer, self._joined)

    def peer_left(self, peer: PeerId, now: float) -> None:
        """A session ended."""
        queue = self._queues.pop(peer)
        self._asking.pop(peer, None)
        self._busy.pop(peer, None)
        self._set_late(queue, late=False)
        self._unsent -= queue.unsent
        self.has(peer, *[piece for piece, given in self._given.items() if peer in given])
        self._rest(now)

    def outstanding(self, peer: PeerId) -> int:
        """How many of the peer's requests wait or are being sent."""
        queue = self._queues[peer]
        return len(queue.waiting) + len(queue.released)

    def add(self, peer: PeerId, piece: int, now: float) -> None:
        """The peer asks for a piece that it has not asked for yet."""
        queue = self._queues[peer]
        if not queue.waiting:
            queue.waits_since = now
        queue.waiting[piece] = None
        self._asking[peer] = queue

    def rarity(self, piece: int) -> int:
        """How many peers that lack others have the piece or are being given it."""
        return self._rarities((piece,))[0]

    def _rarities(self, pieces: Sequence[int]) -> list[int]:
        given = self._given
        return [
            copies + len(given[piece]) if piece in given else copies
            for piece, copies in zip(pieces, self._copies(pieces), strict=True)
        ]

    def spread_without(self, peer: PeerId, piece: int) -> bool:
        """Whether anybody but ``peer``, and but those with everything, has the piece or is being given it."""
        if piece in self._given:
            given = self._given[piece]
            if len(given) > 1 or peer not in given:
                return True
        return self._copies((piece,))[0] > 0

    def has(self, peer: PeerId, *pieces: int) -> None:
        """The peer says that it has pieces, or will not get them from here."""
        for piece in pieces:
            if piece in self._given:
                given = self._given[piece]
                given.pop(peer, None)
                if not given:
                    del self._given[piece]
                    self.given.discard(piece)

    def release(self, now: float) -> list[Release]:
        """The pieces to hand to sessions now, in order."""
        # Asked with every input: without room in a session nothing else has to be known.
        if not any(queue.has_room for queue in self._asking.values()):
            return []
        rate = self._rate.rate(now)
        ahead = max(LEAST_AHEAD, rate * AHEAD_SECONDS)
        if self._unsent >= ahead and not self._late:
            return []
        released: list[Release] = []
        while True:
            before = self._unsent + self._unsent_late
            for _, _, _, piece, queue in self._candidates(now):
                if (queue.late or self._unsent < 2 * ahead) and queue.has_room:
                    released.append((queue.peer, piece))
                    self._release(queue, piece, rate, now)
            # Of small pieces, `LOOKED_AT` are too little work for a link that is told in batches.
            if not 0 < self._unsent + self._unsent_late - before < LEAST_AHEAD or self._unsent >= ahead:
                return released

    def sent(self, peer: PeerId, size: int, now: float) -> None:
        """``size`` bytes were handed to the link."""
        self._rate.add(size, now)
        queue = self._queues[peer]
        self._count(queue, -min(size, queue.unsent))
        self._rest(now)

    def finished(self, peer: PeerId, piece: int, now: float) -> None:
        """The final reply of a released request is out; another piece changes nothing."""
        self.finished_many(peer, (piece,), now)

    def finished_many(self, peer: PeerId, pieces: Iterable[int], now: float) -> None:
        """As `finished`, for at least one."""
        queue = self._queues[peer]
        for piece in pieces:
            queue.bytes -= queue.released.pop(piece, 0)
        self._count(queue, -max(0, queue.unsent - queue.bytes))
        if not queue.released or now < queue.due:
            self._set_late(queue, late=False)
        self._rest(now)

    def look(self, now: float) -> None:
        """Give those that are late a lane of their own."""
        for queue in self._busy.values():
            if now >= queue.due:
                self._set_late(queue, late=True)

    def next_look(self) -> float:
        """When `look` may find somebody late; infinity if nothing is being sent."""
        return min((queue.due for queue in self._busy.values() if not queue.late), default=math.inf)

    def withdraw(self, peer: PeerId, piece: int) -> bool:
        """Take a request back that still waits; says whether it did."""
        queue = self._queues[peer]
        if piece not in queue.waiting:
            return False
        self._take(queue, piece)
        return True

    def drop(self, peer: PeerId, piece: int, now: float) -> bool:
        """Forget a released request; says whether there was one."""
        known = piece in self._queues[peer].released
        if known:
            self.has(peer, piece)
        self.finished(peer, piece, now)
        return known

    def waiting(self, peer: PeerId) -> list[int]:
        """The peer's requests that are not released, oldest first."""
        return list(self._queues[peer].waiting)

    def kept_waiting(self) -> list[PeerId]:
        """Who asks for something and was handed nothing that it has still to take."""
        return [peer for peer, queue in self._asking.items() if not queue.unsent]

    def asked(self) -> PieceSet:
        """The pieces that somebody waits for or is being sent."""
        asked = PieceSet(self._layout.piece_count)
        for queue in self._queues.values():
            for piece in (*queue.waiting, *queue.released):
                asked.add(piece)
        return asked

    def waits_for(self, pieces: Iterable[int]) -> list[tuple[PeerId, int]]:
        """Who waits for one of the pieces and is not being sent it, in the order of ``pieces``."""
        asking = sorted(self._asking.values(), key=_number)
        return [(queue.peer, piece) for piece in pieces for queue in asking if piece in queue.waiting]

    def asked_for(self, piece: int) -> list[PeerId]:
        """Whose requests for the piece wait or are being sent."""
        return [
            peer for peer, queue in self._queues.items() if piece in queue.waiting or piece in queue.released
        ]

    def _candidates(self, now: float) -> list[_Candidate]:
        """What may go next, best first."""
        candidates: list[_Candidate] = []
        for peer, queue in self._asking.items():
            if not queue.has_room:
                continue
            more = self._handicap(peer, now)
            # A piece asked again right after its reply may still be on the books as released.
            pieces = [piece for piece in islice(queue.waiting, LOOKED_AT) if piece not in queue.released]
            candidates += [
                (copies + more, queue.waits_since, queue.number, piece, queue)
                for piece, copies in zip(pieces, self._rarities(pieces), strict=True)
            ]
        # Number and piece are of one candidate only.
        candidates.sort()
        return candidates

    def _release(self, queue: _Queue, piece: int, rate: float, now: float) -> None:
        length = self._layout.length(piece)
        self._take(queue, piece)
        queue.waits_since = now
        queue.released[piece] = length
        queue.bytes += length
        self._count(queue, length)
        self._given.setdefault(piece, {})[queue.peer] = None
        self.given.add(piece)
        if self._idle_since is not None:
            self._rate.skip(now - self._idle_since)
            self._idle_since = None
        needed = (self._unsent + queue.unsent) / rate if rate else 0.0
        queue.due = max(queue.due, now + min(LATE_SECONDS + LATE_FACTOR * needed, LATE_MOST))

    def _take(self, queue: _Queue, piece: int) -> None:
        """The piece waits no longer."""
        del queue.waiting[piece]
        if not queue.waiting:
            del self._asking[queue.peer]

    def _count(self, queue: _Queue, change: int) -> None:
        queue.unsent += change
        if queue.unsent:
            self._busy[queue.peer] = queue
        else:
            self._busy.pop(queue.peer, None)
        if queue.late:
            self._unsent_late += change
        else:
            self._unsent += change

    def _set_late(self, queue: _Queue, *, late: bool) -> None:
        """What is late does not count in what is ahead."""
        if queue.late != late:
            queue.late = late
            self._late += 1 if late else -1
            moved = queue.unsent if late else -queue.unsent
            self._unsent -= moved
            self._unsent_late += moved

    def _rest(self, now: float) -> None:
        if self._idle_since is None and not self._unsent + self._unsent_late:
            self._idle_since = now
