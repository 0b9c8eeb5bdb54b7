"""What idle peers and idle transfers cost those that work: ``python -m tests.benchmarks.bench_idle``.

For a share and for a fetch with one peer that works and more and more that do not: microseconds of the brain
for a piece, the best of several rounds. Then CPU milliseconds for a second of nothing, with many sessions and
transfers.
"""

from __future__ import annotations

import random
import time

import trio

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId, TransferId
from swarm.protocol.messages import HaveAll, HaveNone, Interested, Request, Unchoke
from swarm.storage.memory_store import MemoryStore
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Send, Upload
from swarm.transfer.session import SessionOrigin
from tests.benchmarks.bench_strategy import timed
from tests.support.contents import file_manifest
from tests.support.exchanges import Member
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer

PIECES = 20_000
PIECE_LENGTH = 64 << 10
WORKING = PeerId("works")
SECONDS = 5.0


def brain_with(idle: int, *, complete: bool) -> Brain:
    """A brain with idle peers, which have nothing and want nothing, and one peer that works."""
    layout = Layout(PIECE_LENGTH, [PIECE_LENGTH * PIECES])
    stored = PieceSet.all(PIECES) if complete else PieceSet(PIECES)
    brain = Brain(BrainSetup(TransferId(1), layout, stored), random.Random(1), 0.0)
    for number in range(idle):
        peer = PeerId(f"idle{number}")
        brain.source_joined(peer, 0.0, rtt=0.01)
        brain.received(peer, HaveNone(), 0.0)
    brain.source_joined(WORKING, 0.0, rtt=0.01)
    return brain


def share(idle: int) -> float:
    """Microseconds for a piece that is requested and sent."""
    brain, now, piece = brain_with(idle, complete=True), 0.0, 0
    brain.received(WORKING, HaveNone(), now)
    brain.received(WORKING, Interested(), now)

    def one() -> None:
        nonlocal now, piece
        now += 0.0005
        commands = brain.pieces_requested(WORKING, [piece % PIECES], now)
        piece += 1
        for command in commands:
            if isinstance(command, Upload):
                brain.pieces_uploaded(WORKING, [command.piece], PIECE_LENGTH, now)
        if now >= brain.next_wakeup():
            brain.tick(now)

    return timed(one, 500)


def fetch(idle: int) -> float:
    """Microseconds for a piece that is asked for, comes and is stored."""
    brain, now = brain_with(idle, complete=False), 0.0
    asked: list[int] = []

    def note(commands: list[object]) -> None:
        asked.extend(
            command.message.piece
            for command in commands
            if isinstance(command, Send) and isinstance(command.message, Request)
        )

    note(brain.received(WORKING, HaveAll(), now))
    note(brain.received(WORKING, Unchoke(), now))

    def one() -> None:
        nonlocal now
        now += 0.0005
        piece = asked.pop(0)
        note(brain.pieces_received(WORKING, [(piece, PIECE_LENGTH)], now))
        note(brain.pieces_stored(WORKING, [piece], now))
        if now >= brain.next_wakeup():
            note(brain.tick(now))

    return timed(one, 500)


async def nothing(transfers: int, sessions: int) -> float:
    """CPU milliseconds in a second in which nothing happens."""
    data = random.Random(1).randbytes(1 << 20)
    async with trio.open_nursery() as nursery:
        for number in range(transfers):
            me = PeerId(f"M{number:03}" * 10)
            exchange = Member(me, MemoryStore(file_manifest("f", data), data)).exchange
            nursery.start_soon(exchange.run)
            for other in range(sessions):
                ours, theirs = memory_link_pair(me, PeerId(f"R{other:03}" * 10))
                nursery.start_soon(exchange.add_stream, ours, SessionOrigin(inbound=True))
                await RawPeer(theirs, file_manifest("f", data)).greet()
        await trio.sleep(1.0)
        began = time.process_time()
        await trio.sleep(SECONDS)
        spent = time.process_time() - began
        nursery.cancel_scope.cancel()
    return spent / SECONDS * 1e3


def main() -> None:
    print("idle peers   share, µs a piece   fetch, µs a piece")
    for idle in (0, 10, 100, 1000):
        print(f"{idle:10} {share(idle):19.1f} {fetch(idle):19.1f}", flush=True)
    print("transfers x sessions   CPU ms a second, idle")
    for transfers, sessions in ((1, 1), (10, 10), (100, 10)):
        print(f"{transfers:9} x {sessions:8} {trio.run(nothing, transfers, sessions):14.2f}", flush=True)


if __name__ == "__main__":
    main()
