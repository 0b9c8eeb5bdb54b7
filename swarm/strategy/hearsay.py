"""What others tell of a peer whose own addresses are known: it is tried once, when those have failed. Pure.

Who tells may lie. He then costs a few dials, and keeps nobody from being found.
"""

from __future__ import annotations

from swarm.endpoint import CIRCUIT, Circuit, read_route
from swarm.ids import PeerId


class Hearsay:
    """Where others say that one peer is; no newer word displaces an older one.

    ``most`` is how many addresses are taken until there is a session with it, and how many ways through
    tellers. A quarter of them may be one teller's: nobody can make this node dial many addresses, nor silence
    all others.

    A way through the teller itself is no hearsay: it leads over the connection to him. Each teller has one.
    """

    __slots__ = ("_most", "_told", "_tried", "_ways")

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: dict[str, PeerId | None] = {}
        self._tried: set[str] = set()
        self._ways: dict[PeerId, str] = {}

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways through tellers."""
        return tuple(self._ways.values())

    def hear(self, address: str, teller: PeerId | None) -> None:
        """Note what a teller says; None for whom nobody knows."""
        if self.hear_way(address, teller):
            return
        by_him = sum(each == teller for each in self._told.values())
        if address not in self._told and by_him < self._most // 4 and len(self._told) < self._most:
            self._told[address] = teller

    def hear_way(self, address: str, teller: PeerId | None) -> bool:
        """Note a way through the teller himself; says whether it is one."""
        if teller is None or not _leads_through(teller, address):
            return False
        if teller in self._ways or len(self._ways) < self._most:
            self._ways[teller] = address
        return True

    def confirmed(self, address: str) -> None:
        """The address is the peer's own."""
        self._told.pop(address, None)

    def take(self) -> tuple[str, ...]:
        """The addresses that are to be tried now, and then not again."""
        new = tuple(address for address in self._told if address not in self._tried)
        self._tried.update(new)
        return new

    def begin_anew(self) -> None:
        """The peer was there: what was tried in vain is forgotten, and may be told again."""
        for address in self._tried:
            self._told.pop(address, None)
        self._tried.clear()


def _leads_through(teller: PeerId, address: str) -> bool:
    if CIRCUIT not in address:
        return False
    route = read_route(address)
    return isinstance(route, Circuit) and route.relay.peer == teller
