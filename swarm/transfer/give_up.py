"""When a fetch gives up, and what it says then. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import IntEnum
from itertools import islice
from typing import Final

from swarm.content.manifest import Manifest
from swarm.errors import Incomplete, NoPeerReachable, SwarmError
from swarm.ids import SourceId

MAX_RANGES_SHOWN = 8
MAX_PATHS_SHOWN = 3
KEPT: Final = "what was fetched is kept, run the same command to go on"
"""Said of a fetch that has left something on the disk."""


REFUSED_SESSION: Final = 100
"""How telling it is that a peer answered and would not exchange; more than any failed dial."""


class GiveUpTimer:
    """Measures how long nothing useful has happened; ``now`` is monotonic seconds.

    Useful is the first session ever, and then nothing but bytes that are verified, or that may yet be.
    """

    def __init__(self, patience: float, now: float) -> None:
        self._patience = patience
        self._since = now
        self._met_somebody = False

    @property
    def met_somebody(self) -> bool:
        """Whether any session was ever opened."""
        return self._met_somebody

    @property
    def since(self) -> float:
        """When something useful last happened, or the wait began."""
        return self._since

    def useful(self, now: float) -> None:
        """Something useful happened."""
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
        return self._since + self._patience


class FailureReasons:
    """Why peers could not be reached, or refused to exchange: the latest reason of each.

    Of at most ``most`` peers; the oldest are forgotten, strangers first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_peer: dict[str, tuple[int, str]] = {}
        self._named: set[str] = set()

    @property
    def named(self) -> AbstractSet[str]:
        """The peers that the user named."""
        return self._named

    def name(self, peer: str) -> None:
        """The user named the peer: no stranger's reason is told any more.

        Who else is near has nothing to do with what the user asked for.
        """
        self._named.add(peer)

    def __contains__(self, peer: object) -> bool:
        return peer in self._by_peer

    def who_counts(self, peers: AbstractSet[str]) -> AbstractSet[str]:
        """Those of ``peers`` whose reasons are told."""
        return peers & self._named if self._named else peers

    def note(self, peer: str, reason: str, telling: int) -> None:
        """The peer failed now; of several reasons the one with the greatest ``telling`` is told."""
        self._by_peer.pop(peer, None)
        self._by_peer[peer] = telling, reason
        if len(self._by_peer) > self._most:
            oldest = next(iter(self._by_peer))
            del self._by_peer[next((each for each in self._by_peer if each not in self._named), oldest)]

    def forget(self, peer: str) -> None:
        """The peer is there after all."""
        self._by_peer.pop(peer, None)

    def by_peer(self) -> dict[str, str]:
        """The reason of each peer, the latest last."""
        return {peer: reason for peer, (_, reason) in self._by_peer.items()}

    def most_telling(self) -> str:
        """The reason that says most about what is wrong, the latest of several; empty if there is none."""
        told = self.who_counts(self._by_peer.keys())
        reasons = [reason for peer, reason in self._by_peer.items() if peer in told]
        return max(reversed(reasons), key=lambda each: each[0])[1] if reasons else ""


class Contact(IntEnum):
    """How far any peer ever came."""

    NONE = 0
    ANSWERED = 1
    """None exchanged. When the user named peers, the answer of another does not count."""
    EXCHANGED = 2


def give_up_error(
    *,
    contact: Contact,
    progressed: bool,
    kept: bool,
    connected: int,
    lack: str,
    reason: str,
    patience: float,
    troubles: Mapping[SourceId, str] | None = None,
) -> SwarmError:
    """The error that says why a fetch could not be completed, and what to do.

    ``progressed`` says that this run got some of it, ``kept`` that some of it is on the disk. ``lack`` is
    what `describe_lack` says, ``reason`` why peers could not be reached or refused to exchange, ``patience``
    how many seconds were waited. ``troubles`` are those of other sources.
    """
    met_somebody = progressed or contact is not Contact.NONE
    go_on = KEPT if kept else "nothing was fetched, run the same command to try again"
    if troubles:
        failed = "; ".join(f"{source}: {why}" for source, why in troubles.items())
        if reason:
            failed += f"; no peer either: {reason}"
        if met_somebody:
            return Incomplete(f"{failed}; {go_on}")
        return NoPeerReachable(f"nobody gave anything: {failed}")
    why = f": {reason}" if reason else ""
    if not (met_somebody or connected):
        return NoPeerReachable(
            f"no peer could be reached in {patience:g} s{why}; check the addresses, or try again later"
        )
    if not connected:
        return Incomplete(f"{_absence(contact, patience)}{why}; {go_on}")
    claimed = f"no peer sent a piece for {patience:g} s, though {connected} connected ones claim to have them"
    return Incomplete(f"{lack or claimed}; {go_on}")


def describe_lack(connected: int, missing: Sequence[int], manifest: Manifest) -> str:
    """What so many connected sources lack: the ``missing`` pieces, ascending; empty if there are none."""
    if not missing:
        return ""
    who = f"none of the {connected} connected peers has" if connected > 1 else "the only connected peer lacks"
    return f"{who} {_describe(missing)}{_paths(missing, manifest)}"


def _absence(contact: Contact, patience: float) -> str:
    if contact is Contact.EXCHANGED:
        return "all peers are gone"
    if contact is Contact.ANSWERED:
        return "no peer that answered exchanges this"
    return f"no peer could be reached in {patience:g} s"


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


def _paths(pieces: Sequence[int], manifest: Manifest) -> str:
    """The first files that the pieces are of, where there are several to choose from."""
    if len(manifest.files) == 1:
        return ""
    shown = [
        "/".join(manifest.files[file].path) for file in islice(_files(pieces, manifest), MAX_PATHS_SHOWN + 1)
    ]
    more = ["…"] if len(shown) > MAX_PATHS_SHOWN else []
    return f" ({', '.join(shown[:MAX_PATHS_SHOWN] + more)})"


def _files(pieces: Sequence[int], manifest: Manifest) -> Iterator[int]:
    at = 0
    while at < len(pieces):
        file = manifest.layout.span(pieces[at]).file
        yield file
        at = bisect_left(pieces, manifest.layout.pieces_of(file).stop, at)
