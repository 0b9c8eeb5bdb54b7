"""Where a peer that is asked something may be: several sources name it, and name it anew when it moves."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from swarm.endpoint import Route
from swarm.strategy.peer_book import MAX_ADDRESSES


class Whereabouts:
    """The addresses of one peer.

    What was said first is kept, and of all that was said later the latest: nobody can push out the addresses
    of a link, and who asks for days finds a peer that moves again and again.
    """

    def __init__(self, first: Sequence[Route]) -> None:
        self._first = tuple(first[:MAX_ADDRESSES])
        self._later: dict[Route, None] = {}
        self._told = 0
        self.news = trio.Event()
        """Set by addresses that are new. Replace it before reading `endpoints`: then none goes unseen.

        Only so many times: a hostile source could name new ones for ever, each to be dialled at once.
        """

    @property
    def endpoints(self) -> tuple[Route, ...]:
        """Where to look for the peer."""
        return tuple(dict.fromkeys((*self._first, *self._later)))

    def learn(self, endpoints: Sequence[Route]) -> None:
        """Note further addresses."""
        before = self.endpoints
        for endpoint in endpoints[:MAX_ADDRESSES]:
            if endpoint not in self._first:
                self._later.pop(endpoint, None)
                self._later[endpoint] = None
        while len(self._later) > MAX_ADDRESSES:
            del self._later[next(iter(self._later))]
        if self._told < MAX_ADDRESSES and not set(before).issuperset(self.endpoints):
            self._told += 1
            self.news.set()
