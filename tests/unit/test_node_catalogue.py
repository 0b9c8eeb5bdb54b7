"""What a peer offers and a manifest by its id, over links in memory; and the first of several waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.content.signature import sign
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.node.catalogue import Catalogue, ask_adverts, ask_manifest
from swarm.node.racing import first_of
from swarm.ports import ByteStream
from swarm.protocol import protocol_limits as limits
from swarm.protocol.advert import Advert, encode_length
from tests.support.contents import file_manifest
from tests.support.memory_link import memory_link_pair

T = TypeVar("T")
KEY = bytes(range(32))
MANIFEST = file_manifest("file.bin", bytes(100_000))
ENVELOPE = Envelope(MANIFEST, sign(KEY, MANIFEST.encode()))
OTHER = file_manifest("other.bin", b"other")
ADVERT = Advert(MANIFEST.id, "file.bin", 100_000, MANIFEST.piece_count, MANIFEST.piece_length, 3)


def catalogue() -> Catalogue:
    known = {MANIFEST.id: ENVELOPE}
    return Catalogue(lambda: [ADVERT], known.get)


async def between(
    serve: Callable[[ByteStream], Awaitable[None]],
    ask: Callable[[ByteStream], Awaitable[T]],
    *,
    deadline: float = 5,
) -> T:
    here, there = memory_link_pair(PeerId("here"), PeerId("there"))
    with trio.fail_after(deadline):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, there)
            answer = await ask(here)
            nursery.cancel_scope.cancel()
    return answer


async def test_a_peer_says_what_it_offers() -> None:
    assert await between(catalogue().advertise, ask_adverts) == (ADVERT,)


async def test_a_manifest_comes_with_its_signature() -> None:
    envelope = await between(catalogue().manifest, lambda link: ask_manifest(link, MANIFEST.id))
    assert envelope == ENVELOPE
    assert envelope.signer == ENVELOPE.signer


async def test_an_unknown_manifest_is_none() -> None:
    assert await between(catalogue().manifest, lambda link: ask_manifest(link, OTHER.id)) is None


@pytest.mark.parametrize(
    "answer",
    [
        encode_length(len(Envelope(OTHER).to_bytes())) + Envelope(OTHER).to_bytes(),
        encode_length(5) + b"12345",
        encode_length(MAX_ENVELOPE_BYTES + 1),
    ],
    ids=["another manifest", "garbage", "too long"],
)
async def test_a_wrong_manifest_is_the_peers_fault(answer: bytes) -> None:
    async def lie(link: ByteStream) -> None:
        await link.read_exactly(32)
        await link.write(answer)

    async def expect_blame(link: ByteStream) -> None:
        with pytest.raises(RemoteError):
            await ask_manifest(link, MANIFEST.id)

    await between(lie, expect_blame)


async def test_a_silent_peer_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(link: ByteStream) -> None:
        await trio.sleep_forever()

    async def give_up(link: ByteStream) -> None:
        with pytest.raises(LinkClosed):
            await ask_adverts(link)
        with pytest.raises(LinkClosed):
            await ask_manifest(link, MANIFEST.id)

    await between(silent, give_up, deadline=2.5 * limits.ANSWER_TIMEOUT)


async def test_who_does_not_read_the_answer_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    large = Envelope(file_manifest("large", bytes(40_000_000)))
    here, there = memory_link_pair(PeerId("here"), PeerId("there"), window=1024)
    await here.write(large.manifest.id.digest)
    with trio.fail_after(2.5 * limits.ANSWER_TIMEOUT), pytest.raises(LinkClosed):
        await Catalogue(list, {large.manifest.id: large}.get).manifest(there)


async def test_the_first_to_end_wins_and_the_others_are_cancelled() -> None:
    cancelled = trio.Event()

    async def slow() -> str:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
        return "slow"

    async def quick() -> str:
        return "quick"

    assert await first_of(slow, quick) == "quick"
    assert cancelled.is_set()


async def test_nothing_to_wait_for_is_none() -> None:
    assert await first_of() is None
