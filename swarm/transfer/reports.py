"""What a session tells its owner. Nothing here waits, and nothing here may end more than the session."""

from __future__ import annotations

from typing import Protocol

from swarm.transfer.buffers import PieceBuffer
from swarm.wire.messages import Message


class Reports(Protocol):
    """The owner's ear for one session; sizes are payload bytes."""

    def message_received(self, message: Message) -> None:
        """A legal control message of the peer, greeting and announcement included."""

    def data_received(self, piece: int, size: int) -> None:
        """So much of a requested piece arrived, wanted or cancelled."""

    def piece_received(self, piece: int, buffer: PieceBuffer | None) -> None:
        """All of a requested piece has come; ``buffer`` is the owner's now, or None if it was cancelled."""

    def uploaded(self, piece: int, size: int) -> None:
        """So much of an upload was handed to the link."""

    def upload_finished(self, piece: int) -> None:
        """The final reply of an upload was handed to the link, or is queued before anything else."""

    def piece_lost(self, piece: int) -> None:
        """The store has withdrawn the piece."""
