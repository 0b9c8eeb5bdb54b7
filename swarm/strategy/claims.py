"""How often a peer failed to deliver what it says it has.

Three failures of one piece clear the claim for a while, so that a peer that rejects or stalls cannot
hold a piece; it comes back later, so that one bad minute of the only source ends nothing. Failures in a
row make the peer wait longer and longer before it is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.ids import PeerId

STRIKES = 3
CLEARED_SECONDS = 30.0
"""How long a cleared claim stays cleared."""

FIRST_BACKOFF, MOST_BACKOFF = 0.1, 8.0
"""Seconds after one failure, doubled with each further one in a row."""

FIRST_SNUB, MOST_SNUB = 5.0, 30.0
"""The same after a silence: it cost as many seconds to notice."""

UNPROVEN_BACKOFF = 60.0
"""… of a peer that never delivered anything, where others do."""


class Claims:
    """Failures by peer and piece; bounded by the pieces of the manifest for each connected peer."""

    def __init__(self) -> None:
        self._strikes: dict[PeerId, dict[int, int]] = {}
        self._cleared: dict[PeerId, dict[int, float]] = {}
        self._row: dict[PeerId, int] = {}

    def failed(self, peer: PeerId, pieces: Iterable[int], now: float, *, denied: bool = False) -> list[int]:
        """The peer rejected the pieces, or let them wait; returns those whose claim is to be cleared.

        ``denied``: it said that it does not have them, which clears the claim at once.
        """
        self._row[peer] = self._row.get(peer, 0) + 1
        strikes = self._strikes.setdefault(peer, {})
        cleared = []
        for piece in pieces:
            strikes[piece] = strikes.get(piece, 0) + 1
            if denied or strikes[piece] >= STRIKES:
                del strikes[piece]
                self._cleared.setdefault(peer, {})[piece] = now + CLEARED_SECONDS
                cleared.append(piece)
        return cleared

    def delivered(self, peer: PeerId, piece: int) -> None:
        """The peer delivered the piece."""
        self._row.pop(peer, None)
        if strikes := self._strikes.get(peer):
            strikes.pop(piece, None)

    def backoff(self, peer: PeerId, *, silent: bool = False, spare: bool = False) -> float:
        """Seconds to leave the peer alone after its last failure, which was a silence or not.

        ``spare``: it has not delivered anything yet, and others do.
        """
        failures = self._row.get(peer, 0)
        if not failures:
            return 0.0
        if silent and spare:
            return UNPROVEN_BACKOFF
        first, most = (FIRST_SNUB, MOST_SNUB) if silent else (FIRST_BACKOFF, MOST_BACKOFF)
        return min(first * 2.0 ** min(failures - 1, 10), most)

    def restated(self, peer: PeerId, piece: int) -> None:
        """The peer said itself whether it has the piece: what was held against it is void."""
        if cleared := self._cleared.get(peer):
            cleared.pop(piece, None)
        if strikes := self._strikes.get(peer):
            strikes.pop(piece, None)

    def left(self, peer: PeerId) -> None:
        """Forget the peer."""
        for table in (self._strikes, self._cleared, self._row):
            table.pop(peer, None)

    def due(self, peer: PeerId, now: float) -> list[int]:
        """Take the pieces whose claim gets another chance."""
        cleared = self._cleared.get(peer, {})
        back = [piece for piece, at in cleared.items() if at <= now]
        for piece in back:
            del cleared[piece]
        return back

    def next_due(self, peer: PeerId) -> float | None:
        """When `due` has the next piece of the peer; None if it has none to come."""
        return min(self._cleared.get(peer, {}).values(), default=None)
