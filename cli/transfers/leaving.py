"""When a seeder has done enough: so many copies, so much sent, so long."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from cli.durations import format_time
from cli.quantities import counted
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    import trio

    from cli.render.live import Live
    from swarm.events import Event
    from swarm.ids import TransferId
    from swarm.node import Node
    from swarm.transfer.transfer import Transfer


@dataclass(frozen=True, slots=True)
class Leaving:
    """When to stop seeding, whatever comes first; None never.

    ``copies`` are peers that got the last piece while this node seeded, ``ratio`` is bytes sent for each byte
    of content; both hold for every transfer by itself. ``seconds`` count from the beginning of seeding.
    """

    copies: int | None = None
    ratio: float | None = None
    seconds: float | None = None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.copies, self.ratio, self.seconds))


class Seeding:
    """Counts what a node's transfers have given, and ends them when that is enough."""

    def __init__(self, leaving: Leaving) -> None:
        self._leaving = leaving
        self._sent: Counter[TransferId] = Counter()
        self._copies: Counter[TransferId] = Counter()
        self._change: trio.Event | None = None

    def count(self, event: Event) -> None:
        """Take one event of the node into account."""
        from swarm.events import BytesSent, PeerComplete

        if isinstance(event, BytesSent):
            self._sent[event.transfer] += event.size
        elif isinstance(event, PeerComplete) and event.fetched:
            self._copies[event.transfer] += 1
        else:
            return
        if self._change is not None:
            self._change.set()

    async def until_closed(self, live: Live, transfers: Sequence[Transfer]) -> None:
        """Seed until all ``transfers`` have ended, or until it is enough; raises what one failed with."""
        import trio

        if not self._leaving:
            for transfer in transfers:
                await transfer.closed()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leave, live, transfers)
            for transfer in transfers:
                await transfer.closed()
            nursery.cancel_scope.cancel()

    async def _leave(self, live: Live, transfers: Sequence[Transfer]) -> None:
        import trio

        from swarm.observe.reports import SeedingEnded

        reason = f"{format_time(self._leaving.seconds)} are over" if self._leaving.seconds else ""
        with trio.move_on_after(self._leaving.seconds or float("inf")):
            reason = await self._enough(transfers)
        await live.settle()
        live.event(SeedingEnded(reason))
        for transfer in transfers:
            await transfer.stop()

    async def _enough(self, transfers: Sequence[Transfer]) -> str:
        import trio

        while True:
            self._change = trio.Event()
            for reached, reason in (
                (self._all_copied(transfers), self._copied()),
                (
                    self._all_sent(transfers),
                    f"{self._leaving.ratio:g} times its size was sent"
                    if self._leaving.ratio is not None
                    else "",
                ),
            ):
                if reached:
                    return reason
            await self._change.wait()

    def _copied(self) -> str:
        copies = self._leaving.copies or 0
        return f"{counted(copies, 'peer')} {'has' if copies == 1 else 'have'} all of it"

    def _all_copied(self, transfers: Sequence[Transfer]) -> bool:
        copies = self._leaving.copies
        return copies is not None and all(self._copies[each.number] >= copies for each in transfers)

    def _all_sent(self, transfers: Sequence[Transfer]) -> bool:
        ratio = self._leaving.ratio
        return ratio is not None and all(self._sent[each.number] >= ratio * each.size for each in transfers)


@asynccontextmanager
async def counting(node: Node, leaving: Leaving) -> AsyncIterator[Seeding]:
    """Count what ``node`` gives from now on, as far as ``leaving`` asks for that."""
    import trio

    seeding = Seeding(leaving)
    if not leaving:
        yield seeding
        return

    async def count() -> None:
        with node.event_stream.subscribe() as events:
            async for event in events:
                seeding.count(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        yield seeding
        nursery.cancel_scope.cancel()
