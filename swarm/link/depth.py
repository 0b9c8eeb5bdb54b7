"""How much may be sealed and handed to the socket ahead of the network.

What has been sealed cannot be overtaken any more, so on a slow link it is kept to what the link
carries in `DEPTH_SECONDS`; on a fast one more of it saves wake-ups.
"""

from __future__ import annotations

from swarm.link.limits import DEPTH_MAX, DEPTH_MIN, DEPTH_SECONDS, DEPTH_START

_FORGET = 0.75
"""Weight of everything before, at each new observation."""


class SendDepth:
    """Follows the rate at which a full socket drains; ``size`` is a power of two in bytes."""

    def __init__(self) -> None:
        self.size = DEPTH_START
        self._bytes = 0.0
        self._seconds = 0.0

    def observe(self, sent: int, waited: float) -> bool:
        """Take ``sent`` bytes after which the full socket made us wait ``waited`` seconds.

        Returns whether ``size`` has changed. Time in which the socket was not full does not
        count, so an idle link does not look slow.
        """
        self._bytes = self._bytes * _FORGET + sent
        self._seconds = self._seconds * _FORGET + waited
        wanted = DEPTH_MAX if self._seconds <= 0 else self._bytes / self._seconds * DEPTH_SECONDS
        before = self.size
        # Factors of two apart in both directions, so that it does not swing around one limit.
        if wanted >= 2 * self.size and self.size < DEPTH_MAX:
            self.size *= 2
        elif wanted <= self.size / 2 and self.size > DEPTH_MIN:
            self.size //= 2
        return self.size != before
