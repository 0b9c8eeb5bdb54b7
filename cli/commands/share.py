"""``swarm share``: hash a path, write its manifest, seed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.node import Node

SUFFIX = ".swarm"


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write the manifest (default: <name>.swarm in the current folder).",
)
@options.listen
@options.announce
@click.option(
    "--peer",
    "peers",
    type=options.PeerType(),
    metavar="PEER",
    multiple=True,
    help="Dial this peer and stay connected, so that nobody has to dial you (repeatable).",
)
@options.allow
@options.piece_size
@options.upload_limit
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    *,
    path: Path,
    manifest: Path | None,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    peers: tuple[str, ...],
    allow: tuple[str, ...],
    piece_size: int | None,
    upload_limit: int | None,
    as_json: bool,
) -> None:
    """Share the file or folder PATH until interrupted.

    Prints the manifest's path, its id, a swarm: link that carries the id and this node's addresses,
    and the addresses. An existing file is replaced only if it is a manifest.
    """
    from swarm.config import DEFAULT_LISTEN, NodeOptions, TransferOptions

    live = runtime.show("share", json=as_json)
    node_options = NodeOptions(
        listen=listen or DEFAULT_LISTEN,
        announce=announce,
        upload_limit=upload_limit,
        allowed=frozenset(allow) if allow else None,
    )
    target = manifest or Path(f"{path.absolute().name}{SUFFIX}")
    if target.resolve().is_relative_to(path.resolve()):
        live.warn(f"{target} lies inside what is shared: sharing again will include it (see --manifest)")

    async def main(node: Node) -> None:
        async with live.following(node):
            await _share(node, live, path, target, piece_size, TransferOptions(peers=peers))

    runtime.with_node(node_options, main)


async def _share(
    node: Node,
    live: Live,
    path: Path,
    target: Path,
    piece_size: int | None,
    transfer_options: TransferOptions,
) -> None:
    from cli.render.lines import Phase
    from swarm.observe.reports import PathShared
    from swarm.storage.manifest_files import refuse_to_overwrite, write_envelope

    await refuse_to_overwrite(target)
    live.phase = Phase.HASHING
    shared = await node.share(path, piece_length=piece_size, options=transfer_options)
    await write_envelope(target, shared.envelope)
    manifest = shared.manifest
    report = PathShared(
        manifest=manifest.id,
        path=str(target),
        link=shared.link,
        name=manifest.name,
        size=manifest.total_length,
        pieces=manifest.piece_count,
        piece_length=manifest.piece_length,
    )
    await live.settle()
    addresses = [f"libp2p node address: {address}" for address in node.addresses]
    live.result(report, str(target), str(manifest.id), shared.link, *addresses)
    # Links hold no quote, so this can be pasted into any shell.
    live.say(f"others fetch it with: swarm fetch '{shared.link}' --output .")
    live.phase = Phase.SEEDING
    await shared.closed()
