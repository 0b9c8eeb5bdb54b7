"""Peers that answer pings in ways of their own. Run by hostile.py as ``ping NAME…``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio

from swarm.errors import LinkClosed
from swarm.net.ping_protocol import PAYLOAD_BYTES
from swarm.ports import ByteStream

LATE_SECONDS = 5.5
"""More than `swarm ping` waits for."""
DELAY_SECONDS = 0.02

Tell = Callable[[float], None]


async def truthful(link: ByteStream, tell: Tell) -> None:
    while True:
        await link.write(await link.read_exactly(PAYLOAD_BYTES))


async def delayed(link: ByteStream, tell: Tell) -> None:
    """After a known time, which is told as it really was."""
    while True:
        payload = await link.read_exactly(PAYLOAD_BYTES)
        began = time.perf_counter()
        await trio.sleep(DELAY_SECONDS)
        elapsed = time.perf_counter() - began
        await link.write(payload)
        tell(elapsed)


async def wrong(link: ByteStream, tell: Tell) -> None:
    """Other bytes, at once."""
    while True:
        await link.read_exactly(PAYLOAD_BYTES)
        await link.write(bytes(PAYLOAD_BYTES))


async def ahead(link: ByteStream, tell: Tell) -> None:
    """An answer before there was a question, to look near."""
    await link.write(bytes(PAYLOAD_BYTES) * 64)
    await truthful(link, tell)


async def duplicate(link: ByteStream, tell: Tell) -> None:
    """Each answer twice: the second would be there when the next question comes."""
    while True:
        payload = await link.read_exactly(PAYLOAD_BYTES)
        await link.write(payload + payload)


async def late(link: ByteStream, tell: Tell) -> None:
    """The right answer, to the last question but one."""
    while True:
        payload = await link.read_exactly(PAYLOAD_BYTES)
        await trio.sleep(LATE_SECONDS)
        await link.write(payload)


async def hang_up(link: ByteStream, tell: Tell) -> None:
    """Half an answer."""
    await link.write((await link.read_exactly(PAYLOAD_BYTES))[: PAYLOAD_BYTES // 2])
    raise LinkClosed("gone on purpose")


ANSWERS: dict[str, Callable[[ByteStream, Tell], Awaitable[None]]] = {
    answer.__name__.replace("_", "-"): answer
    for answer in (truthful, delayed, wrong, ahead, duplicate, late, hang_up)
}
