"""What a peer hears when a shared file has gone, by the order of messages and the count of reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from swarm.bits import PieceSet
from swarm.ids import PeerId
from swarm.protocol.messages import (
    RESTATE_EXTENSION,
    Goodbye,
    HaveNone,
    Hello,
    Interested,
    Message,
    Reject,
    RejectReason,
    Request,
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.protocol.protocol_limits import MAX_WITHDRAWN_SINGLY
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.transfer.session import SessionOrigin
from tests.support.exchanges import Member
from tests.support.memory_link import memory_link_pair
from tests.support.raw_peer import RawPeer
from tests.support.storage import noise

ME, RAW = PeerId("M" * 40), PeerId("R" * 40)
PIECE = 16 * 1024
MANY, FEW = 2 * MAX_WITHDRAWN_SINGLY, 20
"""Pieces that are withdrawn in one message, and one by one."""
ASKED = 8
"""Pieces that are asked for in one go, before the first answer."""


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(noise(path.stat().st_size, 9))
    other.rename(path)


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1000)


def unmounted(path: Path) -> None:
    # To the share an unmounted disk is a folder that is empty.
    shutil.rmtree(path.parent)
    path.parent.mkdir()


class CountingStore(SeedStore):
    """Counts how often a piece is read."""

    reads = 0

    async def get(self, piece: int) -> memoryview:
        self.reads += 1
        return await super().get(piece)


@pytest.mark.parametrize("change", [deleted, moved, replaced, truncated, unmounted])
@pytest.mark.parametrize(("pieces", "restates"), [(MANY, True), (MANY, False), (FEW, True)])
async def test_the_first_request_withdraws_everything_before_any_request_is_rejected(
    tmp_path: Path, change: Callable[[Path], None], pieces: int, restates: bool
) -> None:
    path = tmp_path / "disk" / "image.bin"
    path.parent.mkdir()
    path.write_bytes(noise(pieces * PIECE))
    scanned = await scan(path, piece_length=PIECE)
    with CountingStore(scanned.manifest, path, scanned.checks) as store:
        member = Member(ME, store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.exchange.run)
            nursery.start_soon(store.watch, member.exchange.stored_changed)
            ours, theirs = memory_link_pair(ME, RAW)
            nursery.start_soon(member.exchange.add_stream, ours, SessionOrigin(inbound=True))
            peer = RawPeer(theirs, scanned.manifest)
            extensions = ((RESTATE_EXTENSION, 1),) if restates else ()
            await peer.say(
                Hello(scanned.manifest.id, pieces, "raw", (), extensions), HaveNone(), Interested()
            )
            await peer.hear_until(Unchoke)
            change(path)
            await peer.say(*(Request(piece) for piece in range(ASKED)))
            heard: list[Message] = []
            while not heard or not isinstance(heard[-1], Goodbye):
                heard.append((await peer.hear()).message)
                if sum(isinstance(message, Reject) for message in heard) == ASKED:
                    break
            nursery.cancel_scope.cancel()
    assert store.reads == 1
    assert not store.stored
    rejected: list[Message] = [Reject(piece, RejectReason.NOT_STORED) for piece in range(ASKED)]
    if pieces == FEW:
        assert heard == [*map(Withdraw, range(FEW)), *rejected]
    elif restates:
        assert heard == [Restate(PieceSet(pieces).to_bytes()), *rejected]
    else:
        # A peer that does not know the message hears it in a new session.
        assert isinstance(heard[-1], Goodbye)
        assert not any(isinstance(message, Withdraw) for message in heard)
