"""Makes ``sample_data/``: a text, a table, a picture and a nested folder; the same bytes on every machine.

Run ``python -m tests.support.make_sample_data [FOLDER]``. Nothing here depends on a library's choice of
compression or on the last digit of a platform's mathematics.
"""

from __future__ import annotations

import math
import random
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

SEED = 20261122
PROSE = Path(__file__).with_name("sample_prose.txt")
PRIMES = 26_000
WIDTH, HEIGHT, MAX_ITERATIONS = 640, 480, 160
TONE_RATE = 22_050
TONE_SECONDS = 4
STORED_BLOCK = 65_535
NAMES = ("Ada", "Bo", "Cyd", "Dia", "Eli", "Fay", "Gus", "Hal")
ROUND_PIECES = 32
# A just-intonation scale over 220 Hz; fractions, so that no platform's pow has a say.
TONES = {"01 tonic": (1, 1), "02 third": (5, 4), "03 fifth": (3, 2), "04 octave": (2, 1)}


def text() -> bytes:
    """The prose, and the computed story of a small swarm."""
    return PROSE.read_bytes() + "".join(_rounds()).encode()


def _rounds() -> Iterator[str]:
    rng = random.Random(SEED)
    have: dict[str, set[int]] = {name: set() for name in NAMES}
    have["Ada"] = set(range(ROUND_PIECES))
    number = 0
    while any(len(pieces) < ROUND_PIECES for pieces in have.values()):
        number += 1
        moves = _one_round(have, rng)
        yield f"Round {number}.\n"
        for sender, receiver, piece, copies in moves:
            rare = "which nobody else has" if copies == 1 else f"of which there are {copies} copies"
            yield f"  {sender} sends piece {piece:>2} to {receiver}, {rare}.\n"
        for _, receiver, piece, _ in moves:
            have[receiver].add(piece)
        held = ", ".join(f"{name} {len(have[name])}" for name in NAMES[1:])
        yield f"  Now they have: {held}.\n\n"
    yield f"All are complete after {number} rounds.\n"


def _one_round(have: dict[str, set[int]], rng: random.Random) -> list[tuple[str, str, int, int]]:
    copies = [sum(piece in pieces for pieces in have.values()) for piece in range(ROUND_PIECES)]
    moves: list[tuple[str, str, int, int]] = []
    busy: set[str] = set()
    on_the_way: set[int] = set()
    # Whoever has least chooses first, as the hungriest in a swarm ask most.
    order = sorted(NAMES, key=lambda name: (len(have[name]), rng.random()))
    for receiver in order:
        senders = [name for name in NAMES if name not in busy and have[name] - have[receiver]]
        if not senders:
            continue
        offers = [(piece, name) for name in senders for piece in sorted(have[name] - have[receiver])]
        piece, sender = min(
            offers, key=lambda offer: (offer[0] in on_the_way, copies[offer[0]], rng.random())
        )
        busy.add(sender)
        on_the_way.add(piece)
        moves.append((sender, receiver, piece, copies[piece]))
    return moves


def table() -> bytes:
    """Facts about the first primes, comma-separated."""
    lines = ["n,prime,gap,digit_sum,residue_mod_30,twin,n_log_n,ratio\n"]
    previous = 0
    primes = _primes(PRIMES)
    for n, prime in enumerate(primes, 1):
        twin = int(prime - previous == 2 or (n < PRIMES and primes[n] - prime == 2))
        estimate = n * math.log(n) if n > 1 else 0.0
        ratio = prime / estimate if estimate else 0.0
        lines.append(
            f"{n},{prime},{prime - previous},{sum(map(int, str(prime)))},{prime % 30},{twin},"
            f"{estimate:.3f},{ratio:.6f}\n"
        )
        previous = prime
    return "".join(lines).encode()


def _primes(count: int) -> list[int]:
    limit = int(count * (math.log(count) + math.log(math.log(count)))) + 10
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(limit + 1) if sieve[number]][:count]


def picture() -> bytes:
    """The Mandelbrot set as a PNG of stored (uncompressed) blocks."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + _row(y) for y in range(HEIGHT))
    chunks = ((b"IHDR", header), (b"IDAT", _stored(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _row(y: int) -> bytes:
    imaginary = (y - HEIGHT / 2) * 2.5 / HEIGHT
    return b"".join(_colour((x - WIDTH * 0.7) * 2.5 / HEIGHT, imaginary) for x in range(WIDTH))


def _colour(real: float, imaginary: float) -> bytes:
    x = y = 0.0
    # Most of the set lies in the cardioid and the disc left of it; both have closed forms.
    q = (real - 0.25) ** 2 + imaginary * imaginary
    if q * (q + real - 0.25) < imaginary * imaginary / 4 or (real + 1) ** 2 + imaginary**2 < 1 / 16:
        return b"\x08\x08\x18"
    for step in range(MAX_ITERATIONS):
        x, y = x * x - y * y + real, 2 * x * y + imaginary
        if x * x + y * y > 16.0:
            return bytes((step * 9 % 256, step * 5 % 256, (96 + step * 7) % 256))
    return b"\x08\x08\x18"


def _stored(data: bytes) -> bytes:
    blocks = [data[start : start + STORED_BLOCK] for start in range(0, len(data), STORED_BLOCK)]
    body = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks
    )
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tone(numerator: int, denominator: int) -> bytes:
    """A fading tone as a WAV file, 16 bits, mono."""
    frequency = 220 * numerator / denominator
    count = TONE_RATE * TONE_SECONDS
    samples = [
        int(12_000 * (1 - n / count) * math.sin(2 * math.pi * frequency * n / TONE_RATE))
        for n in range(count)
    ]
    data = struct.pack(f"<{count}h", *samples)
    form = struct.pack("<HHIIHH", 1, 1, TONE_RATE, TONE_RATE * 2, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def files() -> Iterator[tuple[str, bytes, bool]]:
    """Every file: path, content, whether it is executable."""
    yield "on swarms.txt", text(), False
    yield "primes.csv", table(), False
    yield "mandelbrot.png", picture(), False
    for name, (numerator, denominator) in TONES.items():
        yield f"nested/tones/{name}.wav", tone(numerator, denominator), False
    yield "nested/Bücher/蜂の群れ.txt", "蜂の群れ: a swarm of bees.\n".encode(), False
    yield "nested/deep/er/still/one byte", b"1", False
    yield "nested/deep/empty", b"", False
    yield "nested/hello.sh", b"#!/bin/sh\necho 'hello from the swarm'\n", True


def make(folder: Path) -> None:
    """Write all files below ``folder``."""
    for name, content, executable in files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "sample_data")
