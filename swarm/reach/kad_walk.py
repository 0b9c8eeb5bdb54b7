"""The walk towards a key through a distributed hash table: whom to ask next, and when it is over. Pure.

Nodes answer with nodes that they say are nearer. The walk asks the nearest that it knows, several at once,
and ends when the nearest have all answered or failed. A node that is late keeps nobody waiting: the next
nearest is asked in its place, and the walk ends without it once enough others have answered. Silent nodes
cost their share of the questions, lying ones theirs: what one says takes effect only as far as it is nearer
than what others say, and no more than a number of questions is asked in all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from swarm.ids import PeerId
from swarm.reach.kad_messages import KadPeer
from swarm.reach.multiaddrs import peer_to_bytes

NEAREST: Final = 20
"""Nodes that keep a key."""
NEAREST_ASKED: Final = 10
"""So many of them are asked for it: each of them keeps it, and some were not there when it was provided."""
AT_ONCE: Final = 10
"""Questions that are open at the same time, those to late nodes not counted."""
MOST_OPEN: Final = 20
"""The same with late nodes."""
FEW_ANSWERS: Final = 3
"""As long as no more have answered, slow nodes are waited for, too: perhaps this node is far from all."""
MAX_QUESTIONS: Final = 30
"""Questions of one walk."""
MAX_HEARD: Final = 256
"""Nodes that are remembered: of more the nearest."""
MAX_HEARD_FROM_ONE: Final = 24
"""Nodes that one answer adds."""


class _State(Enum):
    HEARD = 0
    ASKED = 1
    ANSWERED = 2
    FAILED = 3
    SLOW = 4
    LATE = 5


_PASSED = frozenset({_State.FAILED, _State.SLOW, _State.LATE})


@dataclass(slots=True)
class _Node:
    peer: KadPeer
    distance: int
    doubted: bool
    state: _State = _State.HEARD


class KadWalk:
    """One walk towards the ``nearest`` nodes to ``key``, from the nodes ``start``; ``me`` is left out.

    The ``doubted`` nodes, which were silent a short time ago, are asked when there is nobody else.
    """

    def __init__(
        self,
        key: bytes,
        start: Iterable[KadPeer],
        me: PeerId,
        nearest: int = NEAREST,
        doubted: Container[PeerId] = (),
    ) -> None:
        self._most = nearest
        self._target = int.from_bytes(hashlib.sha256(key).digest())
        self._nodes: dict[PeerId, _Node] = {}
        self._me = me
        self._doubted = doubted
        self._open = self._late = 0
        self.questions = 0
        self._hear(start)

    def next(self) -> KadPeer | None:
        """Take the node to be asked now; None while enough are asked, and when there is nobody left."""
        node = self._waiting() if self._has_room else None
        if node is None:
            return None
        node.state = _State.ASKED
        self._open += 1
        self.questions += 1
        return node.peer

    def answered(self, peer: PeerId, closer: Iterable[KadPeer]) -> None:
        """A node has answered."""
        self._ends(peer, _State.ANSWERED)
        self._hear(tuple(closer)[:MAX_HEARD_FROM_ONE])

    def failed(self, peer: PeerId) -> None:
        """A node was not reached, or did not answer."""
        self._ends(peer, _State.FAILED)

    def late(self, peer: PeerId) -> None:
        """A node takes longer than others: another is asked meanwhile."""
        if self._nodes[peer].state is _State.ASKED:
            self._ends(peer, _State.LATE)
            self._late += 1

    def slow(self, peer: PeerId) -> None:
        """A node takes so long that the walk may end without it, if a few have answered."""
        if self._nodes[peer].state in {_State.ASKED, _State.LATE}:
            self._ends(peer, _State.SLOW)

    def _ends(self, peer: PeerId, state: _State) -> None:
        node = self._nodes[peer]
        self._open -= node.state is _State.ASKED
        self._late -= node.state is _State.LATE
        node.state = state

    @property
    def over(self) -> bool:
        """Whether there is nothing more to ask, and nobody to wait for."""
        if self._open or (self.questions < MAX_QUESTIONS and self._waiting() is not None):
            return False
        answers = self._count(_State.ANSWERED)
        if answers >= self._most:
            return True
        return not self._late and (answers >= FEW_ANSWERS or not self._count(_State.SLOW))

    @property
    def unanswered(self) -> tuple[PeerId, ...]:
        """The nodes that were asked, and were late or silent."""
        return tuple(each.peer.peer for each in self._nodes.values() if each.state in _PASSED)

    @property
    def _has_room(self) -> bool:
        most = self._open >= AT_ONCE or self._open + self._late >= MOST_OPEN
        return not most and self.questions < MAX_QUESTIONS

    def _waiting(self) -> _Node | None:
        return next((each for each in self._nearest() if each.state is _State.HEARD), None)

    def _count(self, state: _State) -> int:
        return sum(each.state is state for each in self._nodes.values())

    def keepers(self) -> tuple[KadPeer, ...]:
        """The nearest nodes of those that answered."""
        found = [each for each in self._nodes.values() if each.state is _State.ANSWERED]
        return tuple(each.peer for each in sorted(found, key=lambda each: each.distance)[:NEAREST])

    def _nearest(self) -> list[_Node]:
        alive = [each for each in self._nodes.values() if each.state not in _PASSED]
        return sorted(alive, key=lambda each: (each.doubted, each.distance))[: self._most]

    def _hear(self, peers: Iterable[KadPeer]) -> None:
        for each in peers:
            if each.peer != self._me and each.peer not in self._nodes and each.endpoints:
                self._nodes[each.peer] = _Node(each, self._distance(each.peer), each.peer in self._doubted)
        if len(self._nodes) > MAX_HEARD:
            heard = [each for each in self._nodes.values() if each.state is _State.HEARD]
            for far in sorted(heard, key=lambda each: -each.distance)[: len(self._nodes) - MAX_HEARD]:
                del self._nodes[far.peer.peer]

    def _distance(self, peer: PeerId) -> int:
        return self._target ^ int.from_bytes(hashlib.sha256(peer_to_bytes(peer)).digest())
