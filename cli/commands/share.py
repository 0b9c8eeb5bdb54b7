"""``swarm share``: hash paths, write their manifests, seed them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from cli.transfers.sharing import Sharing
    from swarm.node import Node

PASSED = frozenset(
    {
        "by_daemon", "manifest", "name", "peers", "ignore", "skip", "origins", "origin_public_only",
        "piece_size", "upload_limit", "copies", "ratio", "seconds", "qr", "as_json", "show_peers",
    }
)  # fmt: skip
"""Parameters that mean something when a daemon shares."""


@click.command()
@click.argument(
    "paths",
    type=options.PathOrStream(exists=True, allow_dash=True),
    metavar="PATH...",
    nargs=-1,
    required=True,
)
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write the manifest (default: <name>.swarm in the current folder).",
)
@click.option("--name", metavar="NAME", help="The name that others get (default: that of PATH, stdin for -).")
@options.listen
@options.announce
@options.reach
@click.option(
    "--listed/--unlisted",
    default=None,
    help="Tell everybody who asks what is shared here ('swarm list'), or nobody: peers then get only what "
    "they have the id of. Without either: everybody if --no-lan is given and neither --meet nor --dht, "
    "otherwise this machine and the peers named with --peer.",
)
@click.option(
    "--peer",
    "peers",
    type=options.PeerType(),
    metavar="PEER",
    multiple=True,
    help="Dial this peer and stay connected, so that nobody has to dial you (repeatable).",
)
@options.allow
@click.option(
    "--ignore",
    metavar="PATTERN",
    multiple=True,
    help="Do not share what matches, e.g. '*.o' or build/ (repeatable); .swarmignore lists more.",
)
@click.option("--skip", is_flag=True, help="Leave out what cannot be shared, and say what that is.")
@options.origins(of_fetch=False)
@click.option(
    "--check",
    metavar="[whole]",
    type=click.Choice(("sampled", "whole")),
    is_flag=False,
    flag_value="sampled",
    help="Compare what the origins have with PATH instead of sharing it: some pieces of each file, or "
    "with =whole all of them.",
)
@options.piece_size
@options.rehash
@options.upload_limit
@options.leaving
@options.qr
@options.daemon
@options.json
@options.peers_table
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    paths: tuple[Path, ...],
    manifest: Path | None,
    name: str | None,
    peers: tuple[str, ...],
    allow: tuple[str, ...],
    origin_options: dict[str, Any],
    check: str | None,
    piece_size: int | None,
    rehash: bool,
    upload_limit: int | None,
    ignore: tuple[str, ...],
    skip: bool,
    copies: int | None,
    ratio: float | None,
    seconds: float | None,
    as_json: str | None,
    show_peers: bool,
    **reach: Any,
) -> None:
    """Share the files and folders PATH (- is stdin) until interrupted, or until --copies, --ratio or --for.

    Prints, for each, the manifest's path, its id and a swarm: link that carries the id and this node's
    addresses; then the addresses. An existing file is replaced only if it is a manifest.
    """
    from cli.transfers.checking import check_all
    from cli.transfers.leaving import Leaving
    from cli.transfers.piping import STDIN_NAME, spooled_stdin
    from cli.transfers.sharing import Sharing, places, share_all
    from swarm.config import DEFAULT_LISTEN, NodeOptions, TransferOptions
    from swarm.storage.manifest_files import check_place

    from_stdin = _from_stdin(paths)
    if from_stdin:
        name = name or STDIN_NAME
    chosen = places(paths, manifest, name)
    transfer_options = TransferOptions(
        peers=peers,
        ignore=ignore,
        omit=tuple(target for _, target in chosen),
        skip=skip,
        rehash=rehash,
        **origin_options,
    )
    if check is not None and (from_stdin or not transfer_options.origins):
        raise click.UsageError("--check compares a PATH with what the servers named by --origin have")
    leaving = Leaving(copies, ratio, seconds)
    sharing = Sharing(chosen, piece_size, transfer_options, leaving, name, reach["qr"])
    live = runtime.show("share", json=as_json, peers=show_peers)
    if reach["by_daemon"]:
        _by_daemon(live, sharing, upload_limit)
        return
    node_options = NodeOptions(
        listen=reach["listen"] or DEFAULT_LISTEN,
        announce=reach["announce"],
        upload_limit=upload_limit,
        allowed=frozenset(allow) if allow else None,
        serves=() if from_stdin else paths,
        manifests=tuple(target for _, target in sharing.places),
        **options.reach_options(reach, hidden=bool(allow)),
    )

    async def main(node: Node) -> None:
        async with live.following(node):
            if check is not None:
                await check_all(node, live, sharing, whole=check == "whole")
                return
            if not from_stdin:
                await share_all(node, live, sharing)
                return
            ((_, target),) = sharing.places
            await check_place(target)
            async with spooled_stdin(name) as spooled:
                await share_all(node, live, replace(sharing, places=((spooled, target),)))

    runtime.with_node(node_options, main)


def _from_stdin(paths: tuple[Path, ...]) -> bool:
    """Return whether stdin is shared; raises click.UsageError if something else is, too."""
    from cli.transfers.piping import STANDARD_STREAM

    if STANDARD_STREAM not in paths:
        return False
    if len(paths) > 1:
        raise click.UsageError("- (stdin) is shared alone: start another share for the paths")
    return True


def _by_daemon(live: Live, sharing: Sharing, upload_limit: int | None) -> None:
    """Let the running daemon share; raises click.UsageError for what cannot be passed to it."""
    from cli import daemon_calls
    from cli.transfers.delegating import refuse_what_cannot_be_passed, share_by_daemon
    from cli.transfers.piping import STANDARD_STREAM

    refuse_what_cannot_be_passed(click.get_current_context(), PASSED)
    if any(path == STANDARD_STREAM for path, _ in sharing.places):
        raise click.UsageError("- (stdin) cannot be passed to the daemon: write it to a file first")
    chosen, leaving = sharing.options, sharing.leaving
    fields = {
        **daemon_calls.limit_fields(upload_limit, None),
        **daemon_calls.rule_fields(leaving.ratio, leaving.copies, leaving.seconds),
        "peers": list(chosen.peers),
        "ignore": list(chosen.ignore),
        "skip": chosen.skip,
        "origins": [url.revealed() for url in chosen.origin_urls],
    }
    if sharing.piece_size is not None:
        fields["piece_size"] = sharing.piece_size
    if sharing.name is not None:
        fields["name"] = sharing.name
    share_by_daemon(live, sharing, fields)
