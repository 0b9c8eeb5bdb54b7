"""The upload side of one transfer: who may ask, and what their requests get."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from swarm.bits import PieceSet
from swarm.ids import PeerId, SourceId
from swarm.protocol.messages import Choke, Reject, RejectReason, Unchoke
from swarm.protocol.protocol_limits import MAX_REQUESTS
from swarm.strategy.availability import Availability
from swarm.strategy.commands import Command, DropUpload, Send, Upload
from swarm.strategy.pieces import Pieces
from swarm.strategy.timers import Timers, Wakeup
from swarm.strategy.upload.choker import SLOTS, UNLIMITED_SLOTS, ChokeChange, Choker
from swarm.strategy.upload.credit import Credit
from swarm.strategy.upload.super_seeding import SuperSeeding
from swarm.strategy.upload.upload_queue import UploadQueue

UNGIVING_COPIES = 4
"""A piece counts as had by so many more when a peer asks for it that gives nothing."""


class SourceFacts(Protocol):
    """What the upload side asks the download side about a peer."""

    @property
    def availability(self) -> Availability:
        """Who has what."""

    def snubbed(self, source: SourceId) -> bool:
        """Whether the peer lets our requests wait."""


class UploadSide:
    """Inputs about peers as receivers; each returns the commands that follow. Peers are joined ones."""

    def __init__(
        self,
        pieces: Pieces,
        sources: SourceFacts,
        rng: random.Random,
        timers: Timers,
        now: float,
        *,
        limited: bool,
    ) -> None:
        self._pieces = pieces
        self._sources = sources
        self._timers = timers
        availability = sources.availability
        self._queue = UploadQueue(pieces.layout, availability.spread, self._handicap, now)
        self._super_seeding = SuperSeeding(pieces, availability, self._queue)
        self._choker = Choker(_slots(limited=limited), timers, rng)
        self._credit = Credit(self._choker.rate)
        self._peers: dict[PeerId, None] = {}

    def limits_changed(self, now: float, *, limited: bool) -> list[Command]:
        """A rate limit of the user came or went: that decides the number of slots."""
        slots = _slots(limited=limited)
        if slots == self._choker.slot_count:
            return []
        self._choker.slot_count = slots
        return self.round(now)

    def peer_joined(self, peer: PeerId, now: float) -> None:
        """A session begins: the peer is choked."""
        self._peers[peer] = None
        self._queue.peer_joined(peer)
        self._credit.peer_joined(peer)
        self._super_seeding.peer_joined(peer)
        self._choker.peer_joined(peer, now)

    def peer_left(self, peer: PeerId, now: float) -> list[Command]:
        """A session ended: its slot goes to another."""
        del self._peers[peer]
        self._queue.peer_left(peer, now)
        self._credit.peer_left(peer)
        self._super_seeding.peer_left(peer)
        self._choker.peer_left(peer)
        return self._give(now) + self._release(now)

    def interested(self, peer: PeerId, now: float, *, yes: bool) -> list[Command]:
        """The peer wants pieces, or no longer does."""
        changes = self._choker.interested(peer, now, yes=yes)
        return self._tell(changes) + self._give(now)

    def received(self, peer: PeerId, size: int, now: float) -> None:
        """The peer gave us ``size`` bytes."""
        self._choker.received(peer, size, now)

    def requested(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The peer asks for a piece."""
        return self.requested_many(peer, (piece,), now)

    def requested_many(self, peer: PeerId, pieces: Sequence[int], now: float) -> list[Command]:
        """The peer asks for pieces, in this order: an idle uplink begins with the first."""
        if not self._choker.is_unchoked(peer):
            return [Send(peer, Reject(piece, RejectReason.CHOKED)) for piece in pieces]
        commands: list[Command] = []
        places = MAX_REQUESTS - self._queue.outstanding(peer)
        added = 0
        for piece in pieces:
            if not self._pieces.is_stored(piece):
                commands.append(Send(peer, Reject(piece, RejectReason.NOT_STORED)))
            elif added >= places or self._super_seeding.sends_away(peer, piece):
                commands.append(Send(peer, Reject(piece, RejectReason.BUSY)))
            else:
                self._queue.add(peer, piece, now)
                added += 1
                if added == 1:
                    commands += self._release(now)
        return commands + self._release(now) if added > 1 else commands

    def cancelled(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The peer no longer wants a piece; one that is already answered is not known here any more."""
        if self._queue.withdraw(peer, piece):
            return [Send(peer, Reject(piece, RejectReason.CANCELLED))]
        if self._queue.drop(peer, piece, now):
            return [DropUpload(peer, piece), *self._release(now)]
        return []

    def uploaded(self, peer: PeerId, size: int, now: float) -> list[Command]:
        """``size`` bytes of a piece were handed to the link."""
        return self.sent(peer, (), size, now)

    def finished(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """An upload is over."""
        self._queue.finished(peer, piece, now)
        return self._release(now)

    def sent(self, peer: PeerId, finished: Sequence[int], size: int, now: float) -> list[Command]:
        """``size`` bytes were handed to the link, and with them these uploads were over."""
        self._choker.sent(peer, size, now)
        self._queue.sent(peer, size, now)
        if finished:
            self._queue.finished_many(peer, finished, now)
        return self._release(now)

    def lost(self, pieces: PieceSet, now: float) -> list[Command]:
        """Pieces can no longer be served: everybody who waits for one is told so."""
        commands: list[Command] = []
        for piece in self._queue.asked() & pieces:
            for peer in self._queue.asked_for(piece):
                if self._queue.withdraw(peer, piece):
                    commands.append(Send(peer, Reject(piece, RejectReason.NOT_STORED)))
                elif self._queue.drop(peer, piece, now):
                    commands.append(DropUpload(peer, piece))
        return commands + self._release(now)

    def round(self, now: float) -> list[Command]:
        """The choker's round."""
        for peer in self._queue.kept_waiting():
            self._choker.sent(peer, 0, now)  # it is not the peer that leaves its slot unused
        changes = self._choker.round(self._snubbing(), now, seeding=self._pieces.complete)
        return self._tell(changes)

    def _handicap(self, peer: PeerId, now: float) -> float:
        return 0 if self._credit.gives(peer, now, seeding=self._pieces.complete) else UNGIVING_COPIES

    def _give(self, now: float) -> list[Command]:
        return self._tell(self._choker.give(self._snubbing(), now, seeding=self._pieces.complete))

    def _snubbing(self) -> set[PeerId]:
        return {peer for peer in self._peers if self._sources.snubbed(peer)}

    def look_at_uploads(self, now: float) -> list[Command]:
        """Some receivers may be late."""
        self._queue.look(now)
        commands = self._release(now)
        self._timers.set(Wakeup.UPLOADS, self._queue.next_look())
        return commands

    def has(self, peer: PeerId, pieces: Iterable[int]) -> None:
        """The peer has pieces now."""
        self._queue.has(peer, *pieces)
        self._credit.has(peer, *pieces)

    def _release(self, now: float) -> list[Command]:
        if not (released := self._queue.release(now)):
            return []
        for peer, piece in released:
            self._credit.given(peer, piece, first=not self._queue.spread_without(peer, piece))
        self._timers.set(Wakeup.UPLOADS, self._queue.next_look())
        commands: list[Command] = [Upload(peer, piece) for peer, piece in released]
        for peer, piece in self._super_seeding.rivals([piece for _, piece in released]):
            self._queue.withdraw(peer, piece)
            commands.append(Send(peer, Reject(piece, RejectReason.BUSY)))
        return commands

    def _tell(self, changes: list[ChokeChange]) -> list[Command]:
        commands: list[Command] = []
        for peer, unchoked in changes:
            if unchoked:
                commands.append(Send(peer, Unchoke()))
                continue
            commands.append(Send(peer, Choke()))
            # What is released is nearly sent: dropping it would waste more than it saves.
            for piece in self._queue.waiting(peer):
                self._queue.withdraw(peer, piece)
                commands.append(Send(peer, Reject(piece, RejectReason.CHOKED)))
        return commands


def _slots(*, limited: bool) -> int:
    return SLOTS if limited else UNLIMITED_SLOTS
