"""Which peers have everything, and which of them got there while they were known. Pure."""

from __future__ import annotations

from swarm.ids import PeerId
from swarm.strategy.peer_book import MAX_STRANGERS


class Completions:
    """Tells each peer's completeness once, however often its session is opened anew."""

    def __init__(self) -> None:
        self._incomplete: dict[PeerId, None] = {}
        self._complete: dict[PeerId, None] = {}

    def incomplete(self, peer: PeerId) -> None:
        """The peer lacks pieces."""
        _note(self._incomplete, peer)

    def complete(self, peer: PeerId) -> bool | None:
        """The peer has every piece: whether it lacked some before; None if that was told already."""
        if peer in self._complete:
            return None
        _note(self._complete, peer)
        return peer in self._incomplete


def _note(peers: dict[PeerId, None], peer: PeerId) -> None:
    peers[peer] = None
    # A new peer id costs its owner nothing.
    if len(peers) > MAX_STRANGERS:
        del peers[next(iter(peers))]
