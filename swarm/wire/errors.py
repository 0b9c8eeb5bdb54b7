"""The one error of this room that is nobody's but ours. What a peer does wrong is `RemoteError`."""

from __future__ import annotations

from swarm.errors import SwarmError


class LocalProtocolError(SwarmError):
    """This side was about to say something illegal; nothing was sent."""
