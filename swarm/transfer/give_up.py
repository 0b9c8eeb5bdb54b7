"""When a fetch gives up, and what it says then. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.errors import Incomplete, NoPeerReachable, SwarmError

MAX_RANGES_SHOWN = 8


class GiveUpTimer:
    """Measures how long nothing useful has happened; ``now`` is monotonic seconds.

    ``connect_seconds`` is for the first session ever, ``stuck_seconds`` for the time in which no byte
    came and no connected source had anything that is wanted.
    """

    def __init__(self, connect_seconds: float, stuck_seconds: float, now: float) -> None:
        self._connect_seconds = connect_seconds
        self._stuck_seconds = stuck_seconds
        self._since = now
        self._met_somebody = False

    @property
    def met_somebody(self) -> bool:
        """Whether any session was ever opened."""
        return self._met_somebody

    def useful(self, now: float) -> None:
        """Something useful happened: bytes came, or a connected source has what is wanted."""
        self._met_somebody = True
        self._since = max(self._since, now)

    def met(self, now: float) -> None:
        """A session was opened; it need not be useful yet."""
        if not self._met_somebody:
            self.useful(now)

    def restart(self, now: float) -> None:
        """The wait begins anew, as after a pause."""
        self._since = max(self._since, now)

    def deadline(self) -> float:
        """When to give up if nothing useful happens before."""
        return self._since + (self._stuck_seconds if self._met_somebody else self._connect_seconds)


def give_up_error(
    *, met_somebody: bool, connected: int, missing: Sequence[int], failures: Sequence[str]
) -> SwarmError:
    """The error that says why a fetch could not be completed, and what to do.

    ``missing`` are the wanted pieces that no source has, ``failures`` the latest reason of every peer that
    could not be reached or refused to exchange.
    """
    why = f": {failures[-1]}" if failures else ""
    if not met_somebody:
        return NoPeerReachable(f"no peer could be reached{why}; check the addresses, or try again later")
    if not connected:
        return Incomplete(f"all peers are gone{why}; what was fetched is kept, run the same command to go on")
    return Incomplete(
        f"none of the {connected} connected peers has {_describe(missing)}; "
        "what was fetched is kept, run the same command to go on"
    )


def _describe(pieces: Sequence[int]) -> str:
    ranges: list[tuple[int, int]] = []
    for piece in pieces:
        if ranges and ranges[-1][1] == piece - 1:
            ranges[-1] = (ranges[-1][0], piece)
        else:
            ranges.append((piece, piece))
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:MAX_RANGES_SHOWN]]
    more = ", …" if len(ranges) > MAX_RANGES_SHOWN else ""
    noun = "piece" if len(pieces) == 1 else f"{len(pieces)} pieces:"
    return f"{noun} {', '.join(shown)}{more}"
