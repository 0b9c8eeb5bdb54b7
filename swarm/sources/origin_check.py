"""Compares what a web server has with a manifest, by the same requests that a fetch makes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence

import trio

from swarm.bits import PieceSet
from swarm.config import TransferOptions
from swarm.content.layout import Layout
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import NoPeerReachable
from swarm.origin_url import OriginUrl
from swarm.ports import OriginDesk
from swarm.sources.origin_source import OriginSettings, OriginSource
from swarm.storage.hashing import piece_matches

SAMPLED = 4
"""Pieces of each file that are compared: the first, the last and some in between."""
MAX_FAULTS = 5
"""Faults in a row after which the server is given up."""
SLICE_BYTES = 256 * 1024
CONNECTIONS = 2


async def check_origin(
    url: str | OriginUrl,
    manifest: Manifest,
    *,
    whole: bool = False,
    options: TransferOptions | None = None,
) -> tuple[str, ...]:
    """Return a line for each file of ``manifest`` that the web server at ``url`` does not have as it should.

    Some pieces of each file are compared, or with ``whole`` all of them. ``options`` say how servers are
    trusted. Raises UsageError for a malformed URL, NoPeerReachable when the server cannot be asked.
    """
    options = options or TransferOptions()
    origin = url if isinstance(url, OriginUrl) else OriginUrl(url)
    settings = OriginSettings(
        trio.CapacityLimiter(CONNECTIONS), options.origin_ca, options.origin_public_only
    )
    source = OriginSource(origin, settings)
    desk = _CheckDesk(manifest, source, range(manifest.piece_count) if whole else sampled(manifest.layout))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.end_with, nursery.cancel_scope)
        await source.deliver(desk)
        nursery.cancel_scope.cancel()
    if desk.unreachable:
        raise NoPeerReachable(f"{source.id}: {desk.unreachable}")
    return tuple(desk.differences)


def sampled(layout: Layout, rng: random.Random | None = None) -> list[int]:
    """Some pieces of each file, ascending."""
    rng = rng or random.Random()
    chosen: list[int] = []
    first = 0
    while first < layout.piece_count:
        own = layout.pieces_of(layout.span(first).file)
        some = {own.start, own.stop - 1}
        if len(own) > SAMPLED:
            some.update(rng.sample(own[1:-1], SAMPLED - 2))
        chosen += sorted(some if len(own) > SAMPLED else own)
        first = own.stop
    return chosen


class _CheckDesk(OriginDesk):
    """Asks for chosen pieces and compares them with their hashes."""

    def __init__(self, manifest: Manifest, source: OriginSource, pieces: Collection[int]) -> None:
        self._manifest = manifest
        self._source = source
        self._queue = deque(pieces)
        self._open: dict[int, memoryview] = {}
        self._taken: set[int] = set()
        self._ended = trio.Event()
        self._usable = PieceSet.all(manifest.piece_count)
        self._paused = trio.Event()
        self._paused.set()
        self._more = trio.Event()
        self._faults = 0
        self.unreachable = ""
        self.differences: list[str] = []
        if not pieces:
            self._ended.set()

    async def end_with(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when everything is compared."""
        await self._ended.wait()
        scope.cancel()

    @property
    def manifest(self) -> Manifest:
        """What the server should have."""
        return self._manifest

    def offer(self, pieces: PieceSet) -> None:
        """What is left out is not asked for any more."""
        self._usable = pieces.copy()
        self._queue = deque(piece for piece in self._queue if piece in self._usable)
        self._look()

    async def next_request(self) -> int:
        """The next piece to compare."""
        return (await self.next_run(1)).start

    async def next_run(self, most: int) -> range:
        """The next pieces to compare."""
        while True:
            await self._paused.wait()
            if self._queue:
                break
            self._more = trio.Event()
            await self._more.wait()
        layout = self._manifest.layout
        first = self._queue.popleft()
        stop, end = first + 1, layout.pieces_of(layout.span(first).file).stop
        while stop < end and self._queue and self._queue[0] == stop:
            if (stop + 1 - first) * layout.piece_length > most:
                break
            stop = self._queue.popleft() + 1
        self._taken.update(range(first, stop))
        return range(first, stop)

    def wants(self, piece: int) -> bool:
        """Whether the piece is to be compared."""
        return piece in self._taken

    async def begin(self, piece: int) -> memoryview | None:
        """Memory for the piece."""
        await trio.lowlevel.checkpoint()
        return self.begin_now(piece)

    def begin_now(self, piece: int) -> memoryview | None:
        """Memory for the piece."""
        if piece not in self._taken:
            return None
        memory = self._open[piece] = memoryview(bytearray(self._manifest.layout.length(piece)))
        return memory

    @property
    def slice_bytes(self) -> int:
        """Received at once."""
        return SLICE_BYTES

    async def received(self, piece: int, size: int) -> None:  # noqa: ARG002 - see the port
        """Nothing to count."""
        await trio.lowlevel.checkpoint()

    async def supply(self, piece: int, data: memoryview) -> None:
        """As `deliver`."""
        await trio.lowlevel.checkpoint()
        self._open[piece] = data
        self.deliver((piece,))

    def deliver(self, pieces: Sequence[int]) -> None:
        """Compare the pieces."""
        for piece in pieces:
            self._compare(piece)
        self._look()

    def _compare(self, piece: int) -> None:
        data = self._open.pop(piece)
        self._taken.discard(piece)
        self._faults = 0
        if not piece_matches(data, self._manifest.piece_hash(piece)):
            file = self._manifest.layout.span(piece).file
            # Another piece of it may have been on its way.
            if not self._source.is_dropped(file):
                self.differences.append(f"{_shown(self._manifest, file)}: piece {piece} differs")
                self._source.piece_refused(piece)

    def abandon(self, piece: int) -> None:
        """Ask for the piece again, unless its file is out of the question."""
        self._open.pop(piece, None)
        if piece in self._taken:
            self._taken.discard(piece)
            if piece in self._usable:
                self._queue.append(piece)
                self._more.set()
        self._look()

    def refuse(self, piece: int) -> None:
        """As `abandon`."""
        self.abandon(piece)

    def pause(self) -> None:
        """Hand out nothing until `unpause`; what was taken is answered by who took it."""
        self._paused = trio.Event()

    def unpause(self) -> None:
        """Hand out pieces again."""
        self._paused.set()
        self._more.set()

    def trouble(self, reason: str, retry_in: float | None) -> None:
        """A file is not as it should be, or the server fails."""
        if retry_in is None:
            self.differences.append(reason)
            return
        self._faults += 1
        if self._faults >= MAX_FAULTS:
            self.unreachable = reason
            self._ended.set()

    def _look(self) -> None:
        if not (self._queue or self._taken):
            self._ended.set()


def _shown(manifest: Manifest, file: int) -> str:
    return printable("/".join(manifest.path(file)))
