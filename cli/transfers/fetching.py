"""Fetches any number of contents on one node, a few at a time, with one result line for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.failures import explain, summed_up
from cli.transfers.leaving import Leaving, Seeding, counting
from cli.transfers.naming import shown
from cli.transfers.sharing import SUFFIX, tell_command
from swarm.errors import SwarmError, UsageError
from swarm.lazy_dataclass import dataclass

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
    leaving: Leaving
    save_manifest: Path | None = None
    """Where the manifest goes; an empty path is `<name>.swarm` in the current folder, None is nowhere."""

    async def check(self) -> None:
        """Raise UsageError, before any work, if the manifest cannot go where it should."""
        from swarm.storage.manifest_files import refuse_to_overwrite

        if self.save_manifest is not None and self.save_manifest != Path():
            if len(self.contents) > 1:
                raise UsageError("--save-manifest=FILE is for one MANIFEST: leave FILE out, or fetch one")
            await refuse_to_overwrite(self.save_manifest)

    async def save(self, live: Live, content: str, transfer: Transfer) -> None:
        """Write the manifest as soon as it is known, with the places that were named for it."""
        from swarm.content.hints import Hints
        from swarm.content.link import SwarmLink, is_link
        from swarm.content.paths import printable
        from swarm.content.series_link import SeriesLink, is_series_link
        from swarm.storage.manifest_files import write_envelope

        if self.save_manifest is None:
            return
        await transfer.opened()
        path = self.save_manifest
        if path == Path():
            path = Path(f"{transfer.manifest.name}{SUFFIX}")
        kind = SeriesLink if is_series_link(content) else SwarmLink
        found = kind.pasted(content) if is_link(content) else Hints.read(transfer.envelope.peers)
        peers = tuple(dict.fromkeys((*self.options.peers, *found.peers)))
        await write_envelope(path, transfer.envelope, Hints(peers, found.meets, found.origins).texts())
        live.say(f"manifest: {printable(str(path))}")


async def fetch_all(node: Node, live: Live, fetching: Fetching) -> None:
    """Fetch every content, and seed those that are complete for as long as the options say.

    One that fails is told and does not stop the others; raises what tells most at the end.
    """
    from cli.render.lines import Phase

    await fetching.check()
    live.phase = Phase.FETCHING
    async with counting(node, fetching.leaving) as seeding:
        fetches = _Fetches(node, live, fetching)
        if len(fetching.contents) > 1:
            await fetches.run(seeding)
        else:
            await fetches.only(fetching.contents[0], seeding)


class _Fetches:
    """The fetches of one command."""

    def __init__(self, node: Node, live: Live, fetching: Fetching) -> None:
        self._node = node
        self._live = live
        self._fetching = fetching
        self._failures: list[BaseException] = []

    async def only(self, content: str, seeding: Seeding) -> None:
        """Fetch, and raise what it fails with."""
        from cli.render.lines import Phase

        options = self._fetching.options
        async with self._node.fetch(content, into=self._fetching.output, options=options) as transfer:
            await self._fetching.save(self._live, content, transfer)
            await self._complete(transfer)
            if options.seed:
                self._live.phase = Phase.SEEDING
                await seeding.until_closed(self._live, [transfer])
            else:
                await self._node.passed_on(transfer)

    async def run(self, seeding: Seeding) -> None:
        """Fetch all of them; raises one error for those that failed."""
        import trio

        from cli.render.lines import Phase

        turns = trio.Semaphore(AT_ONCE)
        seeded: list[Transfer] = []
        async with trio.open_nursery() as nursery:
            for content in self._fetching.contents:
                nursery.start_soon(self._one, content, turns, seeded)
        if self._fetching.options.seed and seeded:
            self._live.phase = Phase.SEEDING
            await seeding.until_closed(self._live, seeded)
        if self._failures:
            raise summed_up(self._failures, len(self._fetching.contents), "fetched")

    async def _one(self, content: str, turns: trio.Semaphore, seeded: list[Transfer]) -> None:
        from swarm.observe.reports import PathFailed

        options = self._fetching.options
        async with turns:
            try:
                async with self._node.fetch(content, into=self._fetching.output, options=options) as transfer:
                    await self._fetching.save(self._live, content, transfer)
                    await self._complete(transfer)
                    if options.seed:
                        seeded.append(transfer)
                    else:
                        await self._node.passed_on(transfer)
            except (SwarmError, OSError, ExceptionGroup) as error:
                self._failures.append(error)
                failure = explain(error)
                await self._live.settle()
                self._live.event(PathFailed(shown(content), failure.message, failure.exit_code))

    async def _complete(self, transfer: Transfer) -> None:
        """Wait until a fetch is in place; tell its path, and how others get it from here if it is seeded."""
        from cli.render.lines import summary
        from swarm.content.paths import printable
        from swarm.observe.reports import FetchedSeeded, PathFetched

        live = self._live
        path = str(await transfer.complete())
        await live.settle()
        snapshot = live.snapshot(transfer.number)
        live.say(summary(snapshot))
        live.result(PathFetched(transfer.id, path, transfer.size, snapshot.elapsed), printable(path))
        if self._fetching.options.seed and not self._fetching.options.only:
            await self._node.port_decided()
            live.result(FetchedSeeded(transfer.id, transfer.link), transfer.link)
            live.result(None, *(f"libp2p node address: {address}" for address in self._node.addresses))
            tell_command(live, transfer.link)
