"""The open sessions of a transfer, and which new ones may be opened. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, Protocol, TypeVar

from swarm.ids import PeerId
from swarm.lazy_dataclass import dataclass

DEAD_SECONDS = 5.0
"""A session that has heard nothing for this long gives way to a newer one of the same peer."""


class Seat(Protocol):
    """One session as the roster sees it."""

    @property
    def peer(self) -> PeerId:
        """Whose session it is."""

    @property
    def inbound(self) -> bool:
        """Whether the peer opened it."""

    @property
    def heard_at(self) -> float:
        """When something last came from the peer, or the session began."""


class NamedPeersView(Protocol):
    """What the roster asks the peer book."""

    @property
    def named(self) -> Collection[PeerId]:
        """The peers that the user named."""

    def is_named(self, peer: PeerId) -> bool:
        """Whether the user named the peer."""


S = TypeVar("S", bound=Seat)


@dataclass(frozen=True, slots=True)
class AdmissionVerdict(Generic[S]):
    """``refusal`` is None for a session that may be opened; ``replaces`` is the one that ends for it."""

    refusal: str | None = None
    replaces: S | None = None


class Roster(Generic[S]):
    """Admits sessions of one transfer, one for each peer, at most ``max_peers``.

    A place is kept for each peer that the user named (as ``book`` says) and that is not connected, for at
    most half of all places together. So strangers cannot take every place, and neither can named peers.
    """

    def __init__(self, me: PeerId, max_peers: int, book: NamedPeersView) -> None:
        self._me = me
        self._max_peers = max_peers
        self._book = book
        self._seats: dict[PeerId, S] = {}

    def __iter__(self) -> Iterator[S]:
        """The sessions, as of the first step."""
        return iter(tuple(self._seats.values()))

    def __len__(self) -> int:
        return len(self._seats)

    def admit(self, peer: PeerId, *, inbound: bool, now: float) -> AdmissionVerdict[S]:
        """May a new session with the peer be opened? Changes nothing."""
        if peer == self._me:
            return AdmissionVerdict("this is the same peer")
        old = self._seats.get(peer)
        if old is not None:
            return (
                AdmissionVerdict(replaces=old)
                if self._gives_way(old, inbound, now)
                else AdmissionVerdict("a session is open already")
            )
        if len(self._seats) >= self._places(peer):
            return AdmissionVerdict("no place is free")
        return AdmissionVerdict()

    def enter(self, seat: S) -> None:
        """Give an admitted session its place; a session that it replaces must leave first."""
        self._seats[seat.peer] = seat

    def get(self, peer: PeerId) -> S | None:
        """The peer's session, if it has one."""
        return self._seats.get(peer)

    def leave(self, seat: S) -> None:
        """Free the place, if it is still this session's."""
        if self._seats.get(seat.peer) is seat:
            del self._seats[seat.peer]

    def _gives_way(self, old: S, inbound: bool, now: float) -> bool:
        """Both ends must decide the same way when each opened a session to the other at the same time."""
        if now - old.heard_at > DEAD_SECONDS:
            return True
        if old.inbound == inbound:
            return False
        return self._opener(old.peer, inbound) < self._opener(old.peer, old.inbound)

    def _opener(self, peer: PeerId, inbound: bool) -> PeerId:
        return peer if inbound else self._me

    def _places(self, peer: PeerId) -> int:
        if self._book.is_named(peer):
            return self._max_peers
        absent = sum(1 for named in self._book.named if named not in self._seats)
        return self._max_peers - min(absent, self._max_peers // 2)
