"""``swarm list``: what peers have to offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.render.live import Live
    from swarm.node import Node
    from swarm.protocol.advert import Advert

UNTOLD = "(where strangers can find it, a share tells this only with --listed)"
HEADINGS = ("ID", "NAME", "SIZE", "PIECES", "HAVE")


@click.command()
@options.peers
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, peers: tuple[str, ...], as_json: str | None) -> None:
    """List the manifests that each PEER advertises and how much of them it has."""
    from swarm.config import NodeOptions

    live = runtime.show("list", json=as_json)

    async def main(node: Node) -> None:
        async with live.following(node):
            await _list(node, live, peers)

    runtime.with_node(NodeOptions(), main)


async def _list(node: Node, live: Live, peers: tuple[str, ...]) -> None:
    from cli.quantities import counted
    from swarm.errors import NoPeerReachable
    from swarm.observe.reports import ManifestListed, PeerListed

    failures: list[NoPeerReachable] = []
    for address in peers:
        try:
            adverts = await node.list(address)
        except NoPeerReachable as error:
            failures.append(error)
            if len(peers) > 1:
                live.warn(str(error))
            continue
        heading = f"{address} has {counted(len(adverts), 'manifest')}"
        live.result(PeerListed(address, len(adverts)), heading, *(table(adverts) if adverts else (UNTOLD,)))
        for advert in adverts:
            listed = advert.manifest, advert.name, advert.size, advert.pieces, advert.have
            live.result(ManifestListed(address, *listed))
    if len(failures) == len(peers):
        raise failures[0] if len(peers) == 1 else NoPeerReachable("none of the peers could be reached")


def table(adverts: Sequence[Advert]) -> list[str]:
    """Return aligned lines with headings; names are the peer's words and escaped."""
    from swarm.content.paths import printable
    from swarm.sizes import format_size

    rows = [HEADINGS]
    for advert in adverts:
        have = 100.0 if not advert.pieces else 100 * advert.have / advert.pieces
        name, size = printable(advert.name), format_size(advert.size)
        rows.append((str(advert.manifest), name, size, str(advert.pieces), f"{have:.1f}%"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
