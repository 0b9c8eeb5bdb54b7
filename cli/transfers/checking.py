"""Compares what web servers have with what would be shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    different: list[str] = []
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
                different += found
                if not found:
                    extent = "all of" if whole else "samples of"
                    live.result(None, f"origin {origin} has {extent} {printable(str(path))}")
    if different:
        raise IntegrityError(f"an origin does not give what is here: {'; '.join(advice(different))}")


def advice(differences: Sequence[str]) -> Iterator[str]:
    """What the publisher can do about each kind of difference that was found."""
    from swarm.protocol.http_range import NO_RANGES, NOT_GIVEN

    absent = sum(NOT_GIVEN in each for each in differences)
    whole = sum(each.endswith(NO_RANGES) for each in differences)
    if absent:
        yield "look whether the URL is right and the files are there"
    if whole:
        yield "use a server that knows ranges (--check=whole compares without them)"
    if absent + whole < len(differences):
        yield "put the new files there"
