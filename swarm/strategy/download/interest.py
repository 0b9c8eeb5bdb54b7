"""Whether each peer has something that this side lacks, and that the peer knows it."""

from __future__ import annotations

from swarm.ids import PeerId
from swarm.protocol.messages import Interested, NotInterested
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Command, Send
from swarm.strategy.pieces import Pieces


class Interest:
    """What each peer was last told; a session begins not interested."""

    def __init__(self, pieces: Pieces, availability: Availability) -> None:
        self._pieces = pieces
        self._availability = availability
        self._told: dict[PeerId, bool] = {}
        self._reason: dict[PeerId, int] = {}
        """A piece of each peer that is told of interest, which we lacked when last looked at."""

    def source_joined(self, peer: PeerId) -> None:
        """A session begins."""
        self._told[peer] = False

    def source_left(self, peer: PeerId) -> None:
        """A session ended."""
        del self._told[peer]
        self._reason.pop(peer, None)

    def review(self, peer: PeerId) -> list[Command]:
        """Tell the peer if the answer changed."""
        piece = self._pieces.lacking.first_common(self._availability.pieces_of(peer))
        wants = piece is not None
        if piece is not None:
            self._reason[peer] = piece
        if wants == self._told[peer]:
            return []
        self._told[peer] = wants
        return [Send(peer, Interested() if wants else NotInterested())]

    def got(self, peer: PeerId, piece: int) -> list[Command]:
        """The peer has a new piece: what it was told can only become interest."""
        if self._told[peer] or piece not in self._pieces.lacking:
            return []
        return self.review(peer)

    def sweep(self) -> list[Command]:
        """This side has new pieces: what peers were told can only become the opposite."""
        commands: list[Command] = []
        lacking = self._pieces.lacking
        for peer, told in self._told.items():
            if told and self._reason[peer] not in lacking:
                commands += self.review(peer)
        return commands
