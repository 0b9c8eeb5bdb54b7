"""What a session's reader makes of a peer's bytes: the same, however the link cuts them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

import trio

from swarm.errors import LinkClosed, RemoteError
from swarm.protocol import codec
from swarm.protocol.messages import (
    Choke,
    Goodbye,
    Have,
    HaveNone,
    Hello,
    Interested,
    KeepAlive,
    Message,
    Reject,
    RejectReason,
    Request,
    Unchoke,
)
from swarm.protocol.session_rules import SessionRules
from swarm.storage.memory_store import MemoryStore
from swarm.transfer.buffers import ArrivedPieces, TransferMemory
from swarm.transfer.pacing import CHUNK_BYTES, Pacer
from swarm.transfer.session_io import SessionResources
from swarm.transfer.session_reader import SessionReader
from tests.support.contents import folder_manifest

_NOISE = random.Random(3)
FILES = {
    **{f"small {number}": _NOISE.randbytes(20 + number) for number in range(10)},
    "large": _NOISE.randbytes(40_000),
}
MANIFEST = folder_manifest("x", FILES)
DATA = b"".join(FILES["/".join(entry.path)] for entry in MANIFEST.files)
HELLO = Hello(MANIFEST.id, MANIFEST.piece_count)
CANCELLED = 2
"""A piece that was asked for and cancelled."""


def content(piece: int) -> bytes:
    """The bytes of a piece."""
    start = sum(MANIFEST.layout.length(before) for before in range(piece))
    return DATA[start : start + MANIFEST.layout.length(piece)]


def frame(piece: int, offset: int = 0, size: int | None = None) -> bytes:
    """One DATA of a piece."""
    payload = content(piece)[offset : None if size is None else offset + size]
    return codec.encode_data_head(piece, offset, len(payload)) + payload


class _Parts:
    """A `ByteStream` that hands out bytes as they were cut."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = [part for part in parts if part]

    async def read_some(self, limit: int) -> bytes:
        if not self._parts:
            return b""
        first = self._parts.pop(0)
        if len(first) > limit:
            self._parts.insert(0, first[limit:])
        return first[:limit]

    def read_now(self, buffer: memoryview) -> int:
        if not self._parts:
            return 0
        part, rest = self._parts[0][: len(buffer)], self._parts[0][len(buffer) :]
        self._parts[:1] = [rest] if rest else []
        buffer[: len(part)] = part
        return len(part)

    def hold_credit(self) -> None:
        pass

    def give_credit(self) -> None:
        pass

    async def readinto_exactly(self, buffer: memoryview) -> None:
        await self.readinto_least(buffer, len(buffer))

    async def readinto_least(self, buffer: memoryview, least: int) -> int:
        filled = 0
        while filled < least:
            part = await self.read_some(len(buffer) - filled)
            if not part:
                raise LinkClosed("the stream ended")
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        return filled


class _Heard:
    """What the reader reports, one thing after the other."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.bytes: dict[int, int] = {}
        self.batches = 0
        self._late: list[ArrivedPieces] = []

    def message_received(self, message: Message) -> None:
        self.said.append(message)

    def requests_received(self, pieces: list[int]) -> None:
        self.said.extend(map(Request, pieces))

    def data_received(self, piece: int, size: int) -> None:
        self.bytes[piece] = self.bytes.get(piece, 0) + size

    def pieces_received(self, arrived: ArrivedPieces) -> None:
        self.batches += 1
        for piece, fresh, data in arrived.pieces:
            self.data_received(piece, fresh)
            self.said.append((piece, None if data is None else bytes(data)))
        # Every other batch is stored later, as by a slow disk: until then it must stay as it is.
        if self.batches % 2:
            self.store()
            arrived.release()
        else:
            self._late.append(arrived)

    def store(self) -> None:
        """Store what waits."""
        for arrived in self._late:
            for piece, _, data in arrived.pieces:
                if data is not None and (piece, bytes(data)) not in self.said:
                    raise AssertionError(f"piece {piece} was changed before it was stored")
            arrived.release()
        self._late.clear()


class Outcome:
    """What was heard, how it ended, and how many times pieces were handed over."""

    def __init__(self, heard: _Heard, ended: str, used: int) -> None:
        self.said = heard.said
        self.bytes = heard.bytes
        self.batches = heard.batches
        self.ended = ended
        self.used = used

    def ordered(self) -> tuple[list[object], list[object]]:
        """What has an order: requests and pieces that came together have one only among themselves."""
        asked = [told for told in self.said if not isinstance(told, tuple)]
        return asked, [told for told in self.said if not isinstance(told, Request)]


async def _read(parts: Iterable[bytes], fast: bool) -> Outcome:
    memory, heard, ended = TransferMemory(), _Heard(), "left"
    rules = SessionRules(MANIFEST.id, MANIFEST.layout, 0.0)
    for message in (HELLO, HaveNone(), *map(Request, range(MANIFEST.piece_count))):
        rules.sent(message)
    for message in (HELLO, HaveNone()):
        rules.received(message, 0.0)
    rules.sent(codec_cancel())
    pacer = Pacer(now=lambda: 0.0)
    resources = SessionResources(
        MemoryStore(MANIFEST), memory, memory.pool.share(), pacer, pacer, lambda: 0.0
    )
    reader = SessionReader(_Parts(parts), rules, resources, heard)  # type: ignore[arg-type]
    if fast:
        # As after many whole pieces of a fast peer.
        reader._sizer.size = CHUNK_BYTES
        reader._whole_pieces = True
    try:
        await reader.run()
    except RemoteError as error:
        ended = f"fault: {error}"
    except LinkClosed:
        ended = "closed"
    reader.release()
    heard.store()
    return Outcome(heard, ended, memory.pool.used)


def codec_cancel() -> Message:
    """The CANCEL of the piece that is no longer wanted."""
    return codec.decode_body(codec.CANCEL, CANCELLED.to_bytes(4, "big"))


def read(parts: Iterable[bytes], *, fast: bool = False) -> Outcome:
    """Read a peer's bytes after both greetings, all pieces being asked for, in these parts.

    ``fast``: the peer counts as one, so all is read into an arena.
    """
    return trio.run(_read, parts, fast)


def check(data: bytes, parts: Iterable[bytes]) -> Outcome:
    """Compare what is heard in one part and in ``parts``, of a fast peer too; raises AssertionError."""
    parts = list(parts)
    whole = read([data])
    for other in (read(parts), read([data], fast=True), read(parts, fast=True)):
        _compare(whole, other)
    return whole


def _compare(whole: Outcome, cut: Outcome) -> None:
    for one in (whole, cut):
        if one.used:
            raise AssertionError(f"{one.used} bytes of memory are held at the end")
        for told in one.said:
            if isinstance(told, tuple) and one.bytes[told[0]] != MANIFEST.layout.length(told[0]):
                raise AssertionError(f"piece {told[0]} is whole, but {one.bytes} were told of")
            if isinstance(told, tuple) and (told[1] is None) != (told[0] == CANCELLED):
                raise AssertionError("only what is cancelled is thrown away")
    if whole.ended != cut.ended or whole.ordered() != cut.ordered():
        raise AssertionError(
            f"in one part: {whole.said!r:.300} {whole.ended}; cut: {cut.said!r:.300} {cut.ended}"
        )


def run_session(data: bytes) -> None:
    """Oracle: as in `check`, one byte at a time at first and then in growing parts."""
    cuts = [0, *(at * (at + 1) // 2 for at in range(1, 100)), len(data)]
    check(data, [data[start:end] for start, end in pairwise(cuts)])


def session_seeds() -> Iterator[bytes]:
    """Conversations of an honest peer, and some ends of it."""
    small = b"".join(frame(piece) for piece in range(MANIFEST.piece_count) if len(content(piece)) < 100)
    asked = b"".join(codec.encode(Request(piece)) for piece in range(3))
    yield small
    yield codec.encode(Unchoke()) + small + codec.encode(Choke())
    yield asked + codec.encode(Interested()) + asked
    yield codec.encode(Have((1, 2, 5))) + frame(2) + codec.encode(Reject(3, RejectReason.BUSY)) + frame(4)
    large = next(piece for piece in range(MANIFEST.piece_count) if len(content(piece)) > 10_000)
    yield frame(large, 0, 1000) + codec.encode(KeepAlive()) + frame(large, 1000, 1000)
    yield frame(large, 0, 100) + codec.encode(Reject(large, RejectReason.READ_FAILED)) + frame(1)
    yield frame(0) + codec.encode(Goodbye("enough")) + frame(1)
    yield frame(0) + frame(0)
