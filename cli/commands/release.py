"""``swarm release``: publish the next version of a series, with patches from older ones, and seed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from swarm.node import Node


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="PATH")
@click.option(
    "--previous",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH|MANIFEST",
    multiple=True,
    help="Make a patch from this older version: its folder or file, or its .swarm manifest with the content "
    "beside it (repeatable). Earlier releases that still stand where they were are found without it.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0, max=64),
    metavar="N",
    default=3,
    help="Offer patches from the last N releases (default: 3).",
)
@options.listen
@options.announce
@options.reach
@click.option(
    "--listed/--unlisted",
    default=None,
    help="Tell everybody who asks what is shared here ('swarm list'), or nobody: peers then get only what "
    "they have the id of. Without either: everybody if --no-lan is given and neither --meet nor --dht, "
    "otherwise this machine.",
)
@options.allow
@click.option(
    "--ignore",
    metavar="PATTERN",
    multiple=True,
    help="Do not share what matches, e.g. '*.o' or build/ (repeatable); .swarmignore lists more.",
)
@click.option("--skip", is_flag=True, help="Leave out what cannot be shared, and say what that is.")
@click.option(
    "--origin",
    "origins",
    type=options.OriginType(),
    metavar="URL",
    multiple=True,
    help="A web server that has the content, too; the record names it (repeatable).",
)
@options.rehash
@options.upload_limit
@options.leaving
@options.json
@options.peers_table
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    name: str,
    path: Path,
    previous: tuple[Path, ...],
    keep: int,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    allow: tuple[str, ...],
    ignore: tuple[str, ...],
    skip: bool,
    origins: tuple[Any, ...],
    rehash: bool,
    upload_limit: int | None,
    copies: int | None,
    ratio: float | None,
    seconds: float | None,
    as_json: str | None,
    show_peers: bool,
    **reach: Any,
) -> None:
    """Publish the file or folder PATH as the next release of your series NAME, and seed it until interrupted.

    It ends with Ctrl-C, or by --copies, --ratio or --for; only then can the next version be released.

    Prints the link of the series, which stays the same, the link of this content, and the addresses. Others
    take the newest release with 'swarm fetch' and 'swarm follow', as a patch where they have an older one.
    """
    from cli.transfers.leaving import Leaving
    from cli.transfers.releasing import Releasing, release
    from swarm.config import DEFAULT_LISTEN, NodeOptions, TransferOptions
    from swarm.storage.own_releases import identity_of

    leaving = Leaving(copies, ratio, seconds)
    transfer_options = TransferOptions(ignore=ignore, skip=skip, rehash=rehash, origins=origins)
    releasing = Releasing(name, path, previous, keep, transfer_options, leaving)
    live = runtime.show("release", json=as_json, peers=show_peers)
    node_options = NodeOptions(
        listen=listen or DEFAULT_LISTEN,
        announce=announce,
        upload_limit=upload_limit,
        allowed=frozenset(allow) if allow else None,
        # Of the series, not of the path: the link is to stay good from one version to the next.
        serves=(identity_of(name),),
        **options.reach_options(reach, hidden=bool(allow)),
    )

    async def main(node: Node) -> None:
        async with live.following(node):
            await release(node, live, releasing)

    runtime.with_node(node_options, main)
