"""Eight streams on one connection, and one of their readers stops: do the others keep their speed?

    python -m tests.benchmarks.bench_stalled [--seconds 60] [--rounds 3]

The two ends are processes of their own on loopback. In turns, all eight are read for a sixth of the
time, and one is not read for ``seconds``. Prints what each of the other seven received in MB/s (10^6 bytes;
medians), the growth of the reading process and what waits unread in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import trio

from tests.benchmarks.bench_link import CHUNK, new_host
from tests.benchmarks.measuring import MB, MIB

STREAMS = 8
SINK = "/swarm/bench/sink/1"


class Reader:
    """The listening end: reads every stream, but for the first one when told so."""

    def __init__(self) -> None:
        self._received = [0] * STREAMS
        self._joined = 0
        self._reading = trio.Event()
        self._reading.set()
        self._first: Any = None

    async def sink(self, stream: Any) -> None:
        index, self._joined = self._joined, self._joined + 1
        if index == 0:
            self._first = stream.muxed_stream
        buffer = memoryview(bytearray(CHUNK))
        while True:
            if index == 0:
                await self._reading.wait()
            self._received[index] += await stream.muxed_stream.readinto(buffer)

    async def obey(self) -> None:
        """Follow the commands on stdin; answer each with what was received so far."""
        while command := (await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)).strip():
            if command == "stall":
                self._reading = trio.Event()
            elif command == "resume":
                self._reading.set()
            unread = self._first.state.inbox.size if self._first else 0
            print(json.dumps({"received": self._received, "rss": rss(), "unread": unread}), flush=True)


def rss() -> int:
    """Return the resident size of this process in bytes."""
    import psutil

    size: int = psutil.Process().memory_info().rss
    return size


async def serve() -> None:
    from multiaddr import Multiaddr

    host, reader = new_host("ours"), Reader()
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        host.set_stream_handler(SINK, reader.sink)
        print(next(str(a) for a in host.get_addrs() if "127.0.0.1" in str(a)), flush=True)
        await reader.obey()
        await host.close()


async def drive(address: str) -> None:
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    host = new_host("ours")
    peer = info_from_p2p_addr(Multiaddr(address))

    async def push() -> None:
        stream = await host.new_stream(peer.peer_id, [SINK])
        chunk = bytes(CHUNK)
        while True:
            await stream.write(chunk)

    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        await host.connect(peer)
        async with trio.open_nursery() as nursery:
            for _ in range(STREAMS):
                nursery.start_soon(push)


class Listener:
    """The reading process, seen from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, command: str) -> dict[str, Any]:
        """Send one command; return the readings that answer it."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the listener has no pipes")
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def rate(self, command: str, seconds: float) -> tuple[float, dict[str, Any]]:
        """Give the command, wait, and return the bytes per second of the last seven streams, each."""
        before, began = self.tell(command), time.perf_counter()
        time.sleep(seconds)
        after = self.tell("count")
        moved = sum(after["received"][1:]) - sum(before["received"][1:])
        return moved / (STREAMS - 1) / (time.perf_counter() - began), after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(serve)
    elif arguments.drive:
        trio.run(drive, arguments.drive)
    else:
        measure(arguments.seconds, arguments.rounds)


def measure(seconds: float, rounds: int) -> None:
    module = [sys.executable, "-m", "tests.benchmarks.bench_stalled"]
    with contextlib.ExitStack() as stack:
        listening = subprocess.Popen(
            [*module, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(listening.kill)
        address = listening.stdout.readline().strip() if listening.stdout else ""
        stack.callback(subprocess.Popen([*module, "--drive", address]).kill)
        listener = Listener(listening)
        listener.rate("count", 3)
        free, stalled = [], []
        start = end = listener.tell("count")
        for _ in range(rounds):
            free.append(listener.rate("resume", seconds / 6)[0])
            rate, end = listener.rate("stall", seconds)
            stalled.append(rate)
        unread = end["unread"] / MIB
    plain, beside = statistics.median(free), statistics.median(stalled)
    growth = (end["rss"] - start["rss"]) / MIB
    print(f"all read:          {plain / MB:6.1f} MB/s each of seven")
    print(
        f"one stalled {seconds:3.0f} s: {beside / MB:6.1f} MB/s each of the same seven: {beside / plain:.2f}x"
    )
    print(f"unread of the stalled stream: {unread:.2f} MiB; RSS grew by {growth:.1f} MiB")


if __name__ == "__main__":
    main()
