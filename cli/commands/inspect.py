"""``swarm inspect``: what is in a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from swarm.content.envelope import Envelope
    from swarm.ids import PeerId
    from swarm.node import Node

PATIENCE = 10.0
"""Seconds that peers are asked for a manifest: who only wants to look does not want to wait."""


@click.command()
@click.argument("manifest", metavar="MANIFEST")
@click.argument("peers", type=options.PeerType(), metavar="[PEER]...", nargs=-1)
@options.trust
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=PATIENCE,
    help="Ask peers for a manifest that long (default: 10).",
)
@options.common
@click.pass_obj
def command(
    runtime: Runtime, *, manifest: str, peers: tuple[str, ...], trust: tuple[PeerId, ...], patience: float
) -> None:
    """Print what MANIFEST describes: size, x if executable, BLAKE3 and path of each file.

    MANIFEST is a .swarm file, an id or a swarm: link. The manifest of the last two comes from peers.
    """
    from cli import running
    from swarm.storage.manifest_files import find_content, is_remote

    def show(envelope: Envelope) -> None:
        for line in describe(envelope):
            click.echo(line)

    if is_remote(manifest):
        _ask(runtime, manifest, peers, trust, patience, show)
        return
    if peers:
        raise click.UsageError("only for a link or an id are PEERs asked: leave them out")

    async def main() -> None:
        from swarm.content.envelope import Envelope

        found = (await find_content(manifest)).manifest
        if isinstance(found, Envelope):
            if trust:
                found.require_signer(trust)
            show(found)

    running.run(main)


def _ask(
    runtime: Runtime,
    content: str,
    peers: tuple[str, ...],
    trust: tuple[PeerId, ...],
    patience: float,
    show: Callable[[Envelope], None],
) -> None:
    """Show the manifest of a link or an id that peers have."""
    from swarm.config import NodeOptions, TransferOptions

    live = runtime.show("inspect")
    transfer_options = TransferOptions(peers=peers, trusted=trust, patience=patience)

    async def main(node: Node) -> None:
        async with live.following(node):
            show(await node.inspect(content, options=transfer_options))

    runtime.with_node(NodeOptions(listen=()), main)


def describe(envelope: Envelope) -> Iterator[str]:
    """Yield the lines of the description: first of the whole, then one line for each file."""
    from cli.quantities import format_size
    from swarm.content.paths import printable

    manifest = envelope.manifest
    size = manifest.total_length
    yield f"name:         {printable(manifest.name)}"
    yield f"kind:         {'folder' if manifest.folder else 'file'}"
    yield f"id:           {manifest.id}"
    yield f"signed by:    {envelope.signer or 'nobody'}"
    yield f"size:         {size} bytes ({format_size(size)})"
    yield f"files:        {len(manifest.files)}"
    yield f"pieces:       {manifest.piece_count} of {format_size(manifest.piece_length)}"
    yield ""
    for entry in manifest.files:
        path = printable("/".join((manifest.name, *entry.path) if manifest.folder else entry.path))
        # The end of the line is what b3sum prints for the file.
        yield f"{entry.length:>15} {'x' if entry.executable else '-'} {entry.blake3.hex()}  {path}"
    for link in manifest.links:
        path = printable("/".join((manifest.name, *link.path)))
        yield f"{'link':>15} - {printable(link.target)}  {path}"
    for folder in manifest.empty_folders:
        yield f"{'empty folder':>15} - {printable('/'.join((manifest.name, *folder)))}/"
