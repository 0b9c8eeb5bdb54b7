"""The upload side of one transfer: who may ask, and what their requests get."""

from __future__ import annotations

import random
from collections.abc import Callable

from swarm.ids import PeerId
from swarm.strategy.choker import SLOTS, UNLIMITED_SLOTS, Choker, Verdict
from swarm.strategy.commands import Command, DropUpload, Send, Upload
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers
from swarm.strategy.uploads import Uploads
from swarm.wire.limits import MAX_REQUESTS
from swarm.wire.messages import Choke, Reject, RejectReason, Unchoke


class Serving:
    """Inputs about peers as receivers; each returns the commands that follow. Peers are joined ones."""

    def __init__(
        self,
        pieces: Pieces,
        snubbed: Callable[[PeerId], bool],
        rng: random.Random,
        timers: Timers,
        *,
        limited: bool,
    ) -> None:
        self._pieces = pieces
        self._snubbed = snubbed
        self._uploads = Uploads(pieces.layout)
        slots = SLOTS if limited else UNLIMITED_SLOTS
        self._choker = Choker(slots, pieces.layout.piece_length, timers, rng)
        self._peers: dict[PeerId, None] = {}

    def joined(self, peer: PeerId, now: float) -> None:
        """A session begins: the peer is choked."""
        self._peers[peer] = None
        self._uploads.joined(peer)
        self._choker.joined(peer, now)

    def left(self, peer: PeerId, now: float) -> list[Command]:
        """A session ended: its slot goes to another."""
        del self._peers[peer]
        self._uploads.left(peer)
        self._choker.left(peer)
        return self._give(now)

    def interested(self, peer: PeerId, now: float, *, yes: bool) -> list[Command]:
        """The peer wants pieces, or no longer does."""
        verdicts = self._choker.interested(peer, now, yes=yes)
        return self._tell(verdicts) + self._give(now)

    def received(self, peer: PeerId, size: int, now: float) -> None:
        """The peer gave us ``size`` bytes."""
        self._choker.received(peer, size, now)

    def requested(self, peer: PeerId, piece: int) -> list[Command]:
        """The peer asks for a piece."""
        if not self._choker.is_unchoked(peer):
            return [Send(peer, Reject(piece, RejectReason.CHOKED))]
        if not self._pieces.is_stored(piece):
            return [Send(peer, Reject(piece, RejectReason.NOT_STORED))]
        if self._uploads.outstanding(peer) >= MAX_REQUESTS:
            return [Send(peer, Reject(piece, RejectReason.BUSY))]
        self._uploads.add(peer, piece)
        return self._release(peer)

    def cancelled(self, peer: PeerId, piece: int) -> list[Command]:
        """The peer no longer wants a piece; one that is already answered is not known here any more."""
        if self._uploads.withdraw(peer, piece):
            return [Send(peer, Reject(piece, RejectReason.CANCELLED))]
        if self._uploads.drop(peer, piece):
            return [DropUpload(peer, piece), *self._release(peer)]
        return []

    def uploaded(self, peer: PeerId, size: int) -> None:
        """``size`` bytes of a piece were handed to the link."""
        self._choker.sent(peer, size)

    def finished(self, peer: PeerId, piece: int) -> list[Command]:
        """An upload is over."""
        self._uploads.finished(peer, piece)
        return self._release(peer)

    def lost(self, piece: int) -> list[Command]:
        """A piece can no longer be served: nobody waits for it in vain."""
        commands: list[Command] = []
        for peer in self._uploads.asked_for(piece):
            if self._uploads.withdraw(peer, piece):
                commands.append(Send(peer, Reject(piece, RejectReason.NOT_STORED)))
            elif self._uploads.drop(peer, piece):
                commands += [DropUpload(peer, piece), *self._release(peer)]
        return commands

    def round(self, now: float) -> list[Command]:
        """The choker's round."""
        verdicts = self._choker.round(self._snubbing(), now, seeding=self._pieces.complete)
        return self._tell(verdicts)

    def _give(self, now: float) -> list[Command]:
        return self._tell(self._choker.give(self._snubbing(), now, seeding=self._pieces.complete))

    def _snubbing(self) -> set[PeerId]:
        return {peer for peer in self._peers if self._snubbed(peer)}

    def _release(self, peer: PeerId) -> list[Command]:
        return [Upload(peer, piece) for piece in self._uploads.release(peer)]

    def _tell(self, verdicts: list[Verdict]) -> list[Command]:
        commands: list[Command] = []
        for peer, unchoked in verdicts:
            if unchoked:
                commands.append(Send(peer, Unchoke()))
                continue
            commands.append(Send(peer, Choke()))
            # What is released is nearly sent: dropping it would waste more than it saves.
            for piece in self._uploads.waiting(peer):
                self._uploads.withdraw(peer, piece)
                commands.append(Send(peer, Reject(piece, RejectReason.CHOKED)))
        return commands
