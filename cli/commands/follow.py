"""``swarm follow``: keep a folder at the newest release of a series, and seed it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from swarm.node import Node


@click.command()
@click.argument("series", metavar="SERIES")
@click.argument("peers", type=options.PeerType(), metavar="[PEER]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=options.PathType(file_okay=False, path_type=Path),
    metavar="DIR",
    default=Path(),
    help="The folder in which the release is kept up to date (default: the current one).",
)
@click.option("--name", metavar="NAME", help="The final name (default: the name in the manifest).")
@click.option("--once", is_flag=True, help="End after one update.")
@options.listen
@options.announce
@options.reach
@click.option("--no-times", is_flag=True, help="Do not give files the modification times of the original.")
@click.option(
    "--base",
    "bases",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    multiple=True,
    help="Take pieces from this file or folder, too, where it has the same content (repeatable).",
)
@click.option("--max-peers", type=click.IntRange(min=1), metavar="N", help="Exchange with at most N peers.")
@options.upload_limit
@options.download_limit
@options.json
@options.peers_table
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    series: str,
    peers: tuple[str, ...],
    output: Path,
    name: str | None,
    once: bool,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    no_times: bool,
    bases: tuple[Path, ...],
    max_peers: int | None,
    upload_limit: int | None,
    download_limit: int | None,
    as_json: str | None,
    show_peers: bool,
    **reach: Any,
) -> None:
    """Fetch the newest release of SERIES (a swarm:series/… link) and update it with each that follows.

    What is installed is seeded meanwhile. Prints the path after each update.
    """
    from cli.transfers.keeping_up import KeepingUp, keep_up
    from swarm.config import DEFAULT_LISTEN, DEFAULT_MAX_PEERS, NodeOptions, TransferOptions
    from swarm.content.series_link import SeriesLink

    link = SeriesLink.pasted(series)
    live = runtime.show("follow", json=as_json, peers=show_peers)
    node_options = NodeOptions(
        listen=listen or DEFAULT_LISTEN,
        announce=announce,
        upload_limit=upload_limit,
        download_limit=download_limit,
        resumes=(f"{os.path.realpath(output)}\0series/{link.series.key}/{link.series.name}",),
        **options.reach_options(reach),
    )
    transfer_options = TransferOptions(
        peers=peers,
        seed=True,
        max_peers=max_peers or DEFAULT_MAX_PEERS,
        bases=bases,
        name=name,
        update=True,
        times=not no_times,
    )
    keeping_up = KeepingUp(link, output, transfer_options, once)

    async def main(node: Node) -> None:
        async with live.following(node):
            await keep_up(node, live, keeping_up)

    runtime.with_node(node_options, main)
