"""State of one Yamux stream, without behaviour of its own: `Connection` owns every transition."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

from swarm.link.inbox import Inbox
from swarm.link.limits import INITIAL_WINDOW
from swarm.link.windows import ReceiveWindow


class Ending(Enum):
    """Why a stream is dead in both directions."""

    RESET_BY_PEER = auto()
    RESET_HERE = auto()
    CONNECTION_LOST = auto()


class Write:
    """Bytes of the caller on their way out; the caller must not change them until ``left`` is 0."""

    __slots__ = ("data", "sent")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.sent = 0

    @property
    def left(self) -> int:
        """Bytes that are not sealed yet."""
        return len(self.data) - self.sent


class Stream:
    """One stream as both ends see it.

    ``sending``: we may still write. ``finished``: our FIN is queued behind everything written.
    ``receiving``: the peer has not sent FIN. ``discarding``: closed here, arriving data is dropped.
    ``ending``: set when the stream is dead in both directions before both were finished; unread
    bytes are gone then, but for a lost connection.
    """

    __slots__ = (
        "acknowledged",
        "closed_at",
        "discarding",
        "ending",
        "finished",
        "id",
        "inbound",
        "inbox",
        "queued",
        "receiving",
        "send_window",
        "sending",
        "window",
        "writes",
    )

    def __init__(self, stream_id: int, *, inbound: bool, inbox: Inbox, window: ReceiveWindow) -> None:
        self.id = stream_id
        self.inbound = inbound
        self.inbox = inbox
        self.window = window
        self.send_window = INITIAL_WINDOW
        self.writes: deque[Write] = deque()
        self.acknowledged = inbound
        self.sending = True
        self.finished = False
        self.receiving = True
        self.discarding = False
        self.queued = False
        self.closed_at = 0.0
        self.ending: Ending | None = None
