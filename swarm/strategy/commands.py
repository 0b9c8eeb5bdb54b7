"""What a brain wants done. The runner performs commands in the order given; results are inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.events import Event
from swarm.ids import PeerId, SourceId
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from swarm.protocol.messages import Message


@dataclass(frozen=True, slots=True)
class Command:
    """Base of all commands."""


@dataclass(frozen=True, slots=True)
class Send(Command):
    """Send a control message to the source; it overtakes queued payload."""

    source: SourceId
    message: Message


@dataclass(frozen=True, slots=True)
class Upload(Command):
    """Send the stored piece to the peer that requested it, after the uploads that it already has.

    Reported as `uploaded` for every run of bytes and `upload_finished` at the last one.
    """

    peer: PeerId
    piece: int


@dataclass(frozen=True, slots=True)
class DropUpload(Command):
    """Stop an `Upload` that is not finished.

    The session owes the one final reply: it sends the Reject when no byte of the piece has left,
    and may send either the rest or a Reject when some has. The brain has forgotten the upload.
    """

    peer: PeerId
    piece: int


@dataclass(frozen=True, slots=True)
class StorePiece(Command):
    """Verify and write the whole piece that the source's session holds.

    Reported as exactly one of `piece_stored`, `piece_refused`, `piece_failed`.
    """

    source: SourceId
    piece: int


@dataclass(frozen=True, slots=True)
class Disconnect(Command):
    """End the session; the source may be joined again. Reported as `source_left`."""

    source: SourceId
    reason: str


@dataclass(frozen=True, slots=True)
class Ban(Command):
    """End the session and never use the source again in this process. Reported as `source_left`.

    ``piece`` is the piece that did not match its hash, or None for another reason.
    """

    source: SourceId
    reason: str
    piece: int | None = None


@dataclass(frozen=True, slots=True)
class Blame(Command):
    """Tell an origin that a piece of it did not match: it is used on, but not for the file of this piece."""

    source: SourceId
    reason: str
    piece: int


@dataclass(frozen=True, slots=True)
class Publish(Command):
    """Tell the observers; the brain publishes events about pieces, the runner those about peers and bytes."""

    event: Event
