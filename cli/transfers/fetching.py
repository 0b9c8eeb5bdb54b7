"""Fetches any number of contents on one node, a few at a time, with one result line for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.failures import explain, summed_up
from swarm.errors import SwarmError

if TYPE_CHECKING:
    import trio

    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.node import Node
    from swarm.transfer.transfer import Transfer

AT_ONCE = 5
"""Contents that are fetched at the same time; the others wait for their turn."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """What to fetch, into which folder, and how: all that `fetch_all` needs."""

    contents: tuple[str, ...]
    output: Path
    options: TransferOptions


async def fetch_all(node: Node, live: Live, fetching: Fetching) -> None:
    """Fetch every content, and seed those that are complete for as long as the options say.

    One that fails is told and does not stop the others; raises what tells most at the end.
    """
    from cli.render.lines import Phase

    live.phase = Phase.FETCHING
    if len(fetching.contents) == 1:
        async with node.fetch(
            fetching.contents[0], into=fetching.output, options=fetching.options
        ) as transfer:
            await _complete(live, transfer)
            if fetching.options.seed:
                live.phase = Phase.SEEDING
                await transfer.closed()
        return
    await _Fetches(node, live, fetching).run()


class _Fetches:
    """Several fetches of one command."""

    def __init__(self, node: Node, live: Live, fetching: Fetching) -> None:
        self._node = node
        self._live = live
        self._fetching = fetching
        self._failures: list[BaseException] = []

    async def run(self) -> None:
        import trio

        from cli.render.lines import Phase

        turns = trio.Semaphore(AT_ONCE)
        seeded: list[Transfer] = []
        async with trio.open_nursery() as nursery:
            for content in self._fetching.contents:
                nursery.start_soon(self._one, content, turns, seeded)
        if self._fetching.options.seed and seeded:
            self._live.phase = Phase.SEEDING
            for transfer in seeded:
                await transfer.closed()
        if self._failures:
            raise summed_up(self._failures, len(self._fetching.contents), "fetched")

    async def _one(self, content: str, turns: trio.Semaphore, seeded: list[Transfer]) -> None:
        from swarm.observe.reports import PathFailed

        options = self._fetching.options
        async with turns:
            try:
                async with self._node.fetch(content, into=self._fetching.output, options=options) as transfer:
                    await _complete(self._live, transfer)
                    if options.seed:
                        seeded.append(transfer)
            except (SwarmError, OSError, ExceptionGroup) as error:
                self._failures.append(error)
                failure = explain(error)
                await self._live.settle()
                self._live.event(PathFailed(content, failure.message, failure.exit_code))


async def _complete(live: Live, transfer: Transfer) -> None:
    """Wait until a fetch is in place and tell its path."""
    from cli.render.lines import summary
    from swarm.content.paths import printable
    from swarm.observe.reports import PathFetched

    path = str(await transfer.complete())
    await live.settle()
    snapshot = live.snapshot(transfer.number)
    live.say(summary(snapshot))
    live.result(PathFetched(transfer.id, path, transfer.size, snapshot.elapsed), printable(path))
