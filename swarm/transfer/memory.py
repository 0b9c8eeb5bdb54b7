"""What the transfers of one node may share."""

from __future__ import annotations

from swarm.transfer.buffers import BufferPool, ByteBudget
from swarm.transfer.session_io import UPLOAD_BYTES


class Memory:
    """What the transfers of one node may share: buffers for what comes, a budget for what goes."""

    def __init__(self) -> None:
        self.pool = BufferPool()
        self.uploads = ByteBudget(UPLOAD_BYTES)
