"""The requests of one side that still wait for their one final reply."""

from __future__ import annotations

from swarm.content.layout import Layout
from swarm.wire import limits


class Requests:
    """Outstanding requests: piece to the offset that its next DATA must have.

    The DATA of two pieces are never interleaved: a piece that was begun is finished or rejected before
    another begins, so that a session needs one buffer, whatever its peer does.
    Every method raises ValueError with one line for what is illegal.
    """

    __slots__ = ("_begun", "_cancelled", "_layout", "_next")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._next: dict[int, int] = {}
        self._cancelled: set[int] = set()
        self._begun: int | None = None

    def __len__(self) -> int:
        return len(self._next)

    def __contains__(self, piece: int) -> bool:
        return piece in self._next

    def cancelled(self, piece: int) -> bool:
        """Whether the asker has cancelled this outstanding request."""
        return piece in self._cancelled

    def ask(self, piece: int) -> None:
        """A REQUEST."""
        if not 0 <= piece < self._layout.piece_count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._next:
            raise ValueError(f"piece {piece} is requested already")
        if len(self._next) >= limits.MAX_REQUESTS:
            raise ValueError(f"more than {limits.MAX_REQUESTS} requests are outstanding")
        self._next[piece] = 0

    def cancel(self, piece: int) -> None:
        """A CANCEL; one that crosses the final reply is nothing, one that is repeated is illegal."""
        if not 0 <= piece < self._layout.piece_count:
            raise ValueError(f"there is no piece {piece}")
        if piece in self._cancelled:
            raise ValueError(f"piece {piece} is cancelled already")
        if piece in self._next:
            self._cancelled.add(piece)

    def data(self, piece: int, offset: int, size: int) -> bool:
        """A DATA; says whether it is the last of its piece, which ends the request."""
        expected = self._next.get(piece)
        if expected is None:
            raise ValueError(f"data of piece {piece}, which is not requested")
        if self._begun is not None and self._begun != piece:
            raise ValueError(f"data of piece {piece} before the end of piece {self._begun}")
        if offset != expected:
            raise ValueError(f"data of piece {piece} from byte {offset} where {expected} is next")
        end = offset + size
        length = self._layout.length(piece)
        if not 1 <= size <= limits.MAX_DATA_BYTES or end > length:
            raise ValueError(f"{size} bytes from byte {offset} do not fit piece {piece} of {length}")
        if end == length:
            self._end(piece)
            return True
        self._next[piece] = end
        self._begun = piece
        return False

    def reject(self, piece: int) -> None:
        """A REJECT, which ends the request."""
        if piece not in self._next:
            raise ValueError(f"piece {piece} is rejected without a request")
        self._end(piece)

    def _end(self, piece: int) -> None:
        del self._next[piece]
        self._cancelled.discard(piece)
        if self._begun == piece:
            self._begun = None
