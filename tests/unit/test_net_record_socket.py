"""One socket with its ciphers: when it wakes up, and what ends it."""

from __future__ import annotations

import io
import os

import pytest
import trio
import trio.testing

from swarm.errors import LinkClosed
from swarm.mux.mux_limits import NOISE_MAX_PLAINTEXT, NOISE_MAX_SEALED
from swarm.mux.records import Opener, Sealer
from swarm.net.record_socket import PART_RECORDS, WAKE_BYTES, RecordSocket
from tests.support.connection_pair import socket_pair
from tests.support.records import Plaintexts

KEY = bytes(32)
PACKET = 1000


def connected() -> tuple[trio.SocketStream, Sealer, RecordSocket]:
    """A peer's raw socket with its sealer, and our records at the other end."""
    here, there = socket_pair()
    return here, Sealer(KEY, 0), RecordSocket(there, Sealer(KEY, 0), Opener(KEY, 0))


async def take(records: RecordSocket, plaintexts: list[bytes]) -> int:
    """Receive until the peer closes; return how often the socket woke us."""
    wakes, sink = 0, Plaintexts()
    try:
        while True:
            await records.receive(sink)
            plaintexts[:] = sink.found
            wakes += 1
    except LinkClosed:
        records.close()
        return wakes


async def trickle(peer: trio.SocketStream, data: bytes) -> None:
    """Send a packet at a time, each once the receiver has done what it does with the one before."""
    for start in range(0, len(data), PACKET):
        await peer.send_all(data[start : start + PACKET])
        await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize("sizes", [[12_000] * 3, [60_000], [5, 18_000, 5], [WAKE_BYTES, 1, 12_000]])
async def test_a_slow_path_wakes_us_for_records_and_not_for_packets(sizes: list[int]) -> None:
    peer, sealer, records = connected()
    wanted = [bytes([number]) * size for number, size in enumerate(sizes)]
    sealed = b"".join(map(sealer.seal, wanted))
    found: list[bytes] = []
    wakes = 0

    async def receive() -> None:
        nonlocal wakes
        wakes = await take(records, found)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trickle(peer, sealed)
            await peer.aclose()
    assert found == wanted
    # A record wakes us with its first packet, which tells its length, every `WAKE_BYTES`, and when complete.
    allowed = sum(2 + size // WAKE_BYTES for size in sizes)
    assert 2 * allowed <= len(sealed) / PACKET, "there are too few packets to tell"
    assert wakes <= allowed


async def test_a_small_record_behind_a_large_one_is_not_waited_for() -> None:
    peer, sealer, records = connected()
    found: list[bytes] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, records, found)
            await trickle(peer, sealer.seal(bytes(50_000)))
            await peer.send_all(sealer.seal(b"ping"))
            while found[-1:] != [b"ping"]:
                await trio.sleep(0.001)
            await peer.aclose()


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 30_000])
async def test_an_end_in_the_middle_of_a_record_is_noticed(kept: int) -> None:
    peer, sealer, records = connected()
    found: list[bytes] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, records, found)
            await trickle(peer, sealer.seal(bytes(60_000))[:kept])
            await peer.aclose()
    assert found == []
    assert records.received_bytes == kept


async def test_who_waits_is_woken_for_the_end_of_a_record_whose_middle_another_task_has_received() -> None:
    """The peer sends nothing behind it: a socket that still waits for `WAKE_BYTES` would wake nobody."""
    peer, sealer, records = connected()
    sealed, sink = sealer.seal(bytes(50_000)), Plaintexts()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await peer.send_all(sealed[:10_000])
            assert records.receive_now(sink) == 10_000
            nursery.start_soon(records.receive, sink)
            await trio.testing.wait_all_tasks_blocked()
            # No await: a reader receives in its own step, before the task that the socket wakes.
            assert os.write(peer.socket.fileno(), sealed[10_000:49_000]) == 39_000
            while records.received_bytes < 49_000:
                records.receive_now(sink)
            await trio.testing.wait_all_tasks_blocked(0.001)
            await peer.send_all(sealed[49_000:])
    records.close()
    await peer.aclose()
    assert sink.found == [bytes(50_000)]


async def test_one_step_receives_many_parts_and_no_more_than_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer, sealer, records = connected()
    full = [NOISE_MAX_PLAINTEXT] * (PART_RECORDS + 4)
    wanted = [
        bytes([number]) * size
        for number, size in enumerate([NOISE_MAX_PLAINTEXT, 70, 12, NOISE_MAX_PLAINTEXT, 40_000, *full])
    ]
    come, sink = io.BytesIO(b"".join(map(sealer.seal, wanted))), Plaintexts()
    # What a real socket holds at once differs from system to system.
    monkeypatch.setattr(records, "_read_into", come.readinto)
    assert records.receive_now(sink, NOISE_MAX_PLAINTEXT) <= 2 * NOISE_MAX_SEALED
    assert sink.found == wanted[:3]
    records.receive_now(sink)
    assert sink.found == wanted
    assert records.receive_now(sink) == 0
    await peer.aclose()
    records.close()
