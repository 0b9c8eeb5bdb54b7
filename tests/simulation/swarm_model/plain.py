"""A plain BitTorrent client as a brain for the model: the policies of BEP 3 and nothing more.

Naive rarest first with random ties, four regular slots by tit-for-tat (for a seeder: by what a peer takes)
and an optimistic one that changes every 30 s, rounds of 10 s, two whole pieces asked of each peer (its
pipeline), every request served as it comes so that the unchoked share the uplink equally, an endgame that
asks for what is left twice. No super-seeding, no round trips, no depth by rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from swarm.bits import PieceSet
from swarm.events import PieceWasted
from swarm.ids import PeerId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Interested,
    Message,
    NotInterested,
    Reject,
    RejectReason,
    Request,
    Unchoke,
)
from swarm.strategy.availability import Availability
from swarm.strategy.brain import BrainSetup
from swarm.strategy.commands import Command, DropUpload, Publish, Send, StorePiece, Upload
from swarm.strategy.download.interest import Interest
from swarm.strategy.download.picker import RarestFirst
from swarm.strategy.pieces import Pieces
from swarm.strategy.rates import Meter

REGULAR_SLOTS = 4
ROUND_SECONDS = 10.0
OPTIMISTIC_ROUNDS = 3
PIPELINE = 2
COPIES = 2


class _Peer:
    def __init__(self, now: float) -> None:
        self.chokes_us = True
        self.interested = False
        self.unchoked = False
        self.asked: dict[int, bool] = {}
        self.uploads: set[int] = set()
        self.gave = Meter(20.0, now)
        self.took = Meter(20.0, now)


class PlainBrain:
    """The inputs and outputs of `swarm.strategy.brain.Brain`, other policies."""

    def __init__(self, setup: BrainSetup, rng: random.Random, now: float) -> None:
        self._id, self._rng = setup.transfer, rng
        self._pieces = Pieces(setup.layout, setup.stored)
        self._availability = Availability(setup.layout.piece_count)
        self._interest = Interest(self._pieces, self._availability)
        self._picker = RarestFirst(self._pieces, self._availability, rng)
        self._peers: dict[PeerId, _Peer] = {}
        self._asked_of: dict[int, list[PeerId]] = {}
        self._round_at = now + ROUND_SECONDS
        self._rounds = 0
        self._optimistic: PeerId | None = None

    @property
    def complete(self) -> bool:
        return self._pieces.complete

    def missing(self) -> Iterator[int]:
        return self._availability.unreachable(self._pieces.lacking)

    def next_wakeup(self) -> float:
        return self._round_at if any(peer.interested for peer in self._peers.values()) else math.inf

    # --- Choking ------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Command]:
        if now < self._round_at:
            return []
        self._round_at = now + ROUND_SECONDS
        self._rounds += 1
        return self._rechoke(now)

    def _rechoke(self, now: float) -> list[Command]:
        wanting = [name for name, peer in self._peers.items() if peer.interested]
        self._rng.shuffle(wanting)
        seeding = self._pieces.complete

        def worth(name: PeerId) -> float:
            peer = self._peers[name]
            return -(peer.took if seeding else peer.gave).rate(now)

        regular = sorted(wanting, key=worth)[:REGULAR_SLOTS]
        rest = [name for name in wanting if name not in regular]
        if self._rounds % OPTIMISTIC_ROUNDS == 0 or self._optimistic not in rest:
            self._optimistic = rest[0] if rest else None
        chosen = {*regular, self._optimistic}
        return [
            command
            for name, peer in self._peers.items()
            if peer.unchoked != (name in chosen)
            for command in self._set_choke(name, unchoke=name in chosen)
        ]

    def _set_choke(self, name: PeerId, *, unchoke: bool) -> list[Command]:
        self._peers[name].unchoked = unchoke
        return [Send(name, Unchoke() if unchoke else Choke())]

    def _wants(self, name: PeerId, *, yes: bool) -> list[Command]:
        peer = self._peers[name]
        peer.interested = yes
        if not yes:
            return self._set_choke(name, unchoke=False) if peer.unchoked else []
        free = REGULAR_SLOTS + 1 - sum(other.unchoked for other in self._peers.values())
        return self._set_choke(name, unchoke=True) if free > 0 and not peer.unchoked else []

    # --- Peers and messages -------------------------------------------------------------------------

    def source_joined(self, peer: PeerId, now: float, *, rtt: float | None) -> list[Command]:
        self._peers[peer] = _Peer(now)
        self._availability.source_joined(peer)
        self._interest.source_joined(peer)
        if self._pieces.complete:
            return [Send(peer, HaveAll())]
        return [Send(peer, HaveBitfield(self._pieces.stored.to_bytes()))]

    def source_left(self, peer: PeerId, now: float) -> list[Command]:
        for piece in list(self._peers[peer].asked):
            self._settle(peer, piece, reopen=True)
        del self._peers[peer]
        self._availability.source_left(peer)
        self._interest.source_left(peer)
        return self._fill_all()

    def round_trip(self, peer: PeerId, seconds: float | None, now: float) -> list[Command]:
        """A ping changes nothing."""
        return []

    def received(self, peer: PeerId, message: Message, now: float) -> list[Command]:  # noqa: PLR0911
        state = self._peers[peer]
        match message:
            case Have(pieces):
                news = [p for p in pieces if self._availability.have(peer, p)]
                return self._interest.got(peer, news) + self._fill(peer)
            case HaveBitfield() | HaveAll() | HaveNone():
                size = self._pieces.size
                held = PieceSet.all(size) if isinstance(message, HaveAll) else PieceSet(size)
                if isinstance(message, HaveBitfield):
                    held = PieceSet.from_bytes(message.data, size)
                self._availability.replace(peer, held)
                return self._interest.review(peer)
            case Interested() | NotInterested():
                return self._wants(peer, yes=isinstance(message, Interested))
            case Unchoke():
                state.chokes_us = False
                return self._fill(peer)
            case Choke():
                state.chokes_us = True
            case Request(piece):
                if not state.unchoked:
                    return [Send(peer, Reject(piece, RejectReason.CHOKED))]
                state.uploads.add(piece)
                return [Upload(peer, piece)]
            case Cancel(piece):
                return [DropUpload(peer, piece)]
            case Reject(piece):
                self._settle(peer, piece, reopen=True)
                return self._fill_all()
            case _:
                pass
        return []

    # --- Pieces -------------------------------------------------------------------------------------

    def data_received(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        self._peers[peer].gave.add(size, now)
        return []

    def piece_received(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        if not self._peers[peer].asked.get(piece):  # cancelled: it came all the same
            self._settle(peer, piece, reopen=False)
            size = self._pieces.layout.length(piece)
            return [Publish(PieceWasted(self._id, piece, size, peer)), *self._fill(peer)]
        commands: list[Command] = []
        self._settle(peer, piece, reopen=False)
        for other in self._asked_of.pop(piece, []):
            self._peers[other].asked[piece] = False
            commands.append(Send(other, Cancel(piece)))
        self._pieces.verifying(piece)
        return [*commands, StorePiece(peer, piece), *self._fill(peer)]

    def piece_stored(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        self._pieces.now_stored(piece)
        have = Have((piece,))
        return [*(Send(other, have) for other in self._peers), *self._interest.sweep()]

    def uploaded(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        if peer in self._peers:
            self._peers[peer].took.add(size, now)
        return []

    def upload_finished(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        return []

    # --- Asker -------------------------------------------------------------------------------------

    def _fill_all(self) -> list[Command]:
        return [command for peer in self._peers for command in self._fill(peer)]

    def _fill(self, peer: PeerId) -> list[Command]:
        state = self._peers[peer]
        commands: list[Command] = []
        while not state.chokes_us and len(state.asked) < PIPELINE:
            without = PieceSet(self._pieces.size)
            for piece in state.asked:
                without.add(piece)
            pick = self._picker.pick(peer, without)
            piece = pick.piece if pick else self._last_ones(peer)
            if piece is None:
                break
            self._pieces.requested(piece)
            state.asked[piece] = True
            self._asked_of.setdefault(piece, []).append(peer)
            commands.append(Send(peer, Request(piece)))
        return commands

    def _last_ones(self, peer: PeerId) -> int | None:
        if self._pieces.open:
            return None
        for piece, asked in self._asked_of.items():
            fits = len(asked) < COPIES and piece not in self._peers[peer].asked
            if fits and self._availability.has(peer, piece):
                return piece
        return None

    def _settle(self, peer: PeerId, piece: int, *, reopen: bool) -> None:
        live = self._peers[peer].asked.pop(piece, False)
        asked = self._asked_of.get(piece)
        if not live or asked is None:
            return
        asked.remove(peer)
        if not asked:
            del self._asked_of[piece]
            if reopen:
                self._pieces.released(piece)
