"""One upload of a session, and what is held of its piece."""

from __future__ import annotations

from swarm.errors import SwarmError
from swarm.lazy_dataclass import dataclass
from swarm.transfer.buffers import Grant


@dataclass(slots=True, eq=False)
class UploadJob:
    """One queued upload: a reference until the writer comes to it, then the piece and how far it is sent.

    ``data`` is of the piece from ``start`` on, and is held since the time ``since``.
    """

    piece: int
    length: int
    data: memoryview | None = None
    start: int = 0
    since: float = 0.0
    failure: SwarmError | None = None
    offset: int = 0
    grant: Grant | None = None
    dropped: bool = False

    @property
    def left(self) -> int:
        """Bytes that are held and not sent."""
        return 0 if self.data is None else self.start + len(self.data) - self.offset

    @property
    def held(self) -> int:
        """Bytes of memory that this takes."""
        return 0 if self.grant is None or not self.grant.granted else self.grant.size

    def hold(self, piece: memoryview, at: float) -> None:
        """The piece is read."""
        self.data, self.start, self.since = piece[self.offset :], self.offset, at

    def keep(self, size: int, at: float) -> None:
        """Hold only the next ``size`` bytes from now on, and give the other memory back."""
        if self.data is not None and self.grant is not None:
            kept = memoryview(bytes(self.data[self.offset - self.start :][:size]))
            self.data, self.start, self.since = kept, self.offset, at
            self.grant.shrink(len(kept))

    def release(self) -> None:
        """Let go of the piece's memory."""
        self.data = None
        if self.grant is not None:
            self.grant.release()

    def step_back(self) -> None:
        """Give back the piece's memory, or the place in the queue for it; it can be asked for again."""
        self.release()
        self.grant = None
