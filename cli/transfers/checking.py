"""Compares what web servers have with what would be shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import IntegrityError

if TYPE_CHECKING:
    from cli.render.live import Live
    from cli.transfers.sharing import Sharing
    from swarm.node import Node


async def check_all(node: Node, live: Live, sharing: Sharing, *, whole: bool) -> None:
    """Hash each path, and print a line for each file that an origin has otherwise; raises IntegrityError."""
    from cli.render.lines import Phase
    from swarm.content.paths import printable
    from swarm.observe.reports import DifferenceFound, PathVerified
    from swarm.sources.origin_check import check_origin

    different = 0
    for path, _ in sharing.places:
        live.phase = Phase.HASHING
        options = sharing.options
        async with await node.share(
            path, name=sharing.name, piece_length=sharing.piece_size, options=options
        ) as transfer:
            live.phase = Phase.VERIFYING
            for origin in options.origin_urls:
                found = await check_origin(origin, transfer.manifest, whole=whole, options=options)
                await live.settle()
                for difference in found:
                    line = f"origin {origin}: {difference}"
                    live.result(DifferenceFound(line), line)
                live.result(PathVerified(str(path), transfer.id, not found))
                if found:
                    different += 1
                else:
                    extent = "all of" if whole else "samples of"
                    live.result(None, f"origin {origin} has {extent} {printable(str(path))}")
    if different:
        raise IntegrityError("what an origin has is not what is here: put the new files there")
