"""Two real protocols, joined by two queues: what one lets out the other takes in."""

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content.layout import Layout
from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import ManifestId
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Data,
    Have,
    HaveBitfield,
    HaveNone,
    Hello,
    KeepAlive,
    Reject,
    RejectReason,
    Request,
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.protocol.session_rules import SessionRules

LAYOUT = Layout(100, [950, 30])
COUNT = LAYOUT.piece_count
MANIFEST = ManifestId(bytes(32))


class Side:
    """One peer that says whatever its own protocol allows."""

    def __init__(self) -> None:
        self.protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
        self.out: deque = deque()
        self.asked: set[int] = set()
        self.owed: dict[int, int] = {}
        self.replies = 0

    def say(self, message) -> bool:
        try:
            if isinstance(message, Data):
                self.protocol.sent_data(message.piece, message.offset, message.size)
            else:
                self.protocol.sent(message)
        except LocalProtocolError:
            return False
        self.out.append(message)
        return True

    def hear(self, message) -> None:
        if isinstance(message, Data):
            if self.protocol.received_data(message).last:
                self._replied(message.piece)
            return
        self.protocol.received(message, 0.0)
        if isinstance(message, Request):
            self.owed[message.piece] = 0
        elif isinstance(message, Reject):
            self._replied(message.piece)

    def _replied(self, piece: int) -> None:
        self.asked.remove(piece)
        self.replies += 1

    def act(self, rng: random.Random) -> None:
        piece = rng.randrange(COUNT + 1)
        choice = rng.randrange(8)
        if choice == 0:
            if self.say(Request(piece)):
                self.asked.add(piece)
        elif choice == 1:
            self.say(Cancel(piece))
        elif choice == 2:
            self.say(Have((piece,)))
        elif choice == 3:
            self.say(Withdraw(piece))
        elif choice == 4:
            self.say(rng.choice([Choke(), Unchoke(), KeepAlive()]))
        elif self.owed:
            self.answer(rng, rng.choice(sorted(self.owed)))

    def answer(self, rng: random.Random, piece: int) -> None:
        if rng.random() < 0.2:
            if self.say(Reject(piece, RejectReason.BUSY)):
                del self.owed[piece]
            return
        offset = self.owed[piece]
        size = rng.randint(1, LAYOUT.length(piece) - offset)
        if self.say(Data(piece, offset, size)):
            self.owed[piece] += size
            if self.owed[piece] == LAYOUT.length(piece):
                del self.owed[piece]


def deliver(source: Side, target: Side, count: int) -> None:
    for _ in range(min(count, len(source.out))):
        target.hear(source.out.popleft())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_what_one_side_may_say_the_other_takes_and_every_request_is_answered_once(seed):
    rng = random.Random(seed)
    left, right = Side(), Side()
    for side in (left, right):
        side.say(Hello(MANIFEST, COUNT))
        side.say(HaveNone() if rng.random() < 0.5 else HaveBitfield(b"\xaa\x80"))
    for _ in range(300):
        rng.choice((left, right)).act(rng)
        deliver(left, right, rng.randrange(4))
        deliver(right, left, rng.randrange(4))
    while left.out or right.out or left.owed or right.owed:
        deliver(left, right, 100)
        deliver(right, left, 100)
        for side in (left, right):
            for piece in sorted(side.owed):
                side.answer(rng, piece)
    assert not left.asked
    assert not right.asked
    assert left.replies + right.replies > 0
    assert not any(side.protocol.asked(piece) for side in (left, right) for piece in range(COUNT))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(Request, st.integers(0, 12)),
            st.builds(Cancel, st.integers(0, 12)),
            st.builds(Data, st.integers(0, 12), st.integers(0, 120), st.integers(0, 120)),
            st.builds(Reject, st.integers(0, 12), st.just(RejectReason.BUSY)),
            st.builds(Have, st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple)),
            st.just(Hello(MANIFEST, COUNT)),
            st.just(HaveNone()),
            st.builds(Restate, st.binary(min_size=1, max_size=2)),
        ),
        max_size=40,
    )
)
def test_any_order_of_messages_is_taken_or_refused_with_the_declared_error(said):
    side = Side()
    for message in (Hello(MANIFEST, COUNT), HaveNone(), Request(3)):
        side.say(message)
    side.asked = {3}
    for message in said:
        try:
            side.hear(message)
        except RemoteError:
            return
