"""``swarm fetch``: download from several peers while uploading to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.ids import PeerId
    from swarm.node import Node


@click.command()
@click.argument("manifest", metavar="MANIFEST")
@click.argument("peers", type=options.PeerType(), metavar="[PEER]...", nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    required=True,
    help="The folder in which the file or folder appears when all of it is verified.",
)
@options.listen
@options.announce
@click.option(
    "--base",
    "bases",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    multiple=True,
    help="Take pieces from this file or folder where it has the same content (repeatable).",
)
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Fetch only the files that match, e.g. '*.jpg' or docs/ (repeatable).",
)
@options.trust
@click.option("--sequential", is_flag=True, help="Fetch the pieces in order, to watch or read meanwhile.")
@click.option("--prefer-near", is_flag=True, help="Ask far peers only for what no near peer has.")
@click.option("--seed", is_flag=True, help="Go on seeding when complete.")
@click.option("--max-peers", type=click.IntRange(min=1), metavar="N", help="Exchange with at most N peers.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after so long without a peer or a verified piece (default: 120).",
)
@options.upload_limit
@options.download_limit
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    *,
    manifest: str,
    peers: tuple[str, ...],
    output: Path,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    bases: tuple[Path, ...],
    only: tuple[str, ...],
    trust: tuple[PeerId, ...],
    sequential: bool,
    prefer_near: bool,
    seed: bool,
    max_peers: int | None,
    patience: float | None,
    upload_limit: int | None,
    download_limit: int | None,
    as_json: bool,
) -> None:
    """Fetch MANIFEST (a .swarm file, an id or a swarm: link) from PEERs into a folder.

    Prints the path of what was fetched. An interrupted fetch is resumed by the same command.
    """
    from swarm.config import DEFAULT_LISTEN, DEFAULT_MAX_PEERS, DEFAULT_PATIENCE, NodeOptions, TransferOptions

    live = runtime.show("fetch", json=as_json)
    node_options = NodeOptions(
        listen=listen or DEFAULT_LISTEN,
        announce=announce,
        upload_limit=upload_limit,
        download_limit=download_limit,
    )
    transfer_options = TransferOptions(
        peers=peers,
        only=only,
        trusted=trust,
        seed=seed,
        max_peers=max_peers or DEFAULT_MAX_PEERS,
        patience=patience or DEFAULT_PATIENCE,
        sequential=sequential,
        prefer_near=prefer_near,
        bases=bases,
    )

    async def main(node: Node) -> None:
        async with live.following(node):
            await _fetch(node, live, manifest, output, transfer_options)

    runtime.with_node(node_options, main)


async def _fetch(
    node: Node, live: Live, manifest: str, output: Path, transfer_options: TransferOptions
) -> None:
    from cli.render.lines import Phase, summary
    from swarm.content.paths import printable
    from swarm.observe.reports import PathFetched

    live.phase = Phase.FETCHING
    async with node.fetch(manifest, into=output, options=transfer_options) as transfer:
        path = str(await transfer.complete())
        await live.settle()
        snapshot = live.snapshot()
        live.say(summary(snapshot))
        report = PathFetched(transfer.id, path, transfer.size, snapshot.elapsed)
        live.result(report, printable(path))
        if transfer_options.seed:
            live.phase = Phase.SEEDING
            await transfer.closed()
