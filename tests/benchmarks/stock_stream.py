"""One way over one raw stream of py-libp2p as it comes: the yardstick that ratios refer to.

    python -m tests.benchmarks.stock_stream receive          prints its address, then takes one stream
    python -m tests.benchmarks.stock_stream send ADDRESS BYTES

TCP, Noise and Yamux, writes and reads of 1 MiB. The receiver prints `begin` at the first bytes and
`finished SECONDS` when all have come; nothing is hashed or stored.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import trio

from tests.support.interop_peer import peer_info, stock_host

PROTOCOL = "/swarm-bench/one-way/1.0.0"
BLOCK = 1 << 20
COUNT_BYTES = 8


async def _take(stream: Any) -> None:
    left = int.from_bytes(await stream.read(COUNT_BYTES), "big")
    started = time.perf_counter()
    print("begin", flush=True)
    while left > 0:
        left -= len(await stream.read(BLOCK))
    print(f"finished {time.perf_counter() - started:.6f}", flush=True)
    # Closing before the sender has read this would lose it; the sender closes first.
    await stream.write(b"!")


async def receive(host: Any, addresses: list[str]) -> None:
    from libp2p.custom_types import TProtocol

    done = trio.Event()

    async def handler(stream: Any) -> None:
        await _take(stream)
        done.set()

    host.set_stream_handler(TProtocol(PROTOCOL), handler)
    for address in addresses:
        print(f"libp2p node address: {address}", flush=True)
    await done.wait()


async def send(host: Any, address: str, size: int) -> None:
    info = peer_info(address)
    await host.connect(info)
    stream = await host.new_stream(info.peer_id, [PROTOCOL])
    await stream.write(size.to_bytes(COUNT_BYTES, "big"))
    block = os.urandom(BLOCK)
    for start in range(0, size, BLOCK):
        await stream.write(block[: size - start])
    await stream.read(1)
    print("sent", flush=True)
    await trio.sleep_forever()


async def main(arguments: argparse.Namespace) -> None:
    async with stock_host() as (host, addresses):
        if arguments.mode == "receive":
            await receive(host, addresses)
        else:
            await send(host, arguments.address, arguments.size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=("receive", "send"))
    parser.add_argument("address", nargs="?")
    parser.add_argument("size", nargs="?", type=int)
    trio.run(main, parser.parse_args())
