"""Shares one path after the other on one node, tells the links, and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.failures import explain, summed_up
from cli.transfers.leaving import Leaving, Seeding, counting
from swarm.errors import ManifestError, SwarmError
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.node import Node
    from swarm.transfer.transfer import Transfer

SUFFIX = ".swarm"


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which paths to share, where their manifests go, and how: all that `share_all` needs."""

    places: tuple[tuple[Path, Path], ...]
    """Each path, and the name of its manifest."""
    piece_size: int | None
    options: TransferOptions
    leaving: Leaving
    name: str | None = None
    """The name that others get; None: the last part of the path."""
    qr: bool = False
    """Show the links as QR codes, too."""


def places(
    paths: Sequence[Path], manifest: Path | None, name: str | None = None
) -> tuple[tuple[Path, Path], ...]:
    """Where the manifest of each path goes; a path that is given twice counts once.

    ``name`` is what a single path is shared as. Raises click.UsageError if two manifests would have one name,
    if one name is given for several paths, if no manifest can have it, and if there is no name.
    """
    from swarm.content.paths import check_title

    if name is not None:
        try:
            check_title(name)
        except ManifestError as error:
            raise click.UsageError(f"--name: {error}") from error
    # What leads to the same file or folder is the same path.
    unique = {path.resolve(): path for path in reversed(paths)}
    chosen = [path for path in dict.fromkeys(paths) if unique[path.resolve()] == path]
    if manifest is not None:
        if len(chosen) > 1:
            raise click.UsageError(
                "--manifest names the manifest of one path: leave it out, or share one path"
            )
        return ((chosen[0], manifest),)
    if name is not None and len(chosen) > 1:
        raise click.UsageError("--name is the name of one path: leave it out, or share one path")
    taken: dict[Path, Path] = {}
    for path in chosen:
        own = path.name if path.name not in {"", ".."} else path.resolve().name
        if not (name or own):
            raise click.UsageError(f"{path} has no name that others could get: choose one with --name")
        target = Path(f"{name or own}{SUFFIX}")
        if target in taken:
            raise click.UsageError(
                f"the manifests of {taken[target]} and {path} would both be {target}: "
                "share them one by one with --manifest"
            )
        taken[target] = path
    return tuple((path, target) for target, path in taken.items())


async def share_all(node: Node, live: Live, sharing: Sharing) -> None:
    """Share every path and seed until all shares have ended.

    A path that cannot be shared is told and does not stop the others; raises what tells most once the rest
    has ended, at once if nothing is left to seed.
    """
    async with counting(node, sharing.leaving) as seeding:
        await _share_all(node, live, sharing, seeding)


async def _share_all(node: Node, live: Live, sharing: Sharing, seeding: Seeding) -> None:
    from cli.render.lines import Phase
    from swarm.observe.reports import PathFailed

    shared: list[Transfer] = []
    failures: list[BaseException] = []
    for path, target in sharing.places:
        live.phase = Phase.HASHING
        try:
            shared.append(await _share(node, live, path, target, sharing))
        except (SwarmError, OSError, ExceptionGroup) as error:
            if len(sharing.places) == 1:
                raise
            failures.append(error)
            failure = explain(error)
            live.event(PathFailed(str(path), failure.message, failure.exit_code))
    if shared:
        await live.settle()
        warn_if_nobody_can_reach(live, node.addresses)
        live.result(None, *(f"libp2p node address: {address}" for address in node.addresses))
        live.phase = Phase.SEEDING
        await seeding.until_closed(live, shared)
    if failures:
        raise summed_up(failures, len(sharing.places), "shared")


def warn_if_nobody_can_reach(live: Live, addresses: Sequence[str]) -> None:
    """Say that a link is of no use elsewhere, if it is not."""
    from swarm.endpoint import Endpoint

    endpoints = [Endpoint.read(address.partition("/p2p/")[0]) for address in addresses]
    if all(endpoint is None or endpoint.is_loopback for endpoint in endpoints):
        live.warn(
            "this node can be reached from this machine only: listen on another address (--listen), "
            "or name one that leads here (--announce)"
        )


async def _share(node: Node, live: Live, path: Path, target: Path, sharing: Sharing) -> Transfer:
    from swarm.content.hints import Hints
    from swarm.content.link import SwarmLink
    from swarm.observe.reports import PathShared
    from swarm.storage.manifest_files import check_place, write_envelope

    before = await check_place(target)
    transfer = await node.share(
        path, name=sharing.name, piece_length=sharing.piece_size, options=sharing.options
    )
    # With the addresses, so that sending the file is enough.
    link = SwarmLink.parse(transfer.link)
    await write_envelope(target, transfer.envelope, Hints(node.addresses, link.meets, link.origins).texts())
    manifest = transfer.manifest
    if before is not None and before.manifest.id != manifest.id:
        # Perhaps of another folder of the same name, which may be shared at this moment.
        live.warn(f"{target} was the manifest of other content ({before.manifest.id}) and is replaced")
    report = PathShared(
        manifest=manifest.id,
        path=str(target),
        link=transfer.link,
        name=manifest.name,
        size=manifest.total_length,
        pieces=manifest.piece_count,
        piece_length=manifest.piece_length,
    )
    await live.settle()
    live.result(report, str(target), str(manifest.id), transfer.link)
    tell_command(live, transfer.link, qr=sharing.qr)
    return transfer


def tell_command(live: Live, link: str, *, qr: bool = False) -> None:
    """Tell a person the line to send to others. Links hold no quote, so it can be pasted into any shell."""
    if qr:
        from swarm.content.link_code import link_blocks

        for text in link_blocks(link):
            live.say(text)
    from swarm.content.link import SwarmLink

    live.say(f"others fetch it with: swarm fetch '{link}'")
    live.say(f"or, where quotes get lost: swarm fetch {SwarmLink.parse(link).bare()}")
