"""How long the hot decisions take: ``python -m tests.benchmarks.bench_strategy``.

Microseconds, the best of several rounds; every figure is of the real brain or the real policy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from swarm.bits import PieceSet
from swarm.content.layout import Layout
from swarm.ids import PeerId, TransferId
from swarm.protocol.messages import Have, HaveAll, HaveBitfield, Interested, Request, Unchoke
from swarm.strategy.availability import Availability
from swarm.strategy.brain import Brain, BrainSetup
from swarm.strategy.commands import Send
from swarm.strategy.download.picker import RarestFirst
from swarm.strategy.pieces import Pieces

PIECES = 100_000
PEERS = 200
PIECE_LENGTH = 1 << 20
ROUNDS = 7


def timed(call: Callable[[], object], times: int) -> float:
    """Microseconds of one call, the best of `ROUNDS` rounds."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(times):
            call()
        rounds.append((time.process_time() - began) / times)
    return min(rounds) * 1e6


def some_pieces(share: float, rng: random.Random) -> bytes:
    field = PieceSet(PIECES)
    for piece in rng.sample(range(PIECES), int(PIECES * share)):
        field.add(piece)
    return field.to_bytes()


def policies(pieces_count: int, peers: int, rng: random.Random) -> tuple[float, float, float, float]:
    layout = Layout(PIECE_LENGTH, [PIECE_LENGTH * pieces_count])
    pieces = Pieces(layout, PieceSet(pieces_count))
    availability = Availability(pieces_count)
    names = [PeerId(f"peer{number}") for number in range(peers)]
    for name in names:
        availability.source_joined(name)
        data = bytes(rng.getrandbits(8) & rng.getrandbits(8) for _ in range((pieces_count + 7) // 8))
        availability.replace(name, PieceSet.from_bytes(data, pieces_count))
    picker = RarestFirst(pieces, availability, rng)

    def one_pick() -> None:
        pick = picker.pick(rng.choice(names))
        if pick:
            pieces.requested(pick.piece)
            pieces.released(pick.piece)

    def one_have() -> None:
        availability.have(rng.choice(names), rng.randrange(pieces_count))

    def leave_and_join() -> None:
        name = rng.choice(names)
        had = availability.pieces_of(name)
        availability.source_left(name)
        availability.source_joined(name)
        availability.replace(name, had)

    name = names[0]
    rare = PeerId("one piece only")
    availability.source_joined(rare)
    availability.have(rare, pieces_count - 1)
    return (
        timed(one_pick, 300),
        timed(lambda: picker.pick(rare), 300),
        timed(one_have, 3000),
        timed(leave_and_join, 30),
    )


def whole_brain(rng: random.Random) -> tuple[float, float, float]:
    """A fetch in the middle of 200 peers: a HAVE that is heard, a piece that comes, a joining peer."""
    layout = Layout(PIECE_LENGTH, [PIECE_LENGTH * PIECES])
    brain = Brain(BrainSetup(TransferId(1), layout, PieceSet(PIECES)), rng, 0.0)
    names = [PeerId(f"peer{number}") for number in range(PEERS)]
    fields = [HaveBitfield(some_pieces(share, rng)) for share in (0.1, 0.5, 0.9)]
    now = 0.0
    asked: list[tuple[PeerId, int]] = []

    def note(commands: list[object]) -> None:
        asked.extend(
            (command.source, command.message.piece)
            for command in commands
            if isinstance(command, Send) and isinstance(command.message, Request)
        )

    for number, name in enumerate(names):
        note(brain.source_joined(name, now, rtt=0.01))
        message = HaveAll() if number % 20 == 0 else fields[number % 3]
        note(brain.received(name, message, now))
        note(brain.received(name, Interested(), now))
        note(brain.received(name, Unchoke(), now))

    def one_have() -> None:
        brain.received(rng.choice(names), Have((rng.randrange(PIECES),)), now)

    def one_piece() -> None:
        nonlocal now
        now += 0.0001
        peer, piece = asked.pop(rng.randrange(len(asked)))
        note(brain.data_received(peer, piece, PIECE_LENGTH, now))
        note(brain.piece_received(peer, piece, now))
        note(brain.piece_stored(peer, piece, now))
        brain.next_wakeup()
        if now >= brain.next_wakeup():
            note(brain.tick(now))

    def one_join() -> None:
        brain.source_left(names[7], now)
        brain.source_joined(names[7], now, rtt=None)
        brain.received(names[7], fields[1], now)

    return timed(one_have, 2000), timed(one_piece, 500), timed(one_join, 20)


def main() -> None:
    rng = random.Random(1)
    print(f"{'policy':<44}{'1,000 x 20':>14}{'16,000 x 50':>14}{'100,000 x 200':>15}")
    sizes = [policies(1000, 20, rng), policies(16_000, 50, rng), policies(PIECES, PEERS, rng)]
    names = ("pick, of a quarter of the pieces", "pick, the peer has one piece", "on_have", "leave and join")
    for name, row in zip(names, zip(*sizes, strict=True), strict=True):
        print(f"{name:<44}{row[0]:>11.1f} us{row[1]:>11.1f} us{row[2]:>12.1f} us")
    have, piece, join = whole_brain(rng)
    print(
        f"brain, {PIECES} x {PEERS}: HAVE {have:.1f} us, one piece from data to HAVE {piece:.1f} us, "
        f"leave and join {join:.0f} us"
    )


if __name__ == "__main__":
    main()
