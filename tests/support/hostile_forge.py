"""Pieces that keep an XXH3-128 and nothing else: why no peer's data is ever checked with it.

XXH3's long form adds up, for each of eight lanes, the words of sixteen stripes and the products of
their halves (keyed with a public constant), and mixes only then. So within each block of 1,024 bytes
twelve of the sixteen words of a lane can be anything: two more make up the sum of the products, two
the sum of the words. Source: xxHash's doc/xxhash_spec.md, "XXH3 algorithm details", long inputs.
"""

from __future__ import annotations

import random
import struct

LANES = 8
STRIPES = 16
STRIPE_BYTES = 64
BLOCK_BYTES = STRIPES * STRIPE_BYTES
_LOW = 2**32 - 1
_ALL = 2**64 - 1
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
"""The first part of XXH3's default secret (it has 192 bytes; sixteen stripes use 184)."""


def forge(data: bytes | memoryview, seed: int = 0) -> bytes:
    """Return bytes with the length and the XXH3-128 of ``data`` (over 1 KiB), all else replaced.

    Only the last block stays, which the algorithm reads in another way.
    """
    rng = random.Random(seed)
    forged = bytearray(data)
    for start in range(0, (len(data) - 1) // BLOCK_BYTES * BLOCK_BYTES, BLOCK_BYTES):
        words = list(struct.unpack_from(f"<{STRIPES * LANES}Q", forged, start))
        for lane in range(LANES):
            words[lane::LANES] = _forge_lane(words[lane::LANES], lane, rng)
        struct.pack_into(f"<{STRIPES * LANES}Q", forged, start, *words)
    return bytes(forged)


def _forge_lane(words: list[int], lane: int, rng: random.Random) -> list[int]:
    """Other words with the same sum and the same sum of products, both modulo 2^64."""
    keys = [struct.unpack_from("<Q", SECRET, 8 * (stripe + lane))[0] for stripe in range(STRIPES)]
    while True:
        forged = [rng.getrandbits(64) for _ in range(STRIPES)]
        missing = _products(words, keys) - _products(forged[:-4], keys[:-4])
        high, rest = divmod(missing & _ALL, _LOW)
        if high <= _LOW:
            break
    forged[-4] = (high << 32 | _LOW) ^ keys[-4]
    forged[-3] = (rest << 32 | 1) ^ keys[-3]
    # Two words whose products are nothing: one is free above its low half, the other below its high half.
    missing = sum(words) - sum(forged[:-2])
    low = (missing - (keys[-2] & _LOW)) & _LOW
    forged[-1] = keys[-1] & (_LOW << 32) | low
    forged[-2] = (missing - forged[-1]) & _ALL
    return forged


def _products(words: list[int], keys: list[int]) -> int:
    keyed = [word ^ key for word, key in zip(words, keys, strict=True)]
    return sum((word & _LOW) * (word >> 32) for word in keyed)
