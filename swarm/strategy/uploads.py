"""In which order the requests of each peer are served.

A request waits here and is released to the session a little ahead of its sending, so that the order can
still follow what happens: the piece that was sent least often goes first, which makes a seeder hand out
distinct pieces before it repeats one (the idea of BEP 16 at the uploader's side of a pulling protocol).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from swarm.content.layout import Layout
from swarm.ids import PeerId

RELEASED_BYTES = 512 << 10
"""Released to one session at a time; half a millisecond at 1 GB/s is ample for the next command."""

RELEASED_PIECES = 2
"""One being sent and one behind it, however long a piece is."""


@dataclass(slots=True)
class _Queue:
    waiting: dict[int, None] = field(default_factory=dict)
    released: dict[int, int] = field(default_factory=dict)
    bytes: int = 0


class Uploads:
    """Requests to us that have no final reply yet, by peer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._queues: dict[PeerId, _Queue] = {}
        self._times_sent = array("I", bytes(array("I").itemsize * layout.piece_count))

    def joined(self, peer: PeerId) -> None:
        """A session begins."""
        self._queues[peer] = _Queue()

    def left(self, peer: PeerId) -> None:
        """A session ended."""
        del self._queues[peer]

    def outstanding(self, peer: PeerId) -> int:
        """How many of the peer's requests wait or are being sent."""
        queue = self._queues[peer]
        return len(queue.waiting) + len(queue.released)

    def add(self, peer: PeerId, piece: int) -> None:
        """The peer asks for a piece that it has not asked for yet."""
        self._queues[peer].waiting[piece] = None

    def release(self, peer: PeerId) -> list[int]:
        """The pieces to hand to the session now."""
        queue = self._queues[peer]
        released = []
        while queue.bytes < RELEASED_BYTES or len(queue.released) < RELEASED_PIECES:
            # A piece asked again right after its reply may still be on the books as released.
            ready = (piece for piece in queue.waiting if piece not in queue.released)
            piece = min(ready, key=self._times_sent.__getitem__, default=None)
            if piece is None:
                break
            del queue.waiting[piece]
            queue.released[piece] = self._layout.length(piece)
            queue.bytes += queue.released[piece]
            self._times_sent[piece] += 1
            released.append(piece)
        return released

    def finished(self, peer: PeerId, piece: int) -> None:
        """The final reply of a released request is out; another piece changes nothing."""
        queue = self._queues[peer]
        queue.bytes -= queue.released.pop(piece, 0)

    def withdraw(self, peer: PeerId, piece: int) -> bool:
        """Take a request back that still waits; says whether it did."""
        queue = self._queues[peer]
        if piece not in queue.waiting:
            return False
        del queue.waiting[piece]
        return True

    def drop(self, peer: PeerId, piece: int) -> bool:
        """Forget a released request; says whether there was one."""
        known = piece in self._queues[peer].released
        self.finished(peer, piece)
        return known

    def waiting(self, peer: PeerId) -> list[int]:
        """The peer's requests that are not released, oldest first."""
        return list(self._queues[peer].waiting)

    def asked_for(self, piece: int) -> list[PeerId]:
        """Whose requests for the piece wait or are being sent."""
        return [
            peer for peer, queue in self._queues.items() if piece in queue.waiting or piece in queue.released
        ]
