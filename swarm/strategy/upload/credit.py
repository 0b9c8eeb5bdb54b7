"""Which receivers come first because they give: to us while we fetch, to others while we seed.

A leecher knows who gives to it (tit-for-tat, Cohen 2003, section 3). A seeder is given nothing, but it sees
who passes on: of a piece that it gave to one peer only, another can have it from nobody else (the measure of
BEP 16). Whoever was given `UNPASSED` pieces more than it is known to have passed on waits until nobody
else does.
"""

from __future__ import annotations

from collections.abc import Callable

from swarm.ids import PeerId

GIVING_SHARE = 0.1
"""Who gives less than this share of the mean of all that give does not give."""

UNPASSED = 2
"""Pieces that may still be on their way to others: with one, every peer would be out of credit at times."""


class Credit:
    """What each connected peer owes to others of what we gave it; ``rate`` is what it gives us."""

    def __init__(self, rate: Callable[[PeerId, float], float]) -> None:
        self._rate = rate
        self._only: dict[int, PeerId] = {}
        self._unpassed: dict[PeerId, int] = {}
        self._looked_at = -1.0
        self._least = 0.0

    def peer_joined(self, peer: PeerId) -> None:
        """A session begins."""
        self._unpassed[peer] = 0

    def peer_left(self, peer: PeerId) -> None:
        """A session ended."""
        del self._unpassed[peer]
        self._only = {piece: holder for piece, holder in self._only.items() if holder != peer}

    def gives(self, peer: PeerId, now: float, *, seeding: bool) -> bool:
        """Whether the peer comes before those that give nothing."""
        if seeding:
            return self._unpassed[peer] < UNPASSED
        if now >= self._looked_at + 1.0:
            self._looked_at = now
            rates = [rate for other in self._unpassed if (rate := self._rate(other, now))]
            self._least = GIVING_SHARE * sum(rates) / len(rates) if rates else 0.0
        return self._rate(peer, now) > self._least

    def given(self, peer: PeerId, piece: int, *, first: bool) -> None:
        """The peer is given a piece that nobody else has (``first``) or that others have too."""
        if first:
            self._only[piece] = peer
            self._unpassed[peer] += 1
        else:
            self._forgive(piece)

    def has(self, peer: PeerId, *pieces: int) -> None:
        """The peer has pieces."""
        for piece in pieces:
            if piece in self._only and self._only[piece] != peer:
                self._forgive(piece)

    def _forgive(self, piece: int) -> None:
        holder = self._only.pop(piece, None)
        if holder is not None:
            self._unpassed[holder] -= 1
