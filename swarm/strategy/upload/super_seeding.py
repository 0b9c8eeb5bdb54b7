"""A seeder gives away every piece once before it gives any twice.

While there are pieces that no other peer has, or is being given, a request for any other piece is answered
BUSY: the asker picks again, from what the others do not pick. The same peer is not sent away twice for
the same piece, since it may have a reason to want that one. This is what super-seeding (BEP 16) is for;
here the seeder hides nothing, and a first copy costs the seeder one copy.
"""

from __future__ import annotations

from collections.abc import Iterable

from swarm.bits import PieceSet
from swarm.ids import PeerId
from swarm.strategy.availability import Availability
from swarm.strategy.pieces import Pieces
from swarm.strategy.upload.upload_queue import UploadQueue


class SuperSeeding:
    """Which requests are better spent on another piece."""

    def __init__(self, pieces: Pieces, availability: Availability, uploads: UploadQueue) -> None:
        self._pieces = pieces
        self._availability = availability
        self._queue = uploads
        self._sent_away: dict[PeerId, PieceSet] = {}
        self._fresh = True
        """Whether there may be pieces that nobody else has: looked at only while there were some."""

    def peer_joined(self, peer: PeerId) -> None:
        """A session begins."""
        self._sent_away[peer] = PieceSet(self._pieces.size)

    def peer_left(self, peer: PeerId) -> None:
        """A session ended: what the peer had, or was being given, may be nobody's now."""
        del self._sent_away[peer]
        self._fresh = True

    def sends_away(self, peer: PeerId, piece: int) -> bool:
        """Whether to answer BUSY to a request of ``piece``; says so once."""
        if not self._fresh or self._pieces.lacking_count:
            return False
        if not self._queue.spread_without(peer, piece) or piece in self._sent_away[peer]:
            return False
        self._fresh = self._availability.anything_unheld(self._pieces.stored, self._queue.given)
        if self._fresh:
            self._sent_away[peer].add(piece)
        return self._fresh

    def rivals(self, pieces: Iterable[int]) -> list[tuple[PeerId, int]]:
        """Who waits for one of ``pieces``, which others are given now, and had better ask for another."""
        if not self._fresh or not self._pieces.complete:
            return []
        return [
            (peer, piece) for peer, piece in self._queue.waits_for(pieces) if self.sends_away(peer, piece)
        ]
