"""The end of a transfer: a second request for a piece that somebody else is slow with.

Source: Cohen (2003), section 2.4.4, as tamed by libtorrent: only when every remaining piece is requested
and only of a source that is idle. Here a whole piece is asked again, so it must also be worth it: the idle
source has to be expected in less than half the time, and the wasted bytes have an allowance. What a source
holds that trickles is doubled all the same: it would keep the last piece for as long as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, islice

from swarm.ids import SourceId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import Pick
from swarm.strategy.download.ranking import Ranking
from swarm.strategy.download.requests import DownloadRequests
from swarm.strategy.pieces import Pieces

COPIES = 2
"""Sources that are asked for one piece at once, and one more if all of them trickle."""

ALLOWANCE_SHARE = 160
"""What comes in vain may be the total length divided by this, or `ALLOWANCE_PIECES` if that is more."""

ALLOWANCE_PIECES = 1
EARLY_PIECES = 32
EARLY_SHARE = 2
"""While so many pieces are lacking, and one in so many of all, there is no hurry: it is the others that have
nothing more to give yet."""

LEAST_GAIN = 2.0
"""The holder must be expected this many times later than the idle source."""

LEAST_GAIN_SECONDS = 0.2
BEGUN_SECONDS = 10.0
LONG_SECONDS = 30.0
SLOW_FACTOR = 10
"""A source trickles that began a piece so long ago, needs so much longer for all that it is asked for, and
is so many times slower than the average. Pieces are sent one after another, so an honest one is soon through
with a piece; where our own downlink makes it slow, the others are slow too."""

LOOKED_AT = 32
"""Requests, oldest first, among which the slowest is searched."""

RECHECK_SECONDS = 0.5
"""How soon an idle source looks again while requests of others are outstanding."""


class Endgame:
    """Chooses duplicates and keeps account of what they cost, in bytes."""

    def __init__(
        self,
        pieces: Pieces,
        availability: Availability,
        requests: DownloadRequests,
        ranking: Ranking,
        *,
        throttled: bool,
    ) -> None:
        self._pieces = pieces
        self._availability = availability
        self._requests = requests
        self._ranking = ranking
        # Under a download limit it is we who make sources slow.
        self._throttled = throttled
        layout = pieces.layout
        least = ALLOWANCE_PIECES * layout.piece_length
        self._allowance = self._whole = max(layout.total_length // ALLOWANCE_SHARE, least)

    def pick(self, source: SourceId, now: float) -> Pick | None:
        """A piece that the idle source is asked for although another one already is; None if there is none."""
        if not self._requests.holders or self._early() or self._availability.reachable(self._pieces.open):
            return None
        best, most, left = None, 0.0, self._left(now)
        for piece in self._candidates(source, now):
            holders = self._requests.holders[piece]
            if self._pieces.layout.length(piece) > left and not self._trickle(holders, now):
                continue
            gain = self._gain(source, holders[0], piece, now)
            if gain > most:
                best, most = piece, gain
        if best is None:
            return None
        return Pick(best, f"endgame ({most:.1f} s sooner)")

    def _trickle(self, holders: list[SourceId], now: float) -> bool:
        return all(self.trickles(holder, now) for holder in holders)

    def trickles(self, source: SourceId, now: float) -> bool:
        """Whether what the source holds will not be here for long."""
        line = self._requests.lines[source]
        long_since = line.under_way is not None and now >= line.under_way.begun_at + BEGUN_SECONDS
        if line.trickles or long_since:
            rate = self._ranking.rate(source, now)
            slow = not self._throttled and rate * SLOW_FACTOR < self._ranking.typical_rate(now)
            line.trickles = slow and line.bytes - line.come > LONG_SECONDS * rate
        return line.trickles

    def _early(self) -> bool:
        return self._pieces.lacking_count > max(EARLY_PIECES, self._pieces.size // EARLY_SHARE)

    def affordable(self, pieces: list[int], now: float) -> list[int]:
        """As many of the pieces, from the first, as may all come twice."""
        left = self._left(now)
        costs = accumulate(self._pieces.layout.length(piece) for piece in pieces)
        return [piece for piece, cost in zip(pieces, costs, strict=True) if cost <= left]

    def thrifty(self, now: float) -> bool:
        """Whether bytes are dear: something came or may come in vain."""
        return self._left(now) < self._whole

    def _left(self, now: float) -> int:
        return self._allowance - self._requests.in_doubt(now)

    def wasted(self, size: int) -> None:
        """``size`` bytes of a piece came in vain."""
        self._allowance -= size

    def may_help(self, source: SourceId, now: float) -> bool:
        """Whether the source, if it stays idle, may be of use for a piece that others are asked for."""
        return any(True for _ in self._candidates(source, now))

    def _candidates(self, source: SourceId, now: float) -> Iterator[int]:
        asked = self._requests.lines[source].asked
        for piece, holders in islice(self._requests.holders.items(), LOOKED_AT):
            if piece in asked or not self._availability.has(source, piece):
                continue
            if len(holders) < COPIES or self._trickle(holders, now):
                yield piece

    def _gain(self, source: SourceId, holder: SourceId, piece: int, now: float) -> float:
        """Seconds that a duplicate is expected to save; 0 when it is not worth its bytes."""
        mine = self._ranking.seconds_for(source, self._pieces.layout.length(piece), now)
        theirs = self._expected(holder, piece, now)
        gain = theirs - mine
        return gain if theirs > LEAST_GAIN * mine and gain > LEAST_GAIN_SECONDS else 0.0

    def _expected(self, holder: SourceId, piece: int, now: float) -> float:
        """Seconds until the holder has delivered; no less than it has been silent about the piece."""
        line = self._requests.lines[holder]
        asked = line.asked[piece]
        ahead = asked.length - asked.received if asked.received else line.bytes
        return max(self._ranking.seconds_for(holder, ahead, now), now - asked.touched)
