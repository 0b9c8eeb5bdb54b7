"""Which pieces of a file a check compares."""

from __future__ import annotations

import random

from swarm.sources.origin_check import SAMPLED, sampled
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
