"""The end of a transfer: a second request for a piece that somebody else is slow with.

Source: Cohen (2003), section 2.4.4, as tamed by libtorrent: only when every remaining piece is requested, and
only of a source that is idle. Here a whole piece is asked again, so it must also be worth it: the idle source
has to be expected in less than half the time, and duplicate bytes have an allowance.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import Pick
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests
from swarm.strategy.pieces import Pieces

COPIES = 2
"""Sources that are asked for one piece at once, and one more if all of them are overdue."""

ALLOWANCE_SHARE = 160
"""Duplicate bytes may be the total length divided by this, or one piece if that is more: less than 1 %."""

LEAST_GAIN = 2.0
"""The holder must be expected this many times later than the idle source: estimates are rough."""

OVERDUE_SECONDS = 30.0
"""What was asked so long ago may be asked of one more source, whatever the allowance: a source that sends
very slowly must not keep a piece for as long as it likes, nor two such sources together."""

LOOKED_AT = 32
"""Requests, oldest first, among which the slowest is searched: a bound on the work."""


class Endgame:
    """Chooses duplicates and keeps account of what they cost, in bytes."""

    def __init__(
        self, pieces: Pieces, availability: Availability, requests: DownloadRequests, ranking: Ranking
    ) -> None:
        self._pieces = pieces
        self._availability = availability
        self._requests = requests
        self._ranking = ranking
        layout = pieces.layout
        self._allowance = max(layout.total_length // ALLOWANCE_SHARE, layout.piece_length)

    def pick(self, source: SourceId, now: float) -> Pick | None:
        """A piece that the idle source is asked for although another is asked already; None if none is."""
        if not self._requests.holders or self._availability.reachable(self._pieces.open):
            return None
        best, most, left = None, 0.0, self._allowance - self._requests.in_doubt()
        for piece in self._candidates(source):
            holders = self._requests.holders[piece]
            gain = self._gain(source, holders, piece, now)
            affordable = len(holders) < COPIES and self._pieces.layout.length(piece) <= left
            if gain > most and (affordable or self._overdue(holders, piece, now)):
                best, most = piece, gain
        if best is None:
            return None
        return Pick(best, f"endgame ({most:.1f} s sooner)")

    def wasted(self, size: int) -> None:
        """``size`` duplicate bytes came."""
        self._allowance -= size

    @property
    def spent(self) -> bool:
        """Whether less than three quarters of a piece of the allowance are left: stray bytes do not count."""
        return self._allowance * 4 < self._pieces.layout.piece_length * 3

    def may_help(self, source: SourceId) -> bool:
        """Whether the source, if it stays idle, may be of use for a piece that others are asked for."""
        return any(True for _ in self._candidates(source))

    def _candidates(self, source: SourceId) -> Iterator[int]:
        queues = self._requests.queues
        asked = queues[source].asked
        for piece, holders in islice(self._requests.holders.items(), LOOKED_AT):
            # What is on this machine comes without anybody's help.
            if piece in asked or any(queues[holder].local for holder in holders):
                continue
            if self._availability.has(source, piece):
                yield piece

    def _overdue(self, holders: list[SourceId], piece: int, now: float) -> bool:
        return len(holders) <= COPIES and all(
            now >= self._requests.queues[holder].asked[piece].at + OVERDUE_SECONDS for holder in holders
        )

    def _gain(self, source: SourceId, holders: list[SourceId], piece: int, now: float) -> float:
        """Seconds that a duplicate is expected to save; 0 when it is not worth its bytes."""
        mine = self._ranking.seconds_for(source, self._pieces.layout.length(piece), now)
        theirs = min(self._expected(holder, piece, now) for holder in holders)
        return theirs - mine if theirs > LEAST_GAIN * mine else 0.0

    def _expected(self, holder: SourceId, piece: int, now: float) -> float:
        """Seconds until the holder has delivered; no less than it has been silent about the piece."""
        queue = self._requests.queues[holder]
        asked = queue.asked[piece]
        ahead = asked.length - asked.received if asked.received else queue.bytes
        return max(self._ranking.seconds_for(holder, ahead, now), now - asked.touched)
