"""``swarm peers``: who is near."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import options
from cli.durations import DurationType
from cli.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.render.live import Live
    from swarm.node import Node
    from swarm.node.surroundings import PeerNear

HEADINGS = ("PEER", "ROUND TRIP", "SOURCE", "ADDRESS")
DEFAULT_SECONDS = 2.0


@click.command()
@click.option(
    "--for",
    "seconds",
    type=DurationType(),
    metavar="TIME",
    default="2s",
    show_default=True,
    help="Look for peers so long.",
)
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, seconds: float, as_json: str | None) -> None:
    """List the peers in the networks of this machine: their ids, addresses and round trips.

    Nodes that share or fetch have the source lan, other programs on libp2p the source libp2p. Ends with exit
    code 4 if there is nobody.
    """
    from swarm.config import NodeOptions

    live = runtime.show("peers", json=as_json)

    async def main(node: Node) -> None:
        async with live.following(node):
            await _peers(node, live, seconds)

    runtime.with_node(NodeOptions(lan=True), main)


async def _peers(node: Node, live: Live, seconds: float) -> None:
    from contextlib import aclosing

    from swarm.errors import NoPeerReachable
    from swarm.observe.reports import PeerSeen

    found: list[PeerNear] = []
    async with aclosing(node.near(seconds)) as peers:
        async for near in peers:
            found.append(near)
            live.result(PeerSeen(near.peer, near.addresses, near.source, near.seconds))
    if not found:
        raise NoPeerReachable("nobody was found near: only nodes that share or fetch at this moment are seen")
    live.result(None, *table(found))


def table(found: Sequence[PeerNear]) -> list[str]:
    """Return aligned lines with headings, the nearest first; each further address has a line of its own."""
    from math import inf

    from cli.quantities import format_duration
    from swarm.content.paths import printable

    rows: list[tuple[str, ...]] = [HEADINGS]
    for near in sorted(found, key=lambda each: inf if each.seconds is None else each.seconds):
        trip = "no answer" if near.seconds is None else format_duration(near.seconds)
        first, *others = map(printable, near.addresses)
        rows.append((printable(near.peer), trip, near.source, first))
        rows.extend(("", "", "", address) for address in others)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
