"""One peer in the book: what was said about it, and what came of dialling it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from swarm.ids import PeerId

MAX_ADDRESSES = 8
"""Of one peer: each is dialled with a deadline of its own."""


class Source(IntEnum):
    """Who said that a peer can be dialled at an address; the better source first."""

    NAMED = 0
    """The user."""
    ITSELF = 1
    """The peer, in its own session."""
    HEARSAY = 2
    """Another peer."""


@dataclass(slots=True)
class Entry:
    """``told_by`` and ``host`` are what a stranger counts for; a ``busy`` peer is dialled or in a session."""

    told_by: PeerId | None
    host: str
    named: bool = False
    addresses: dict[str, Source] = field(default_factory=dict)
    busy: bool = False
    not_before: float = -math.inf
    dialled_at: float = -math.inf
    failures: int = 0
    sessions: int = 0
    reliability: float = 1.0
    rtt: float | None = None

    def ordered(self) -> tuple[str, ...]:
        """The addresses, those of the best source first."""
        return tuple(sorted(self.addresses, key=self.addresses.__getitem__))

    def learn(self, address: str, source: Source) -> None:
        """Note an address; a full entry gives up its oldest one of the worst source, if that is no better."""
        known = self.addresses.get(address)
        if known is not None:
            self.addresses[address] = min(known, source)
            return
        if len(self.addresses) >= MAX_ADDRESSES:
            worst = max(self.addresses, key=self.addresses.__getitem__)
            if self.addresses[worst] < source or source == Source.NAMED == self.addresses[worst]:
                return
            del self.addresses[worst]
        self.addresses[address] = source

    def why(self) -> str:
        """What speaks for dialling it, in one line."""
        source = "named by the user" if self.named else "named by a peer"
        if not self.sessions and not self.failures:
            return f"{source}, not tried yet"
        trip = "rtt unknown" if self.rtt is None else f"rtt {self.rtt * 1e3:.1f} ms"
        return f"{source}, {trip}, {self.sessions} sessions, {self.failures} failures in a row"


def host_of(address: str) -> str:
    """``/ip4/<host>`` of a multiaddr."""
    return "/".join(address.split("/")[:3])
