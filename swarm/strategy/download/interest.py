"""Whether each source has something that this side lacks, and that the source knows it."""

from __future__ import annotations

from collections.abc import Iterable

from swarm.ids import SourceId
from swarm.protocol.messages import Interested, NotInterested
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Command, Send
from swarm.strategy.pieces import Pieces


class Interest:
    """What each source was last told; a session begins not interested."""

    def __init__(self, pieces: Pieces, availability: Availability) -> None:
        self._pieces = pieces
        self._availability = availability
        self._told: dict[SourceId, bool] = {}
        self._reason: dict[SourceId, int] = {}
        """A piece of each source that is told of interest, which we lacked when last looked at."""

    def source_joined(self, source: SourceId) -> None:
        """A session with a peer begins. A source that is no peer is told nothing, and does not join."""
        self._told[source] = False

    def source_left(self, source: SourceId) -> None:
        """A session ended."""
        self._told.pop(source, None)
        self._reason.pop(source, None)

    def review(self, source: SourceId) -> list[Command]:
        """Tell the source if the answer changed."""
        if source not in self._told:
            return []
        piece = self._pieces.lacking.first_common(self._availability.pieces_of(source))
        wants = piece is not None
        if piece is not None:
            self._reason[source] = piece
        if wants == self._told[source]:
            return []
        self._told[source] = wants
        return [Send(source, Interested() if wants else NotInterested())]

    def got(self, source: SourceId, pieces: Iterable[int]) -> list[Command]:
        """The source has new pieces: what it was told can only become interest."""
        if self._told.get(source, True) or self._pieces.complete:
            return []
        lacking = self._pieces.lacking
        return self.review(source) if any(piece in lacking for piece in pieces) else []

    def sweep(self) -> list[Command]:
        """This side has new pieces: what sources were told can only become the opposite."""
        commands: list[Command] = []
        lacking = self._pieces.lacking
        for source, told in self._told.items():
            if told and self._reason[source] not in lacking:
                commands += self.review(source)
        return commands
