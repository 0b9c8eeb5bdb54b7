"""``swarm fetch``: download from several peers while uploading to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.manifests import FetchTarget
    from cli.render.live import Live
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
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Fetch only the files that match, e.g. '*.jpg' or docs/ (repeatable).",
)
@options.trust
@click.option("--sequential", is_flag=True, help="Fetch the pieces in order, to watch or read meanwhile.")
@click.option("--prefer-near", is_flag=True, help="Take over far links only what no near peer has.")
@click.option("--seed", is_flag=True, help="Go on seeding when complete.")
@click.option("--max-peers", type=click.IntRange(min=1), metavar="N", help="Exchange with at most N peers.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after so long without a peer that has what is missing (default: 120).",
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
    from swarm.config import DEFAULT_LISTEN, DEFAULT_MAX_PEERS, DEFAULT_PATIENCE, NodeConfig, TransferConfig

    live = runtime.show("fetch", json=as_json)
    transfer = TransferConfig(
        max_peers=max_peers or DEFAULT_MAX_PEERS,
        patience=patience or DEFAULT_PATIENCE,
        upload_limit=upload_limit,
        download_limit=download_limit,
        sequential=sequential,
        prefer_near=prefer_near,
    )

    async def main(node: Node) -> None:
        async with live.following(node):
            await _fetch(node, live, manifest, peers, output, only=only, trust=trust, seed=seed)

    runtime.with_node(NodeConfig(listen=listen or DEFAULT_LISTEN, transfer=transfer), main)


async def _fetch(
    node: Node,
    live: Live,
    manifest: str,
    peers: tuple[str, ...],
    output: Path,
    *,
    only: tuple[str, ...],
    trust: tuple[PeerId, ...],
    seed: bool,
) -> None:
    from cli.manifests import read_target
    from cli.render.lines import Phase, summary
    from swarm.content.paths import printable
    from swarm.observe.reports import PathFetched

    target = await read_target(manifest)
    sources = _sources(target, peers, live)
    live.phase = Phase.FETCHING

    def checking(done: int, total: int) -> None:
        live.phase = Phase.HASHING if done < total else Phase.FETCHING
        live.hashing(done, total)

    result = await node.fetch(
        target.manifest, sources, output, only=only, trusted=trust, seed=seed, on_progress=checking
    )
    await live.settle()
    live.say(summary(live.snapshot()))
    path = str(result.path)
    live.result(PathFetched(result.manifest.id, path, result.size, result.seconds), printable(path))
    if seed:
        live.phase = Phase.SEEDING
        await node.seed_forever()


def _sources(target: FetchTarget, peers: tuple[str, ...], live: Live) -> list[str]:
    """Whom to ask: the PEERs, then those that a link brought; raises UsageError if there is nobody."""
    from swarm.errors import UsageError
    from swarm.ids import ManifestId

    hints = [peer for peer in target.peers if options.names_a_peer(peer)]
    if len(hints) < len(target.peers):
        live.warn("some addresses in the link name no peer and are left out")
    if not (peers or hints) and isinstance(target.manifest, ManifestId):
        raise UsageError("an id alone names no peer to ask: add at least one PEER, or use a swarm: link")
    return list(dict.fromkeys((*peers, *hints)))
