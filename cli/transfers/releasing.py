"""Publishes one release on a node, tells its links, and seeds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.transfers.leaving import Leaving, counting
from cli.transfers.sharing import warn_if_nobody_can_reach
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.node import Node
    from swarm.node.publishing import PublishedRelease


@dataclass(frozen=True, slots=True)
class Releasing:
    """What to release, and how: all that `release` needs."""

    name: str
    path: Path
    previous: tuple[Path, ...]
    keep: int
    options: TransferOptions
    leaving: Leaving


async def release(node: Node, live: Live, releasing: Releasing) -> None:
    """Publish, tell, and seed until interrupted or until it is enough; raises what prevents that."""
    from cli.render.lines import Phase

    live.phase = Phase.HASHING
    async with counting(node, releasing.leaving) as seeding:
        published = await node.release(
            releasing.name,
            releasing.path,
            previous=releasing.previous,
            keep=releasing.keep,
            options=releasing.options,
        )
        await _tell(node, live, published)
        enough = ", or until that is enough" if releasing.leaving else ""
        live.say(f"seeding until Ctrl-C{enough}: end this before you release the next version")
        live.phase = Phase.SEEDING
        await seeding.until_closed(live, [published.transfer])


async def _tell(node: Node, live: Live, published: PublishedRelease) -> None:
    from swarm.content.paths import printable
    from swarm.content.series_link import SeriesLink
    from swarm.observe.reports import ReleasePublished
    from swarm.sizes import format_size

    record, content = published.record, published.transfer
    patch_sizes = tuple(each.size for each in record.patches)
    report = ReleasePublished(
        series=published.link,
        link=content.link,
        name=record.series.name,
        sequence=record.sequence,
        manifest=record.manifest,
        size=record.size,
        patches=len(patch_sizes),
        patch_size=sum(patch_sizes),
        new=published.new,
    )
    await live.settle()
    warn_if_nobody_can_reach(live, node.addresses)
    live.result(report, published.link, content.link)
    live.result(None, *(f"libp2p node address: {address}" for address in node.addresses))
    again = "" if published.new else ", which was published before"
    patches = ""
    if patch_sizes:
        sizes = ", ".join(map(format_size, patch_sizes))
        patches = f"; {'patch' if len(patch_sizes) == 1 else 'patches'} of {sizes}"
    live.say(f"release {record.sequence} of {record.series.name}{again}: {format_size(record.size)}{patches}")
    live.say(f"release record: {printable(str(published.record_path))}")
    if record.patches:
        live.say(f"patches, for a web server: {printable(str(published.patch_folder))}")
    live.say(f"others fetch and update it with: swarm fetch --update '{published.link}'")
    live.say(f"or, where quotes get lost: swarm fetch --update {SeriesLink.parse(published.link).bare()}")
