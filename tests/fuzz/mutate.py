"""Inputs made from inputs at random: for machines without Atheris, and beside it for their number."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.fuzz.surfaces import MAX_INPUT

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_STEPS = 6


def mutated(rng: random.Random, corpus: Sequence[bytes], longest: int = MAX_INPUT) -> bytes:
    """One or a few changes of one of ``corpus``: bits, bytes, numbers, cuts, copies, splices."""
    data = bytearray(rng.choice(corpus))
    for _ in range(1 + rng.getrandbits(2)):
        if not data:
            data += rng.randbytes(1 + rng.getrandbits(4))
        at = int(rng.random() * len(data))
        step = int(rng.random() * (_STEPS + 1))
        if step == 0:
            data[at] ^= 1 << rng.getrandbits(3)
        elif step == 1:
            data[at] = rng.getrandbits(8)
        elif step == 2:
            width = 1 << rng.getrandbits(2)
            number = _NUMBERS[int(rng.random() * len(_NUMBERS))] & ((1 << 8 * width) - 1)
            data[at : at + width] = number.to_bytes(width, "big")
        elif step == 3:
            del data[at : at + 1 + rng.getrandbits(3)]
        elif step == 4:
            data[at:at] = rng.randbytes(1 + rng.getrandbits(3))
        elif step == 5:
            start = int(rng.random() * len(data))
            data[at:at] = data[start : start + 1 + rng.getrandbits(6)]
        else:
            other = rng.choice(corpus)
            data[at:] = other[int(rng.random() * (len(other) + 1)) :]
    return bytes(data[:longest])
