"""Two real ends joined in memory, sealed records between them: nothing is lost, nothing leaks."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import LinkClosed
from swarm.mux.connection import Connection
from swarm.mux.mux_limits import ABANDONED_SECONDS, NOISE_MAX_PLAINTEXT, MuxLimits
from swarm.mux.records import SPARE_BLOCKS, Blocks, Opener, Sealer
from swarm.mux.stream import Ending, Read, Stream, WindowBudget
from tests.support.records import Arriving, sealed

KEYS = bytes(32), bytes([1]) * 32
LIMITS = MuxLimits(inbound_streams=6, accept_backlog=3, unacknowledged=4)


class End:
    """One end: its protocol, its ciphers, and what its application knows of each stream."""

    def __init__(self, index: int, rng: random.Random) -> None:
        self.blocks = Blocks()
        self.budget = WindowBudget()
        self.core = Connection(
            initiator=index == 0,
            blocks=self.blocks,
            budget=self.budget,
            limits=LIMITS,
        )
        self.sealer = Sealer(KEYS[index], 0)
        self.arriving = Arriving(Opener(KEYS[1 - index], 0), self.blocks)
        self.rng = rng
        self.wire = bytearray()
        self.known: dict[int, Stream] = {}
        self.written: dict[int, bytearray] = {}
        self.read: dict[int, bytearray] = {}
        self.resets: set[int] = set()

    def knows(self, stream: Stream) -> None:
        self.known[stream.id] = stream
        self.written[stream.id] = bytearray()
        self.read[stream.id] = bytearray()

    def send(self, records: int) -> None:
        self.wire += sealed(self.sealer, self.core.take(records * NOISE_MAX_PLAINTEXT))

    def receive(self, other: "End", size: int) -> None:
        data = bytes(other.wire[:size])
        del other.wire[:size]
        self.arriving.feed(data, self.core)

    def act(self, what: str, now: float) -> None:
        if what == "open" and self.core.may_open:
            self.knows(self.core.open())
        elif what == "accept" and (stream := self.core.accept()):
            self.knows(stream)
        elif self.known:
            self.act_on(self.rng.choice(list(self.known.values())), what, now)

    def collect(self, stream: Stream) -> bool:
        """A reader that waited with a buffer takes what came into it; return whether that was anything."""
        read, stream.reading = stream.reading, None
        if read:
            self.read[stream.id] += read.buffer[: read.filled]
        return bool(read and read.filled)

    def act_on(self, stream: Stream, what: str, now: float) -> None:
        if what == "write":
            data = self.rng.randbytes(self.rng.choice((1, 900, 40_000, 300_000)))
            try:
                self.core.write(stream, memoryview(data))
            except LinkClosed:
                return
            self.written[stream.id] += data
        elif what == "read":
            self.collect(stream)
            self.read[stream.id] += stream.inbox.take(self.rng.choice((1, 5000, 10**6)))
            self.core.consumed(stream, now)
        elif what == "wait" and not stream.reading and not stream.inbox.size:
            stream.reading = Read(memoryview(bytearray(self.rng.choice((1, 70_000, 10**6)))), 1)
        elif what == "finish":
            self.core.finish(stream)
        elif what == "close":
            self.core.close(stream, now)
        elif what == "reset":
            self.core.reset(stream)
            self.resets.add(stream.id)


def check(ends: list[End]) -> None:
    """Whatever one end has read is a beginning of what the other has written."""
    for here, there in (ends, ends[::-1]):
        for number, data in here.read.items():
            assert data == there.written.get(number, b"")[: len(data)]


def settle(ends: list[End], now: float) -> None:
    """Carry everything over until nothing moves, with readers that read."""
    for _ in range(500):
        moved = False
        for here, there in (ends, ends[::-1]):
            here.send(50)
            moved |= bool(here.wire)
            there.receive(here, len(here.wire))
            while stream := there.core.accept():
                there.knows(stream)
            for stream in there.known.values():
                moved |= there.collect(stream)
                data = stream.inbox.take(10**9)
                moved |= bool(data)
                there.read[stream.id] += data
                there.core.consumed(stream, now)
        if not moved:
            return
    raise AssertionError("the two ends never come to rest")


actions = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(
            [
                "open",
                "accept",
                "write",
                "write",
                "read",
                "read",
                "wait",
                "wait",
                "send",
                "carry",
                "carry",
                "finish",
                "close",
                "reset",
            ]
        ),
    ),
    min_size=40,
    max_size=150,
)


@settings(max_examples=80, deadline=None)
@given(actions, st.integers(0, 2**32))
def test_random_interleavings_lose_and_leak_nothing(sequence, seed):
    rng = random.Random(seed)
    ends = [End(0, rng), End(1, rng)]
    for step, (index, what) in enumerate(sequence):
        end = ends[index]
        if what == "send":
            end.send(rng.randint(1, 4))
        elif what == "carry":
            other = ends[1 - index]
            other.send(2)
            end.receive(other, rng.choice((1, 17, 3000, 10**6)))
        else:
            end.act(what, step * 0.001)
        check(ends)
    settle(ends, 1.0)
    check(ends)
    for here, there in (ends, ends[::-1]):
        for number in here.known:
            if number in here.resets | there.resets or number not in there.known:
                continue  # given up by an application, or refused for a cap
            assert here.known[number].ending is None
            if not there.known[number].discarding:
                assert there.read[number] == here.written[number]
    finish_everything(ends)


def finish_everything(ends: list[End]) -> None:
    for end in ends:
        for stream in end.known.values():
            end.core.close(stream, 2.0)
    settle(ends, 3.0)
    for end in ends:
        end.core.reset_abandoned(3.0 + ABANDONED_SECONDS)
    settle(ends, 4.0)
    for end in ends:
        assert end.core.streams == {}
        assert end.budget.growth_left == WindowBudget().growth_left
        blocks = [end.blocks.take() for _ in range(2 * SPARE_BLOCKS)]
        assert len({id(block) for block in blocks}) == len(blocks)
        for block in blocks:
            end.blocks.give(block)
        for stream in end.known.values():
            assert stream.inbox.size == 0
            assert not stream.writes
            assert stream.ending in {None, Ending.RESET_BY_PEER, Ending.RESET_HERE}
    for here, there in (ends, ends[::-1]):
        check_limits(here, there, ends)


def opened_by(end: End) -> list[Stream]:
    return [stream for stream in end.core.streams.values() if not stream.inbound]


def check_limits(here: End, there: End, ends: list[End]) -> None:
    """No stream of before counts any more: ``here`` may open as many as ever, ``there`` takes them."""
    for _ in range(LIMITS.unacknowledged):
        assert here.core.may_open
        here.knows(here.core.open())
    assert not here.core.may_open
    first = opened_by(here)[: LIMITS.accept_backlog]
    settle(ends, 5.0)
    assert [stream.ending for stream in first] == [None] * LIMITS.accept_backlog
    for _ in range(LIMITS.inbound_streams - LIMITS.accept_backlog):
        here.knows(here.core.open())
        settle(ends, 5.0)
    assert len(opened_by(here)) == LIMITS.inbound_streams
    here.knows(here.core.open())
    settle(ends, 5.0)
    assert len(opened_by(here)) == LIMITS.inbound_streams
