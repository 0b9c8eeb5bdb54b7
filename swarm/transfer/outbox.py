"""What one session still has to write: control frames, announcements, references to uploads. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from swarm.errors import LinkClosed
from swarm.transfer.budget import Grant
from swarm.wire import limits
from swarm.wire.codec import encode
from swarm.wire.messages import Cancel, Goodbye, Have, Message, Reject, RejectReason, Withdraw
from swarm.wire.session import PeerProtocol

QUEUE_BYTES = 1024 * 1024
"""Control that waits for a peer that does not read; beyond it the session is ended."""


@dataclass(slots=True, eq=False)
class UploadJob:
    """One queued upload: a reference until the writer comes to it, then the piece and how far it is sent."""

    piece: int
    length: int
    data: memoryview | None = None
    offset: int = 0
    grant: Grant | None = None
    dropped: bool = False

    def release(self) -> None:
        """Let go of the piece's memory."""
        self.data = None
        if self.grant is not None:
            self.grant.release()


class Outbox:
    """Keeps the order that matters: control before data, HAVE before the WITHDRAW of the same piece.

    Whatever enters is checked and noted by the session's protocol at that moment, so that the replies
    to one request are one, whichever part of the program gives them.
    """

    def __init__(self, protocol: PeerProtocol) -> None:
        self._protocol = protocol
        self._control = bytearray()
        self._haves: list[int] = []
        self.uploads: deque[UploadJob] = deque()
        self.current: UploadJob | None = None
        self.finished = False
        """GOODBYE is queued: nothing enters any more, and no upload is begun."""

    def put(self, message: Message) -> bool:
        """Queue a control message; says whether there was something to queue.

        A CANCEL or REJECT whose request got its final reply meanwhile is nothing. Raises LinkClosed when
        the peer has let too much pile up, LocalProtocolError for what may not be said.
        """
        if self.finished or not self._meaningful(message):
            return False
        self._protocol.sent(message)
        if isinstance(message, Have):
            self._haves.extend(message.pieces)
        else:
            self._put_frame(message)
        if len(self._control) + 4 * len(self._haves) > QUEUE_BYTES:
            raise LinkClosed("the peer does not read what it is sent")
        return True

    def add_upload(self, piece: int, length: int) -> None:
        """Queue an upload that the peer is owed."""
        if not self.finished and self._protocol.owed(piece):
            self.uploads.append(UploadJob(piece, length))

    def drop_upload(self, piece: int, reason: RejectReason) -> None:
        """Give the final reply of an upload at once, wherever it is; nothing if it has been given.

        ``reason`` is for a piece that the peer has not cancelled itself.
        """
        if not self._protocol.owed(piece) or self.finished:
            return
        if self.current is not None and self.current.piece == piece:
            self.current.dropped = True
        else:
            self.uploads = deque(job for job in self.uploads if job.piece != piece)
        if self._protocol.owed_cancelled(piece):
            reason = RejectReason.CANCELLED
        self.put(Reject(piece, reason))

    def next_upload(self) -> UploadJob | None:
        """The upload to go on with, begun or next in line."""
        if self.current is None and self.uploads:
            self.current = self.uploads.popleft()
        return self.current

    def end_upload(self) -> None:
        """The current upload is over."""
        if self.current is not None:
            self.current.release()
            self.current = None

    def clear(self) -> None:
        """The session is over: give back what uploads hold."""
        self.uploads.clear()
        self.end_upload()

    def take(self) -> bytes | bytearray:
        """The control frames to be written now."""
        if not self._control and not self._haves:
            return b""
        control, self._control = self._control, bytearray()
        control += self._take_haves()
        return control

    @property
    def quiet(self) -> bool:
        """Whether there is no control to be written."""
        return not self._control and not self._haves

    def _put_frame(self, message: Message) -> None:
        if isinstance(message, Withdraw | Goodbye):
            self._control += self._take_haves()
        self._control += encode(message)
        if isinstance(message, Goodbye):
            self.finished = True
            self._forget_uploads()

    def _take_haves(self) -> bytes:
        haves, self._haves = self._haves, []
        batches = range(0, len(haves), limits.MAX_HAVE_BATCH)
        return b"".join(encode(Have(tuple(haves[at : at + limits.MAX_HAVE_BATCH]))) for at in batches)

    def _meaningful(self, message: Message) -> bool:
        if isinstance(message, Cancel):
            return self._protocol.asked(message.piece)
        if isinstance(message, Reject):
            return self._protocol.owed(message.piece)
        return True

    def _forget_uploads(self) -> None:
        self.uploads.clear()
        if self.current is not None:
            self.current.dropped = True
