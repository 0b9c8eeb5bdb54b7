"""What bytes over one connection cost beside connections on which nothing happens.

    python -m tests.benchmarks.bench_idle_links [--mib 256] [--rounds 3] [--idle 0 100 500]

Both ends of all connections are in one process, so a figure is the processor time of both. The numbers of
idle connections take turns within every round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import AsyncExitStack

import trio

from tests.support.connection_pair import muxed_pair

CHUNK = 1024 * 1024


async def measure(idle: int, mib: int) -> float:
    """Return processor seconds per GB (10^9 bytes)."""
    async with AsyncExitStack() as stack:
        for _ in range(idle):
            await stack.enter_async_context(muxed_pair())
        one, two = await stack.enter_async_context(muxed_pair())
        first, second = await one.open_stream(), await two.accept_stream()
        chunk, buffer = bytes(CHUNK), memoryview(bytearray(CHUNK))

        async def send() -> None:
            for _ in range(mib):
                await first.write(chunk)

        began = time.process_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(mib):
                await second.readinto_exactly(buffer)
        return (time.process_time() - began) / (mib * CHUNK / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, nargs="+", default=[0, 100, 500])
    given = parser.parse_args()
    found: dict[int, list[float]] = {idle: [] for idle in given.idle}
    for _ in range(given.rounds):
        for idle in given.idle:
            found[idle].append(trio.run(measure, idle, given.mib))
    for idle, seconds in found.items():
        print(f"{idle:5} idle connections: {statistics.median(seconds):5.2f} CPU s/GB, both ends together")


if __name__ == "__main__":
    main()
