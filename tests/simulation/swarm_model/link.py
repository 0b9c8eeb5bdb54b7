"""The model of links: an uplink that sessions share fairly, a downlink and a gateway that queue, latency.

What it mirrors of the real transfer layer and of the kernel below it:
  - a session has one piece under way and sends it whole, in chunks of about 50 ms (`transfer.chunks`);
  - a chunk counts as uploaded when the socket takes it, which is up to `SOCKET_BYTES` before it leaves;
  - the sockets with something to send get equal shares of the uplink;
  - what the receiver has not taken is bounded by the stream's window, beyond it the session waits.
Control messages are small beside payload and take no bandwidth, but they wait in the queue of the uplink,
as payload does: `QUEUE_SECONDS` while it is busy (on tbf uplinks under Cubic: a median of 80 ms one way).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.transfer.pacing import CHUNK_BYTES, CHUNK_SECONDS, LEAST_CHUNK_BYTES

if TYPE_CHECKING:
    from swarm.ids import PeerId
    from tests.simulation.swarm_model.clock import Clock
    from tests.simulation.swarm_model.member import Member

SOCKET_BYTES = 64 << 10
"""What a socket takes beyond what has left."""

QUEUE_SECONDS = 0.08
"""What the buffer of a busy uplink delays everything by."""

WINDOW_BYTES = 1 << 20
"""Sent by one session and not yet received."""

DOWN_FACTOR = 10.0
"""How much faster than its uplink a peer's downlink is, where nothing else is said."""


@dataclass(frozen=True)
class Place:
    """A site: members of one site reach each other in ``inside`` seconds, others by way of its gateway."""

    name: str = ""
    inside: float = 0.01
    outside: float = 0.01
    gateway: float | None = None
    """Bytes per second each way between the site and the rest; None is no limit."""


NOWHERE = Place()
"""Where everybody is who has no site."""


class Queue:
    """A link that passes one chunk after another."""

    __slots__ = ("_free", "rate")

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free = 0.0

    def through(self, at: float, size: int) -> float:
        """When the last of ``size`` bytes that come at ``at`` is out."""
        if self.rate is None:
            return at
        self._free = max(at, self._free) + size / self.rate
        return self._free


class Session:
    """One member's end of a session: what it has still to send to the other."""

    __slots__ = (
        "back",
        "buffer",
        "buffered",
        "jobs",
        "latency",
        "offset",
        "open",
        "other",
        "owner",
        "under_way",
    )

    def __init__(self, owner: Member, other: Member, latency: float) -> None:
        self.owner = owner
        self.other = other
        self.latency = latency
        self.back: Session
        self.open = True
        self.jobs: deque[int] = deque()
        self.offset = 0
        self.buffer: deque[tuple[int, int, bool]] = deque()
        self.buffered = 0
        self.under_way = 0


class Uplink:
    """Sends the chunks of a member's sessions in turn."""

    def __init__(self, clock: Clock, owner: Member, rate: float) -> None:
        self._clock = clock
        self._owner = owner
        self._rate = rate
        self._turns: deque[Session] = deque()
        self._busy = False
        self._chunk = int(min(max(rate * CHUNK_SECONDS, LEAST_CHUNK_BYTES), CHUNK_BYTES))
        self._clear_at = 0.0
        self.sent = 0

    @property
    def queue_seconds(self) -> float:
        """How long what is written now waits before it is out."""
        return QUEUE_SECONDS if self._busy else 0.0

    def control_leaves(self) -> float:
        """When a control message that is written now is out, behind those before it."""
        self._clear_at = max(self._clear_at, self._clock.now + self.queue_seconds)
        return self._clear_at

    def upload(self, session: Session, piece: int) -> None:
        """The session is to send a piece."""
        session.jobs.append(piece)
        self.go_on(session)

    def reject(self, session: Session, piece: int) -> None:
        """An empty chunk: the piece ends here."""
        had = session.buffered or session.buffer
        session.buffer.append((piece, 0, True))
        if not had:
            self._turns.append(session)
            self._next()
        self.go_on(session)

    def go_on(self, session: Session) -> None:
        """The session may have something to send."""
        had = len(session.buffer)
        self._fill(session)
        if session.buffer and not had and session.under_way < WINDOW_BYTES:
            self._turns.append(session)
            self._next()

    def stop(self) -> None:
        """The member is gone."""
        self._turns.clear()

    def _fill(self, session: Session) -> None:
        """The session's writer hands chunks to the socket until that is full."""
        while session.jobs and session.buffered < SOCKET_BYTES:
            piece = session.jobs[0]
            length = self._owner.layout.length(piece)
            size = min(self._chunk, length - session.offset)
            session.offset += size
            last = session.offset == length
            if last:
                session.jobs.popleft()
                session.offset = 0
            session.buffer.append((piece, size, last))
            session.buffered += size
            self._owner.handed(session, piece, size, last=last)

    def _next(self) -> None:
        if self._busy or not self._turns:
            return
        session = self._turns.popleft()
        if not session.open or not session.buffer:
            self._next()
            return
        self._busy = True
        size = session.buffer[0][1]
        self._clock.later(size / self._rate, self._left, session)

    def _left(self, session: Session) -> None:
        self._busy = False
        if session.open:
            piece, size, last = session.buffer.popleft()
            session.buffered -= size
            session.under_way += size
            self.sent += size
            self._owner.on_the_way(session, piece, size, last=last)
            self._fill(session)
            if session.buffer and session.under_way < WINDOW_BYTES:
                self._turns.append(session)
        self._next()

    def taken(self, session: Session, size: int) -> None:
        """The receiver has taken ``size`` bytes."""
        blocked = session.under_way >= WINDOW_BYTES
        session.under_way -= size
        if blocked and session.under_way < WINDOW_BYTES and session.buffer and session.open:
            self._turns.append(session)
            self._next()


def names(sessions: list[Session]) -> list[PeerId]:
    """The peers at the other ends."""
    return [session.other.name for session in sessions]
