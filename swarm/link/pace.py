"""How many frames a peer may send that move nothing: a header costs us as much as a payload costs it."""

from __future__ import annotations

from swarm.errors import RemoteError
from swarm.link.limits import FRAME_BURST, FRAME_EARNINGS, FRAME_RATE, FRAMES_PER_STREAM
from swarm.link.yamux import DATA, SYN, Frame


class FramePace:
    """FRAME_RATE frames a second for ever, FRAME_BURST at once, more with the payload that comes.

    Each frame costs one, a new stream FRAMES_PER_STREAM; FRAME_EARNINGS bytes of payload earn one.
    """

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left: float = FRAME_BURST
        self._at: float | None = None

    def refill(self, now: float) -> None:
        """Time has passed; ``now`` is monotonic seconds."""
        if self._at is not None and now > self._at:
            self._left = min(FRAME_BURST, self._left + (now - self._at) * FRAME_RATE)
        self._at = now

    def take(self, frame: Frame) -> None:
        """A frame of the peer; RemoteError when it has sent too many."""
        self._left -= FRAMES_PER_STREAM if frame.flags & SYN and frame.stream else 1
        if frame.kind == DATA:
            self._left = min(FRAME_BURST, self._left + frame.length / FRAME_EARNINGS)
        if self._left < 0:
            raise RemoteError("too many Yamux frames that carry nothing")
