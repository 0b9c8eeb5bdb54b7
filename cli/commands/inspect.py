"""``swarm inspect``: what is in a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.content.envelope import Envelope


@click.command()
@options.manifest_file
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, manifest: Path, as_json: str | None) -> None:
    """Print what the file MANIFEST describes: size, x if executable, BLAKE3 and path of each file."""
    from cli import running

    live = runtime.show("inspect", json=as_json)

    async def main() -> None:
        from swarm.storage.manifest_files import read_envelope

        tell(live, await read_envelope(manifest))

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
