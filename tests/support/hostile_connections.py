"""Attacks below the streams: on the socket before anybody is known, and on the records after that.

Each runs until the victim closes the connection, which it sees as one of `EXPECTED`. Run by hostile.py.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import IOException
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.exceptions import MuxedConnError

from swarm.errors import LinkClosed, RemoteError
from swarm.mux.mux_limits import INITIAL_WINDOW, MuxLimits
from swarm.mux.stream import WindowBudget
from swarm.net.libp2p.muxer import YamuxNegotiator
from swarm.net.libp2p.noise_session import NoiseSession, noise_security

HEADER = struct.Struct(">BBHII")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
BATCH = 4096
MULTISTREAM = b"\x13/multistream/1.0.0\n"
RECORD = 60_000

EXPECTED = (
    BaseLibp2pError,
    IOException,
    MuxedConnError,
    LinkClosed,
    RemoteError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class CutOff(LinkClosed):
    """The victim has closed the socket."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the victim listens and who it is."""

    host: str
    port: int
    peer: str

    async def knock(self) -> trio.SocketStream:
        """A TCP connection."""
        return await trio.open_tcp_stream(self.host, self.port, happy_eyeballs_delay=1)

    async def enter(self, stream: trio.SocketStream | None = None) -> NoiseSession:
        """A connection past Noise and the choice of Yamux, with an identity of its own.

        It uses ``stream``, by default a new TCP connection.
        """
        keys = create_new_key_pair()
        secure = SecurityMultistream(noise_security(keys))  # type: ignore[arg-type]
        raw = RawConnection(TrioTCPStream(stream or await self.knock()), True)
        session = await secure.secure_outbound(raw, ID.from_base58(self.peer))
        assert isinstance(session, NoiseSession)
        await YamuxNegotiator(10, MuxLimits(), WindowBudget()).negotiate(session)
        return session


def frame(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A Yamux header."""
    return HEADER.pack(0, kind, flags, stream, length)


async def _read_to_the_end(session: NoiseSession) -> None:
    while await session.read():
        pass
    raise CutOff("the victim closed the connection")


async def _both(session: NoiseSession, write: Callable[[], Awaitable[None]]) -> None:
    """Write and read side by side; the first to fail ends both."""
    ended: list[BaseException] = []
    async with trio.open_nursery() as nursery:

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except EXPECTED as error:
                ended.append(error)
                nursery.cancel_scope.cancel()

        nursery.start_soon(run, write)
        nursery.start_soon(run, lambda: _read_to_the_end(session))
    await session.close()
    raise ended[0]


# --- On the socket ---------------------------------------------------------------------------------


async def _until_closed(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        pass
    raise CutOff("the victim closed the socket")


async def tcp_garbage(door: Door) -> None:
    """Random bytes before any negotiation."""
    async with await door.knock() as stream:
        await stream.send_all(random.randbytes(1 << 16))
        await _until_closed(stream)


async def tcp_giant(door: Door) -> None:
    """A negotiation message that claims 1 GiB, and its bytes for as long as they are taken."""
    async with await door.knock() as stream:
        await stream.send_all(b"\x80\x80\x80\x80\x04")
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                await _until_closed(stream)

            nursery.start_soon(read)
            while True:
                await stream.send_all(bytes(1 << 16))


async def tcp_not_text(door: Door) -> None:
    """A negotiation message that is not UTF-8."""
    async with await door.knock() as stream:
        await stream.send_all(MULTISTREAM + b"\x04\xff\xfe\xfd\n")
        await _until_closed(stream)


async def tcp_dribble(door: Door) -> None:
    """A negotiation of one byte a second."""
    async with await door.knock() as stream:
        for byte in MULTISTREAM * 10:
            await stream.send_all(bytes([byte]))
            with trio.move_on_after(1):
                await _until_closed(stream)


async def tcp_silence(door: Door) -> None:
    """A socket and not a byte."""
    async with await door.knock() as stream:
        await _until_closed(stream)


async def half_noise(door: Door) -> None:
    """The first step of Noise and not the second."""
    async with await door.knock() as stream:
        await stream.send_all(MULTISTREAM + b"\x07/noise\n")
        await stream.send_all((32).to_bytes(2, "big") + random.randbytes(32))
        await _until_closed(stream)


async def noise_garbage(door: Door) -> None:
    """Random bytes in place of Noise's first message."""
    async with await door.knock() as stream:
        await stream.send_all(MULTISTREAM + b"\x07/noise\n" + random.randbytes(1 << 17))
        await _until_closed(stream)


# --- After the handshake ---------------------------------------------------------------------------


async def forged_records(door: Door) -> None:
    """Records that nobody sealed."""
    stream = await door.knock()
    session = await door.enter(stream)

    async def write() -> None:
        await stream.send_all((100).to_bytes(2, "big") + random.randbytes(100))

    await _both(session, write)


async def yamux_garbage(door: Door) -> None:
    """Well sealed records of random bytes."""
    session = await door.enter()

    async def write() -> None:
        while True:
            await session.write(random.randbytes(4096))

    await _both(session, write)


async def overrun(door: Door) -> None:
    """More data than the window of a stream allows."""
    session = await door.enter()

    async def write() -> None:
        await session.write(frame(WINDOW_UPDATE, SYN, 1, 0))
        await session.write(frame(DATA, 0, 1, INITIAL_WINDOW + 1))
        while True:
            await session.write(bytes(RECORD))

    await _both(session, write)


async def unread_windows(door: Door) -> None:
    """Stream after stream filled to its window with what is no negotiation message yet."""
    session = await door.enter()

    async def write() -> None:
        number = 1
        while True:
            await session.write(frame(WINDOW_UPDATE, SYN, number, 0))
            # A multistream message of 1 KiB that never ends: nothing behind it is read for a while.
            await session.write(frame(DATA, 0, number, INITIAL_WINDOW))
            left = INITIAL_WINDOW
            while left:
                size = min(left, RECORD)
                await session.write(b"\x80\x07" + bytes(size - 2) if left == INITIAL_WINDOW else bytes(size))
                left -= size
            number += 2

    await _both(session, write)


async def _repeat(door: Door, *records: bytes, read: bool = True) -> None:
    session = await door.enter()

    async def write() -> None:
        while True:
            for record in records:
                await session.write(record)

    if read:
        await _both(session, write)
    await write()


async def yamux_pings(door: Door) -> None:
    """Yamux pings as fast as they go, answers read."""
    await _repeat(door, frame(PING, SYN, 0, 7) * BATCH)


async def yamux_pings_unread(door: Door) -> None:
    """Yamux pings as fast as they go, answers not read."""
    await _repeat(door, frame(PING, SYN, 0, 7) * BATCH, read=False)


async def empty_data(door: Door) -> None:
    """DATA frames without data."""
    await _on_one_stream(door, frame(DATA, 0, 1, 0))


async def window_updates(door: Door) -> None:
    """Window updates of nothing."""
    await _on_one_stream(door, frame(WINDOW_UPDATE, 0, 1, 1))


async def _on_one_stream(door: Door, repeated: bytes) -> None:
    session = await door.enter()

    async def write() -> None:
        await session.write(frame(WINDOW_UPDATE, SYN, 1, 0))
        while True:
            await session.write(repeated * BATCH)

    await _both(session, write)


async def rapid_reset(door: Door) -> None:
    """Streams opened and reset at once (the trick of CVE-2023-44487)."""
    session = await door.enter()

    async def write() -> None:
        number = 1
        while True:
            batch = bytearray()
            for _ in range(BATCH // 8):
                batch += frame(WINDOW_UPDATE, SYN, number, 0) + frame(WINDOW_UPDATE, RST, number, 0)
                number += 2
            await session.write(bytes(batch))

    await _both(session, write)


async def stream_flood(door: Door) -> None:
    """Streams without a word, far more than are allowed."""
    session = await door.enter()

    async def write() -> None:
        number = 1
        while True:
            batch = bytearray()
            for _ in range(BATCH // 8):
                batch += frame(WINDOW_UPDATE, SYN, number, 0)
                number += 2
            await session.write(bytes(batch))

    await _both(session, write)


ConnectionAttack = Callable[[Door], Awaitable[None]]

CONNECTION_ATTACKS: dict[str, ConnectionAttack] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        tcp_garbage,
        tcp_giant,
        tcp_not_text,
        tcp_dribble,
        tcp_silence,
        half_noise,
        noise_garbage,
        forged_records,
        yamux_garbage,
        overrun,
        unread_windows,
        yamux_pings,
        yamux_pings_unread,
        empty_data,
        window_updates,
        rapid_reset,
        stream_flood,
    )
}
