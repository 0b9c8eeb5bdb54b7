"""``swarm inspect``: what is in a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cli import completion, options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.content.envelope import Envelope
    from swarm.ids import PeerId
    from swarm.node import Node

PATIENCE = 10.0
"""Seconds that peers are asked for a manifest: who only wants to look does not want to wait."""


@click.command()
@click.argument("manifest", metavar="MANIFEST", shell_complete=completion.complete_content)
@click.argument("peers", type=options.PeerType(), metavar="[PEER]...", nargs=-1)
@options.trust
@options.no_lan
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=PATIENCE,
    help="Ask peers for a manifest that long (default: 10).",
)
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    *,
    manifest: str,
    peers: tuple[str, ...],
    trust: tuple[PeerId, ...],
    patience: float,
    no_lan: bool,
    as_json: str | None,
) -> None:
    """Print what MANIFEST describes: size, x if executable, BLAKE3 and path of each file.

    MANIFEST is a .swarm file, an id or a swarm: link. The manifest of the last two comes from peers, also
    from those in this machine's networks.
    """
    from cli import running
    from swarm.storage.manifest_files import find_content, is_remote

    live = runtime.show("inspect", json=as_json)

    if is_remote(manifest):
        from swarm.config import TransferOptions

        transfer_options = TransferOptions(peers=peers, trusted=trust, patience=patience)
        _ask(runtime, live, manifest, transfer_options, lan=not no_lan)
        return
    if peers:
        raise click.UsageError("only for a link or an id are PEERs asked: leave them out")

    async def main() -> None:
        from swarm.content.envelope import Envelope

        found = (await find_content(manifest)).manifest
        if isinstance(found, Envelope):
            if trust:
                found.require_signer(trust)
            tell(live, found)

    running.run(main)


def tell(live: Live, envelope: Envelope) -> None:
    """Print the description: to people, and to programs."""
    from swarm.observe.reports import FileInspected, ManifestInspected

    manifest = envelope.manifest
    report = ManifestInspected(
        manifest=manifest.id,
        name=manifest.name,
        folder=manifest.folder,
        size=manifest.total_length,
        pieces=manifest.piece_count,
        piece_length=manifest.piece_length,
        files=len(manifest.files),
        signer=envelope.signer,
    )
    live.result(report, *describe(envelope))
    for entry in manifest.files:
        path = "/".join((manifest.name, *entry.path) if manifest.folder else entry.path)
        live.result(FileInspected(path, entry.length, entry.executable, entry.blake3.hex()))


def _ask(
    runtime: Runtime,
    live: Live,
    content: str,
    transfer_options: TransferOptions,
    *,
    lan: bool,
) -> None:
    """Show the manifest of a link or an id that peers have."""
    from swarm.config import NodeOptions

    async def main(node: Node) -> None:
        async with live.following(node):
            tell(live, await node.inspect(content, options=transfer_options))

    runtime.with_node(NodeOptions(listen=(), lan=lan), main)


def describe(envelope: Envelope) -> Iterator[str]:
    """Yield the lines of the description: first of the whole, then one line for each file."""
    from swarm.content.paths import printable
    from swarm.sizes import format_size

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
