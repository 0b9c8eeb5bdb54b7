"""How fast the link is, against stock py-libp2p, on this machine.

    python -m tests.benchmarks.bench_link [--rounds 5] [--mib 512] [--only ours-ours ...]

The two ends are processes of their own, on loopback; the cases take turns within every round, so
that a busy machine slows all of them. Prints medians: MB/s (10^6 bytes, both directions added up),
CPU seconds per GB (10^9 bytes) of each end, and the round trip of 32 bytes beside the bulk. "1000 opens": a
thousand streams are opened meanwhile by twenty tasks, each to carry 32 bytes there and back; its last column
is the time of one, negotiation included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import sys
import time
from typing import Any

import trio

CHUNK = 1024 * 1024
OPENS, OPENERS = 1000, 20
PUSH, PULL, ECHO = "/swarm/bench/push/1", "/swarm/bench/pull/1", "/swarm/bench/echo/1"
_SIZE = struct.Struct("!Q")
_CPU = struct.Struct("!d")

CASES: dict[str, tuple[str, str, str]] = {
    # name: dialer, listener, what the dialer does
    "stock-stock": ("stock", "stock", "push"),
    "ours-ours": ("ours", "ours", "push"),
    "ours-ours readinto": ("ours", "ours", "pull-readinto"),
    "ours-ours 8 streams": ("ours", "ours", "push8"),
    "ours-stock": ("ours", "stock", "push"),
    "stock-ours": ("stock", "ours", "push"),
    "ours-ours both ways": ("ours", "ours", "both"),
    "both ways, 1000 opens": ("ours", "ours", "both-open"),
    "stock-stock, echo beside": ("stock", "stock", "push-echo"),
    "ours-ours, echo beside": ("ours", "ours", "push-echo"),
}


def new_host(kind: str) -> Any:
    from libp2p import new_host as libp2p_host
    from libp2p.crypto.ed25519 import create_new_key_pair

    key_pair = create_new_key_pair()
    if kind == "stock":
        return libp2p_host(key_pair=key_pair)
    from swarm.net.libp2p import muxer, noise_session

    host = libp2p_host(key_pair=key_pair, sec_opt=noise_session.noise_security(key_pair))
    muxer.install(host.get_network())
    return host


async def read_exactly(stream: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


async def sink(stream: Any, size: int) -> None:
    received = 0
    while received < size:
        received += len(await stream.read(CHUNK))


async def sink_readinto(stream: Any, size: int) -> None:
    buffer = memoryview(bytearray(CHUNK))
    received = 0
    while received < size:
        received += await stream.muxed_stream.readinto(buffer[: size - received])


async def source(stream: Any, size: int) -> None:
    chunk = bytes(CHUNK)
    for _ in range(size // CHUNK):
        await stream.write(chunk)


async def serve_push(stream: Any) -> None:
    (size,) = _SIZE.unpack(await read_exactly(stream, _SIZE.size))
    before = time.process_time()
    await sink(stream, size)
    await stream.write(_CPU.pack(time.process_time() - before))
    await stream.close()


async def serve_pull(stream: Any) -> None:
    (size,) = _SIZE.unpack(await read_exactly(stream, _SIZE.size))
    before = time.process_time()
    await source(stream, size)
    await read_exactly(stream, 1)
    await stream.write(_CPU.pack(time.process_time() - before))
    await stream.close()


async def serve_echo(stream: Any) -> None:
    while (data := await read_exactly(stream, 32))[0]:
        await stream.write(data)
    await stream.close()


async def serve(kind: str) -> None:
    from multiaddr import Multiaddr

    host = new_host(kind)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        host.set_stream_handler(PUSH, serve_push)
        host.set_stream_handler(PULL, serve_pull)
        host.set_stream_handler(ECHO, serve_echo)
        print(next(str(a) for a in host.get_addrs() if "127.0.0.1" in str(a)), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        await host.close()


async def drive(kind: str, address: str, what: str, size: int) -> None:
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
    from multiaddr import Multiaddr

    host = new_host(kind)
    peer = info_from_p2p_addr(Multiaddr(address))
    theirs = 0.0

    async def push(part: int) -> None:
        nonlocal theirs
        stream = await host.new_stream(peer.peer_id, [PUSH])
        await stream.write(_SIZE.pack(part))
        await source(stream, part)
        theirs = max(theirs, _CPU.unpack(await read_exactly(stream, _CPU.size))[0])
        await stream.close()

    async def pull(part: int, take: Any = sink) -> None:
        nonlocal theirs
        stream = await host.new_stream(peer.peer_id, [PULL])
        await stream.write(_SIZE.pack(part))
        await take(stream, part)
        await stream.write(b".")
        theirs = max(theirs, _CPU.unpack(await read_exactly(stream, _CPU.size))[0])
        await stream.close()

    async def echo(while_running: trio.Nursery) -> None:
        stream = await host.new_stream(peer.peer_id, [ECHO])
        while len(while_running.child_tasks) > 1:
            asked = time.perf_counter()
            await stream.write(b"1" * 32)
            await read_exactly(stream, 32)
            echoes.append(time.perf_counter() - asked)
            await trio.sleep(0.005)
        await stream.write(bytes(32))
        await stream.close()

    async def open_many() -> None:
        # As `swarm.net.host` opens them.
        (connection,) = host.get_network().get_connections(peer.peer_id)
        for _ in range(OPENS // OPENERS):
            asked = time.perf_counter()
            stream = await connection.new_stream()
            await host.multiselect_client.select_one_of([ECHO], MultiselectCommunicator(stream), 30)
            await stream.write(b"1" * 32)
            await read_exactly(stream, 32)
            await stream.write(bytes(32))
            await stream.close()
            echoes.append(time.perf_counter() - asked)
        opened.append(time.perf_counter() - begun)

    async def bulk(work: Any, *arguments: Any) -> None:
        await work(*arguments)
        moved.append(time.perf_counter() - begun)

    moved: list[float] = []
    opened: list[float] = []
    echoes: list[float] = []
    jobs: list[tuple[Any, ...]] = {
        "push": [(push, size)],
        "push-echo": [(push, size)],
        "push8": [(push, size // 8)] * 8,
        "pull-readinto": [(pull, size, sink_readinto)],
        "both": [(push, size // 2), (pull, size // 2)],
        "both-open": [(push, size // 2), (pull, size // 2), *[(open_many,)] * OPENERS],
    }[what]
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        await host.connect(peer)
        await push(8 * CHUNK)
        theirs = 0.0
        before, begun = time.process_time(), time.perf_counter()
        async with trio.open_nursery() as nursery:
            for work, *arguments in jobs:
                nursery.start_soon(*((work,) if work is open_many else (bulk, work, *arguments)))
            if what == "push-echo":
                nursery.start_soon(echo, nursery)
        ours = time.process_time() - before
        result = {"seconds": max(moved), "dialer": ours, "listener": theirs}
        if opened:
            result["opened"] = max(opened)
        if echoes:
            result["echo"] = statistics.median(echoes)
        print(json.dumps(result), flush=True)
        await host.close()


def run_case(dialer: str, listener: str, what: str, size: int) -> dict[str, float]:
    module = [sys.executable, "-m", "tests.benchmarks.bench_link"]
    server = subprocess.Popen(
        [*module, "--serve", listener], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        done = subprocess.run(
            [*module, "--drive", dialer, address, what, str(size)],
            stdout=subprocess.PIPE, text=True, timeout=300, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--serve")
    parser.add_argument("--drive", nargs=4)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve)
        return
    if options.drive:
        kind, address, what, size = options.drive
        trio.run(drive, kind, address, what, int(size))
        return
    size = options.mib * 1024 * 1024
    results: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        for name in options.only:
            results[name].append(run_case(*CASES[name], size))
            print(
                f"round {number + 1} {name}: {size / results[name][-1]['seconds'] / 1e6:.0f} MB/s", flush=True
            )
    report(results, size)


def report(results: dict[str, list[dict[str, float]]], size: int) -> None:
    def median(name: str, key: str) -> float:
        return statistics.median(result[key] for result in results[name])

    base = size / median("stock-stock", "seconds") / 1e6 if "stock-stock" in results else 0.0
    print(f"\n{'case':26}{'MB/s':>8}{'x stock':>9}{'dialer s/GB':>13}{'listener s/GB':>15}{'echo':>8}")
    for name in results:
        rate = size / median(name, "seconds") / 1e6
        dialer, listener = (median(name, key) / size * 1e9 for key in ("dialer", "listener"))
        ratio = rate / base if base else 0.0
        echo = f"{median(name, 'echo') * 1e3:8.1f} ms" if "echo" in results[name][0] else ""
        if "opened" in results[name][0]:
            echo += f", {OPENS} within {median(name, 'opened') / median(name, 'seconds'):.0%} of the time"
        print(f"{name:26}{rate:8.0f}{ratio:9.2f}{dialer:13.2f}{listener:15.2f}{echo}")


if __name__ == "__main__":
    main()
