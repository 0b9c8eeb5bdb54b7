"""Which pieces of a file a check compares."""

from __future__ import annotations

import random

import trio

from swarm.origin_url import OriginUrl
from swarm.sources.origin_check import SAMPLED, _CheckDesk, sampled
from swarm.sources.origin_source import OriginSettings, OriginSource
from tests.support.contents import folder_manifest

PIECE = 16384


def test_of_each_file_the_first_and_the_last_piece_and_some_between_are_compared() -> None:
    manifest = folder_manifest(
        "f",
        {"a": b"", "b": bytes(1), "c": bytes(3 * PIECE), "d": bytes(50 * PIECE), "e": bytes(9 * PIECE)},
        piece_length=PIECE,
    )
    chosen_before = set()
    for seed in range(20):
        chosen = sampled(manifest.layout, random.Random(seed))
        assert chosen == sorted(set(chosen))
        for file in range(1, 5):
            own = manifest.layout.pieces_of(file)
            mine = [piece for piece in chosen if piece in own]
            assert (mine[0], mine[-1]) == (own.start, own.stop - 1)
            assert len(mine) == min(len(own), SAMPLED)
        chosen_before.add(tuple(chosen))
    assert len(chosen_before) > 1


async def test_a_pause_of_one_worker_leaves_what_another_has_taken_to_that_one() -> None:
    manifest = folder_manifest("f", {"a": bytes(6 * PIECE)}, piece_length=PIECE)
    source = OriginSource(OriginUrl("http://127.0.0.1:1/"), OriginSettings(trio.CapacityLimiter(2)))
    desk = _CheckDesk(manifest, source, range(6))
    taken = await desk.next_run(4 * PIECE)
    assert taken == range(4)
    assert await desk.begin(0) is not None
    desk.pause()
    desk.unpause()
    assert await desk.next_run(4 * PIECE) == range(4, 6)
    for piece in range(1, 6):
        assert desk.wants(piece)
        assert desk.begin_now(piece) is not None
    desk.deliver(range(6))
    with trio.CancelScope() as scope:
        await desk.end_with(scope)
    assert desk.differences == []
