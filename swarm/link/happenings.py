"""What a connection tells its shell."""

from __future__ import annotations

from dataclasses import dataclass, field

from swarm.link.stream import Stream


@dataclass(slots=True)
class Happenings:
    """What the shell has to act on.

    ``touched``: streams with something new to read, a finished write, or an end.
    ``acceptable``: streams of the peer wait for `Connection.accept`. ``pongs``: answered pings.
    """

    touched: set[Stream] = field(default_factory=set)
    acceptable: bool = False
    pongs: list[int] = field(default_factory=list)
