"""Which stream ids the peer has used: each of its parity once, and nearly in order."""

from __future__ import annotations

from swarm.errors import RemoteError


class PeerIds:
    """Stream ids of the other end.

    An id may come late, for peers whose concurrent opens reach the wire out of order, but only
    while it is among the last ``skipped_limit`` ids that were jumped over.
    """

    def __init__(self, *, even: bool, skipped_limit: int) -> None:
        self._parity = 0 if even else 1
        self._highest = 0 if even else -1
        self._limit = skipped_limit
        self._skipped: dict[int, None] = {}

    def use(self, stream_id: int) -> None:
        """Take an id for a new stream; RemoteError when it is not the peer's or was used before."""
        if stream_id % 2 != self._parity:
            raise RemoteError(f"the peer opened stream {stream_id}, an id of this end")
        if stream_id > self._highest:
            oldest = max(self._highest + 2, stream_id - 2 * self._limit)
            for skipped in range(oldest, stream_id, 2):
                self._skipped[skipped] = None
            self._highest = stream_id
            while len(self._skipped) > self._limit:
                del self._skipped[next(iter(self._skipped))]
        elif stream_id in self._skipped:
            del self._skipped[stream_id]
        else:
            raise RemoteError(f"the peer opened stream {stream_id} twice")

    def used(self, stream_id: int) -> bool:
        """Whether the peer has opened this id at some time, or jumped over it for good."""
        return stream_id % 2 == self._parity and stream_id <= self._highest and stream_id not in self._skipped
