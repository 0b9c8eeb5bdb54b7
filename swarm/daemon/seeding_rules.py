"""When a transfer of the daemon has been seeded enough. Pure."""

from __future__ import annotations

from swarm.lazy_dataclass import dataclass

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


@dataclass(frozen=True, slots=True)
class SeedingRule:
    """Seeding ends at whatever comes first. None: as the daemon's own rule says; 0: never because of that.

    ``ratio`` is bytes sent for each byte of content, ``copies`` are peers that got the last piece while this
    node had the transfer, ``seconds`` is time spent seeding.
    """

    ratio: float | None = None
    copies: int | None = None
    seconds: float | None = None

    def within(self, default: SeedingRule) -> SeedingRule:
        """The rule that holds for a transfer with this rule in a daemon with that one."""
        return SeedingRule(
            default.ratio if self.ratio is None else self.ratio,
            default.copies if self.copies is None else self.copies,
            default.seconds if self.seconds is None else self.seconds,
        )

    def reached(self, counts: SeedingCounts, size: int) -> str:
        """Why it is enough; empty while it is not. ``size`` is that of the content, in bytes."""
        if self.copies and counts.copies >= self.copies:
            return f"{self.copies} {'peer has' if self.copies == 1 else 'peers have'} all of it"
        if self.ratio and size and counts.sent >= self.ratio * size:
            return f"{self.ratio:g} times its size was sent"
        if self.seconds and counts.seconds >= self.seconds:
            return f"{shown_time(self.seconds)} are over"
        return ""


@dataclass(frozen=True, slots=True)
class SeedingCounts:
    """What a transfer has given since it was added, or since seeding began anew: bytes, peers, seconds."""

    sent: int = 0
    copies: int = 0
    seconds: float = 0.0


def shown_time(seconds: float) -> str:
    """Seconds with the largest unit that divides them: ``2h``, ``90m``, ``1.5s``."""
    for unit, size in _UNITS:
        if seconds >= size and not seconds % size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
