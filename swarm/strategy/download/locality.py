"""Which pieces a far peer is not asked for, because they come cheaper from near by.

Peers are near or far by the least round trip that was measured: queues make round trips longer, nothing makes
them shorter. There are two sites when the sorted round trips have a gap of `GAP_FACTOR` and `GAP_SECONDS`.

What a near peer has is asked of near peers only. What only far peers have is wanted by the whole site, and
one copy is enough for it: the peers of a site take turns, in an order that each of them computes from the
names and the piece (rendezvous hashing, Thaler and Ravishankar 1998). The first asks at once, the next
`TURN_SECONDS` later if the piece is still nobody's, and so on.

The same spares a peer that many ask at once, such as the publisher of a patch: it counts as far, whatever the
round trip, as soon as there are others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable

from swarm.bits import PieceSet
from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import Pick
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.rendezvous import draw
from swarm.strategy.pieces import Pieces

GAP_FACTOR = 5.0
"""A far peer is this many times farther than every near one: less is one site with long cables."""

GAP_SECONDS = 0.03
"""And this much: within a continent nothing is worth the wait."""

LEAST_NEAR = 2
"""With fewer peers near by there is nobody to share a copy with."""

TURN_SECONDS = 2.0
"""Time enough for a piece to come over the far link and to be announced."""

FULL_SHARE = 4
"""What near peers with everything have counts only if they are more than one in so many: one seeder of a site
cannot give each of its peers all that the others have."""

TRIES = 16
"""Picks of one peer that may turn out to have to wait before it is left alone: a bound on the work."""

Choose = Callable[[PieceSet], Pick | None]


class Locality:
    """The sites as they seem from here, and the pieces of the near one; unless ``enabled``, nobody is far."""

    def __init__(
        self,
        me: SourceId,
        pieces: Pieces,
        availability: Availability,
        ranking: Ranking,
        *,
        enabled: bool,
        spared: frozenset[SourceId] = frozenset(),
    ) -> None:
        self._enabled = enabled or bool(spared)
        self._spared = spared
        self._me = me
        self._pieces = pieces
        self._availability = availability
        self._ranking = ranking
        self._peers: dict[SourceId, float] = {}
        """The least round trip of each peer when the sites were last looked at."""
        self._far: frozenset[SourceId] = frozenset()
        self._here = PieceSet(pieces.size)
        self._current = True
        self._not_before: dict[int, float] = {}

    def source_joined(self, peer: SourceId) -> None:
        """A session with a peer begins; the ranking knows it already."""
        if self._enabled:
            self._peers[peer] = self._ranking.least_round_trip(peer)
            self._current = False

    def source_left(self, peer: SourceId) -> None:
        """A session ended."""
        if self._peers.pop(peer, None) is not None:
            self._current = False

    def measured(self, peer: SourceId) -> None:
        """The round trip to the peer was measured again."""
        if peer in self._peers and self._ranking.least_round_trip(peer) < self._peers[peer]:
            self._peers[peer] = self._ranking.least_round_trip(peer)
            self._current = False

    def restated(self) -> None:
        """A peer said anew what it has, or no longer has."""
        self._current = not self._peers

    def has(self, peer: SourceId, pieces: Iterable[int]) -> None:
        """The peer got pieces."""
        if self._far and peer not in self._far:
            for piece in pieces:
                self._here.add(piece)
                self._not_before.pop(piece, None)

    def is_far(self, peer: SourceId) -> bool:
        """Whether the peer is of another site."""
        if not self._current:
            self._look()
        return peer in self._far

    def pick(self, choose: Choose, occupied: PieceSet | None, now: float) -> tuple[Pick | None, float | None]:
        """What to ask a far peer for, and when to look again if there is something that waits."""
        if not self._current:
            self._look()
        without = self._here.copy()
        if occupied is not None:
            without |= occupied
        again: float | None = None
        for _ in range(TRIES):
            pick = choose(without)
            if pick is None:
                break
            at = self._wait(pick.piece, now)
            if at <= now:
                return pick, None
            again = at if again is None else min(again, at)
            without.add(pick.piece)
        return None, again

    def _wait(self, piece: int, now: float) -> float:
        if piece not in self._not_before:
            mine = draw(self._me, piece)
            turn = sum(draw(peer, piece) < mine for peer in self._peers if peer not in self._far)
            self._not_before[piece] = now + turn * TURN_SECONDS
        return self._not_before[piece]

    def _look(self) -> None:
        self._current = True
        if self._spared:
            near = [peer for peer in self._peers if peer not in self._spared]
            self._far = frozenset(self._peers) - frozenset(near) if len(near) >= LEAST_NEAR else frozenset()
            self._gather(near if self._far else [])
            return
        order = sorted((p for p, trip in self._peers.items() if trip < math.inf), key=self._peers.__getitem__)
        trips = [self._peers[peer] for peer in order]
        self._far = frozenset()
        for place in range(LEAST_NEAR, len(order)):
            before, after = trips[place - 1], trips[place]
            if after > before * GAP_FACTOR and after > before + GAP_SECONDS:
                self._far = frozenset(order[place:])
                break
        self._gather(order[: len(order) - len(self._far)] if self._far else [])

    def _gather(self, near: Collection[SourceId]) -> None:
        """Note what the near peers have."""
        self._here = PieceSet(self._pieces.size)
        full = sum(self._availability.is_full(peer) for peer in near)
        if full * FULL_SHARE > len(near):
            self._here = PieceSet.all(self._pieces.size)
            return
        for peer in near:
            if not self._availability.is_full(peer):
                self._here |= self._availability.pieces_of(peer)
