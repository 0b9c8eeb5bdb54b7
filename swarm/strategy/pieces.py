"""The state of every piece on this side: the one owner of that fact.

Each piece is in exactly one state, and moves only so:

    MISSING ──request──▶ REQUESTED ──whole──▶ VERIFYING ──written──▶ STORED
       ▲  ◀──released───────┘                     │                     │
       ├◀─────────── refused or failed ───────────┘                     │
       └◀─────────────────────────── lost ──────────────────────────────┘
       └────── found again, as it was, or taken from this machine ─────▶┘

A piece that is taken from a file on this machine may be REQUESTED before, too.

Invariants:
  - a piece is in ``open`` or in ``kept`` exactly when it is MISSING and wanted: in ``kept`` if a source on
    this machine offers it (`reserve`), so that nobody else is asked for it;
  - a piece is in ``lacking`` exactly when it is wanted and not STORED; ``open`` is a part of it;
  - a piece is in ``stored`` exactly when it is STORED; only such a piece is announced or served;
  - a piece lost after everything was complete is not wanted again, unless the target is not finished;
  - which pieces are wanted is settled at the start; others are served if STORED, and never asked for.
"""

from __future__ import annotations

from enum import IntEnum

from swarm.bits import PieceSet
from swarm.content.layout import Layout


class State(IntEnum):
    """Where a piece is on its way here."""

    MISSING = 0
    REQUESTED = 1
    VERIFYING = 2
    STORED = 3


class Pieces:
    """States of all pieces of one manifest. A move that the picture does not show raises ValueError."""

    def __init__(self, layout: Layout, stored: PieceSet, wanted: PieceSet | None = None) -> None:
        wanted = PieceSet.all(layout.piece_count) if wanted is None else wanted
        for field in (stored, wanted):
            if field.size != layout.piece_count:
                raise ValueError(f"{field.size} bits cannot describe {layout.piece_count} pieces")
        self.layout = layout
        self.stored = stored.copy()
        self.wanted = wanted.copy()
        self.lacking = self.wanted - self.stored
        self.open = self.lacking.copy()
        self.kept = PieceSet(stored.size)
        self._reserved: PieceSet | None = None
        self.lacking_count = self.lacking.count
        self._states = bytearray(stored.size)
        for piece in stored:
            self._states[piece] = State.STORED

    @property
    def size(self) -> int:
        """How many pieces the manifest has."""
        return len(self._states)

    @property
    def stored_count(self) -> int:
        """How many pieces are STORED."""
        return self._states.count(State.STORED)

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is STORED."""
        return not self.lacking_count

    def state(self, piece: int) -> State:
        """The piece's state."""
        return State(self._states[piece])

    def is_stored(self, piece: int) -> bool:
        """Whether the piece may be served."""
        return self._states[piece] == State.STORED

    def requested(self, piece: int) -> None:
        """Somebody was asked for it; a second asked peer changes nothing."""
        if self._states[piece] != State.REQUESTED:
            self._move(piece, State.REQUESTED, State.MISSING)
            self._close(piece)

    def released(self, piece: int) -> None:
        """Nobody is asked for it any more."""
        self._move(piece, State.MISSING, State.REQUESTED)
        self._reopen(piece)

    def verifying(self, piece: int) -> None:
        """It is whole in memory."""
        self._move(piece, State.VERIFYING, State.REQUESTED)

    def failed(self, piece: int) -> None:
        """It did not match, or could not be written."""
        self._move(piece, State.MISSING, State.VERIFYING)
        self._reopen(piece)

    def now_stored(self, piece: int) -> None:
        """It matched and is written."""
        self._move(piece, State.STORED, State.VERIFYING)
        self.stored.add(piece)
        self.lacking_count -= self.lacking.discard(piece)

    def lost(self, piece: int) -> None:
        """It is no longer what it was; it is wanted again unless everything was complete."""
        wanted = piece in self.wanted and not self.complete
        self._move(piece, State.MISSING, State.STORED)
        self.stored.discard(piece)
        if wanted:
            self.lacking_count += self.lacking.add(piece)
            self._reopen(piece)

    def lost_many(self, pieces: PieceSet, *, again: bool = False) -> PieceSet:
        """As `lost`, for those of ``pieces`` that are STORED; returns them.

        ``again``: they are wanted again in any case, because the target is complete but not finished; also
        those that were lost since it was complete.
        """
        gone = pieces & self.stored
        for piece in gone:
            self._states[piece] = State.MISSING
        if again or not self.complete:
            missing = ((pieces if again else gone) & self.wanted) - self.lacking
            self.lacking |= missing
            self.open |= missing
            self.lacking_count += missing.count
            self._sort_out()
        self.stored -= gone
        return gone

    def found_many(self, pieces: PieceSet) -> PieceSet:
        """Those of ``pieces`` that are MISSING are here again; returns them."""
        back = PieceSet.of(self.size, (piece for piece in pieces if self._states[piece] == State.MISSING))
        for piece in back:
            self._states[piece] = State.STORED
        self.stored |= back
        self.open -= back
        self.kept -= back
        self.lacking -= back
        self.lacking_count = self.lacking.count
        return back

    def taken(self, piece: int) -> bool:
        """It was taken from a file on this machine, verified and written; says whether that is news.

        If it is being verified it came from elsewhere, too, and becomes STORED by that.
        """
        if self._states[piece] in {State.VERIFYING, State.STORED}:
            return False
        self._states[piece] = State.STORED
        self._close(piece)
        self.stored.add(piece)
        self.lacking_count -= self.lacking.discard(piece)
        return True

    def reserve(self, pieces: PieceSet) -> None:
        """Sources on this machine offer exactly these pieces: of the MISSING ones nobody else is asked."""
        self._reserved = pieces or None
        self.open |= self.kept
        self.kept = PieceSet(self.size)
        self._sort_out()

    def unreserve(self, piece: int) -> None:
        """No source on this machine offers the piece any more."""
        if self._reserved is not None:
            self._reserved.discard(piece)
        if self.kept.discard(piece):
            self.open.add(piece)

    def _sort_out(self) -> None:
        """Move what is reserved from ``open`` to ``kept``."""
        if self._reserved is not None:
            reserved = self.open & self._reserved
            self.open -= reserved
            self.kept |= reserved

    def _close(self, piece: int) -> None:
        if not self.open.discard(piece):
            self.kept.discard(piece)

    def _reopen(self, piece: int) -> None:
        if piece in self.lacking:
            reserved = self._reserved is not None and piece in self._reserved
            (self.kept if reserved else self.open).add(piece)

    def _move(self, piece: int, to: State, before: State) -> None:
        found = self._states[piece]
        if found != before:
            raise ValueError(f"piece {piece} cannot become {to.name} from {State(found).name}")
        self._states[piece] = to
