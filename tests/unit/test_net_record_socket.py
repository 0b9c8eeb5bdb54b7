"""One socket with its ciphers: when it wakes up, and what ends it."""

from __future__ import annotations

import pytest
import trio

from swarm.errors import LinkClosed
from swarm.mux.records import Opener, Sealer
from swarm.net.record_socket import WAKE_BYTES, RecordSocket
from tests.support.link_pair import socket_pair

KEY = bytes(32)
PACKET = 1000


def wires() -> tuple[trio.SocketStream, Sealer, RecordSocket]:
    """A peer's raw socket with its sealer, and the wire at the other end."""
    here, there = socket_pair()
    return here, Sealer(KEY, 0), RecordSocket(there, Sealer(KEY, 0), Opener(KEY, 0))


async def take(wire: RecordSocket, plaintexts: list[bytes]) -> int:
    """Receive until the peer closes; return how often the wire woke up."""
    wakes = 0
    try:
        while True:
            for block, size in await wire.receive():
                plaintexts.append(bytes(block[:size]))
                wire.blocks.give(block)
            wakes += 1
    except LinkClosed:
        wire.close()
        return wakes


async def trickle(peer: trio.SocketStream, data: bytes) -> None:
    for start in range(0, len(data), PACKET):
        await peer.send_all(data[start : start + PACKET])
        await trio.sleep(0.001)


@pytest.mark.parametrize("sizes", [[12_000] * 3, [60_000], [5, 12_000, 5], [WAKE_BYTES, 1, 12_000]])
async def test_a_slow_link_wakes_us_for_records_and_not_for_packets(sizes: list[int]) -> None:
    peer, sealer, wire = wires()
    wanted = [bytes([number]) * size for number, size in enumerate(sizes)]
    sealed = b"".join(map(sealer.seal, wanted))
    found: list[bytes] = []
    wakes = 0

    async def receive() -> None:
        nonlocal wakes
        wakes = await take(wire, found)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trickle(peer, sealed)
            await peer.aclose()
    assert found == wanted
    # The first packet tells how long the record is.
    assert (
        wakes <= sum(2 + size // WAKE_BYTES for size in sizes) < len(sealed) / PACKET or len(sealed) < 20_000
    )


async def test_a_small_record_behind_a_large_one_is_not_waited_for() -> None:
    peer, sealer, wire = wires()
    found: list[bytes] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, wire, found)
            await trickle(peer, sealer.seal(bytes(50_000)))
            await peer.send_all(sealer.seal(b"ping"))
            while found[-1:] != [b"ping"]:
                await trio.sleep(0.001)
            await peer.aclose()


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 30_000])
async def test_an_end_in_the_middle_of_a_record_is_noticed(kept: int) -> None:
    peer, sealer, wire = wires()
    found: list[bytes] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, wire, found)
            await trickle(peer, sealer.seal(bytes(60_000))[:kept])
            await peer.aclose()
    assert found == []
    assert wire.received_bytes == kept
