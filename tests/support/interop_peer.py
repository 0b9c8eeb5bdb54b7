"""A libp2p peer in Python for the interop tests: as py-libp2p makes it, or with swarm's own host.

    python -m tests.support.interop_peer [--swarm] listen
    python -m tests.support.interop_peer [--swarm] ping ADDRESS COUNT
    python -m tests.support.interop_peer [--swarm] [--late-fin] MODES ADDRESS SIZES

`listen` prints `libp2p node address: …` and serves until it is ended; `ping` prints
`pinged ADDRESS in 1.234ms` COUNT times. MODES are some of `echo,send,receive`: each moves as many
bytes as each of SIZES (`0,1,1048576`) says over a stream of one of the test's data protocols, checks
them and prints `echo N bytes in S s sha256 HEX`.
interop_peer.mjs is the same program on js-libp2p, interop_go.py drives go-libp2p.

The dialer begins with a header of 9 bytes: 1 when its FIN comes before the answer, else 0; N, big-endian.

/swarm-test/echo/1.0.0    the dialer sends N bytes of the pattern, the listener sends them back as they come
/swarm-test/sink/1.0.0    the dialer sends N bytes of the pattern, the listener their SHA-256
/swarm-test/source/1.0.0  the listener sends N bytes of the pattern

With 1 in the header the listener waits for the FIN before it answers (echo: before its own FIN), so the
answer uses a half-closed stream, and the listener ends it with FIN; with 0 the dialer's FIN follows the
answer and nothing after it is looked at. Block i of 64 KiB of the pattern is SHA-256(i as 8 bytes,
big-endian) repeated, so lost, doubled and reordered frames all change the hash.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import trio

ECHO = "/swarm-test/echo/1.0.0"
SINK = "/swarm-test/sink/1.0.0"
SOURCE = "/swarm-test/source/1.0.0"
PING = "/ipfs/ping/1.0.0"
PROTOCOLS = {"echo": ECHO, "send": SINK, "receive": SOURCE}
BLOCK = 65536
HEADER_BYTES = 9
LISTEN = "/ip4/127.0.0.1/tcp/0"

Stream = Any
"""libp2p's INetStream; libp2p is imported where it is used, so that the pattern costs nothing."""


def pattern(size: int) -> Iterator[bytes]:
    """Yield the first ``size`` bytes of the test pattern in blocks."""
    for start in range(0, size, BLOCK):
        digest = hashlib.sha256((start // BLOCK).to_bytes(8, "big")).digest()
        yield (digest * (BLOCK // len(digest)))[: size - start]


def pattern_hash(size: int) -> bytes:
    """Return the SHA-256 of the first ``size`` bytes of the pattern."""
    total = hashlib.sha256()
    for block in pattern(size):
        total.update(block)
    return total.digest()


def header(fin_first: bool, size: int) -> bytes:
    """Return what a dialer sends first."""
    return bytes([fin_first]) + size.to_bytes(HEADER_BYTES - 1, "big")


async def read_some(stream: Stream, most: int) -> bytes:
    """Return at most ``most`` bytes, none at FIN; a reset raises."""
    from libp2p.network.stream.exceptions import StreamEOF

    try:
        return await stream.read(most)
    except StreamEOF:
        return b""


async def chunks(stream: Stream, size: int) -> AsyncIterator[bytes]:
    """Yield the next ``size`` bytes as they come."""
    while size > 0:
        data = await read_some(stream, min(size, BLOCK))
        if not data:
            raise EOFError(f"FIN with {size} bytes still to come")
        size -= len(data)
        yield data


async def expect_fin(stream: Stream) -> None:
    if await read_some(stream, 1):
        raise EOFError("data where FIN should be")


async def read_header(stream: Stream) -> tuple[bool, int]:
    head = b"".join([data async for data in chunks(stream, HEADER_BYTES)])
    return bool(head[0]), int.from_bytes(head[1:], "big")


async def read_hash(stream: Stream, size: int) -> bytes:
    """Return the SHA-256 of the next ``size`` bytes."""
    total = hashlib.sha256()
    async for data in chunks(stream, size):
        total.update(data)
    return total.digest()


async def send_pattern(stream: Stream, size: int) -> None:
    for block in pattern(size):
        await stream.write(block)


async def serve_echo(stream: Stream) -> None:
    fin_first, size = await read_header(stream)
    async for data in chunks(stream, size):
        await stream.write(data)
    if fin_first:
        await expect_fin(stream)
    await stream.close_write()


async def serve_sink(stream: Stream) -> None:
    fin_first, size = await read_header(stream)
    digest = await read_hash(stream, size)
    if fin_first:
        await expect_fin(stream)
    await stream.write(digest)
    await stream.close_write()


async def serve_source(stream: Stream) -> None:
    fin_first, size = await read_header(stream)
    if fin_first:
        await expect_fin(stream)
    await send_pattern(stream, size)
    await stream.close_write()


def guarded(serve: Callable[[Stream], Any]) -> Callable[[Stream], Any]:
    """Say what went wrong in a handler, and keep it from ending the host."""

    async def handler(stream: Stream) -> None:
        try:
            await serve(stream)
        except Exception as error:
            print(f"{serve.__name__}: {error!r}", file=sys.stderr, flush=True)
            await stream.reset()

    return handler


@asynccontextmanager
async def stock_host() -> AsyncIterator[Any]:
    """A host as py-libp2p makes it, with Noise and Yamux; yields (its host, its addresses)."""
    import libp2p
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
    from libp2p.custom_types import TProtocol
    from libp2p.host.ping import handle_ping
    from libp2p.security.noise.transport import PROTOCOL_ID, Transport
    from multiaddr import Multiaddr

    keys = create_new_key_pair(secrets.token_bytes(32))
    noise = Transport(libp2p_keypair=keys, noise_privkey=create_noise_key_pair().private_key)
    host = libp2p.new_host(
        key_pair=keys,
        sec_opt={PROTOCOL_ID: noise},
        muxer_preference="YAMUX",
        listen_addrs=[Multiaddr(LISTEN)],
    )
    host.set_stream_handler(TProtocol(PING), handle_ping)
    async with host.run([Multiaddr(LISTEN)]):
        try:
            yield host, [f"{address}" for address in host.get_addrs()]
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 3, shield=True):
                await host.close()


@asynccontextmanager
async def swarm_host() -> AsyncIterator[Any]:
    """swarm's own host; yields the libp2p host inside it, for the same calls."""
    from swarm.net.host import open_host
    from swarm.net.ping_protocol import PING_PROTOCOL, Responder

    async with open_host(secrets.token_bytes(32), [LISTEN]) as host:
        host.serve(PING_PROTOCOL, Responder())
        yield host._inner, list(host.addresses)


def peer_info(address: str) -> Any:
    from libp2p.peer.peerinfo import info_from_p2p_addr
    from multiaddr import Multiaddr

    return info_from_p2p_addr(Multiaddr(address))


async def listen(host: Any, addresses: list[str]) -> None:
    from libp2p.custom_types import TProtocol

    for protocol, serve in ((ECHO, serve_echo), (SINK, serve_sink), (SOURCE, serve_source)):
        host.set_stream_handler(TProtocol(protocol), guarded(serve))
    for address in addresses:
        print(f"libp2p node address: {address}", flush=True)
    await trio.sleep_forever()


async def ping(host: Any, address: str, count: int) -> None:
    stream = await host.new_stream(peer_info(address).peer_id, [PING])
    for _ in range(count):
        payload = secrets.token_bytes(32)
        started = time.perf_counter()
        await stream.write(payload)
        answer = b""
        while len(answer) < len(payload):
            answer += await stream.read(len(payload) - len(answer))
        if answer != payload:
            raise SystemExit(f"ping: sent {payload.hex()}, got {answer.hex()}")
        print(f"pinged {address} in {(time.perf_counter() - started) * 1e3:.3f}ms", flush=True)
    await stream.close_write()


async def echo(stream: Stream, size: int, fin_first: bool) -> bytes:
    """Send the pattern while reading it back; return the hash of what came back."""
    result = b""

    async def read_back() -> None:
        nonlocal result
        result = await read_hash(stream, size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_back)
        await send(stream, size, fin_first)
    return result


async def send(stream: Stream, size: int, fin_first: bool) -> None:
    await stream.write(header(fin_first, size))
    await send_pattern(stream, size)
    if fin_first:
        await stream.close_write()


async def sink(stream: Stream, size: int, fin_first: bool) -> bytes:
    await send(stream, size, fin_first)
    return b"".join([data async for data in chunks(stream, hashlib.sha256().digest_size)])


async def receive(stream: Stream, size: int, fin_first: bool) -> bytes:
    await stream.write(header(fin_first, size))
    if fin_first:
        await stream.close_write()
    return await read_hash(stream, size)


async def transfer(host: Any, mode: str, address: str, size: int, fin_first: bool) -> None:
    move = {"echo": echo, "send": sink, "receive": receive}[mode]
    stream = await host.new_stream(peer_info(address).peer_id, [PROTOCOLS[mode]])
    started = time.perf_counter()
    got = await move(stream, size, fin_first)
    if fin_first:
        await expect_fin(stream)
    else:
        await stream.close_write()
    seconds = time.perf_counter() - started
    expected = pattern_hash(size)
    if got != expected:
        raise SystemExit(f"{mode}: got {got.hex()}, expected {expected.hex()}")
    print(f"{mode} {size} bytes in {seconds:.3f} s sha256 {expected.hex()}", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    async with (swarm_host if arguments.swarm else stock_host)() as (host, addresses):
        if arguments.mode == "listen":
            await listen(host, addresses)
            return
        with trio.fail_after(arguments.deadline):
            await host.connect(peer_info(arguments.address))
            if arguments.mode == "ping":
                await ping(host, arguments.address, int(arguments.number))
            else:
                for mode in arguments.mode.split(","):
                    for size in arguments.number.split(","):
                        await transfer(host, mode, arguments.address, int(size), not arguments.late_fin)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swarm", action="store_true", help="swarm's own host instead of py-libp2p's")
    parser.add_argument("--late-fin", action="store_true", help="FIN after the answer, not before it")
    parser.add_argument("--deadline", type=float, default=100, help="seconds that a dialer may take")
    parser.add_argument("mode", help="listen, ping, or some of " + ",".join(PROTOCOLS))
    parser.add_argument("address", nargs="?")
    parser.add_argument("number", nargs="?", help="how many pings, or sizes in bytes")
    trio.run(main, parser.parse_args())
