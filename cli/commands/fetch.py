"""``swarm fetch``: download from several peers while uploading to others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import completion, daemon_calls, options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.render.live import Live
    from cli.transfers.fetching import Fetching
    from cli.transfers.leaving import Leaving
    from cli.transfers.naming import Named
    from swarm.config import NodeOptions
    from swarm.ids import PeerId
    from swarm.node import Node

PASSED = frozenset(
    {
        "by_daemon", "lists", "output", "name", "overwrite", "bases", "only", "trust", "no_times",
        "save_manifest", "sequential", "prefer_near", "seed", "origins", "origin_use", "origin_public_only",
        "max_peers", "patience", "copies", "ratio", "seconds", "upload_limit", "download_limit", "as_json",
        "show_peers", "update",
    }
)  # fmt: skip
"""Parameters that mean something when a daemon fetches."""


@click.command()
@click.argument(
    "arguments", metavar="[MANIFEST|PEER]...", nargs=-1, shell_complete=completion.complete_content
)
@click.option(
    "-i",
    "--input",
    "lists",
    type=options.PathOrStream(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    multiple=True,
    help="Read more MANIFESTs and PEERs from the lines of this file; - is stdin (repeatable).",
)
@click.option(
    "-o",
    "--output",
    type=options.PathOrStream(file_okay=False, allow_dash=True),
    metavar="DIR",
    default=Path(),
    help="The folder in which what is fetched appears when it is verified (default: the current one); "
    "- writes one file to stdout.",
)
@click.option("--name", metavar="NAME", help="The final name (default: the name in the manifest).")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing files that differ once all is verified, and reuse what is right in them.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Replace an older version under the final name as a whole once all is verified; keep your files.",
)
@options.listen
@options.announce
@options.reach
@click.option(
    "--base",
    "bases",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    multiple=True,
    help="Take what is the same from this file or folder, such as an older version (repeatable).",
)
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Fetch only the files that match, e.g. '*.jpg' or docs/ (repeatable).",
)
@options.trust
@click.option("--no-times", is_flag=True, help="Do not give files the modification times of the original.")
@click.option(
    "--save-manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="[FILE]",
    is_flag=False,
    flag_value="",
    help="Write the manifest to this file, too (without FILE: <name>.swarm in the current folder).",
)
@click.option("--sequential", is_flag=True, help="Fetch the pieces in order, to watch or read meanwhile.")
@click.option("--prefer-near", is_flag=True, help="Ask far peers only for what no near peer has.")
@click.option("--seed", is_flag=True, help="Go on seeding when complete.")
@options.origins(of_fetch=True)
@options.rehash
@click.option("--max-peers", type=click.IntRange(min=1), metavar="N", help="Exchange with at most N peers.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after so long without a peer or a verified piece (default: 120).",
)
@options.leaving
@options.upload_limit
@options.download_limit
@options.daemon
@options.json
@options.peers_table
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    arguments: tuple[str, ...],
    lists: tuple[Path, ...],
    output: Path,
    name: str | None,
    overwrite: bool,
    bases: tuple[Path, ...],
    only: tuple[str, ...],
    trust: tuple[PeerId, ...],
    save_manifest: Path | None,
    sequential: bool,
    prefer_near: bool,
    seed: bool,
    origin_options: dict[str, Any],
    max_peers: int | None,
    patience: float | None,
    as_json: str | None,
    show_peers: bool,
    **groups: Any,
) -> None:
    """Fetch each MANIFEST (a .swarm file, an id or a swarm: link) from PEERs into a folder.

    Prints the path of each thing that was fetched. A PEER is asked for all of them. An interrupted
    fetch is resumed by the same command.
    """
    from cli.transfers.fetching import Fetching, fetch_all
    from cli.transfers.naming import read_names
    from cli.transfers.piping import STANDARD_STREAM, fetch_to_stdout
    from swarm.config import DEFAULT_MAX_PEERS, DEFAULT_PATIENCE, TransferOptions

    leaving = _leaving(groups, seed=seed or groups["by_daemon"])
    named = read_names(arguments, lists)
    to_stdout = output == STANDARD_STREAM
    _check_target(len(named.contents), name, to_stdout=to_stdout, as_json=as_json is not None)
    if update := bool(groups["update"]):
        _check_update({"--only": only, "--overwrite": overwrite, "--output -": to_stdout})
    live = runtime.show("fetch", json=as_json, peers=show_peers)
    transfer_options = TransferOptions(
        peers=named.peers,
        only=only,
        trusted=trust,
        seed=seed,
        max_peers=max_peers or DEFAULT_MAX_PEERS,
        patience=patience or DEFAULT_PATIENCE,
        sequential=sequential,
        prefer_near=prefer_near,
        bases=bases,
        name=name,
        overwrite=overwrite,
        update=update,
        rehash=groups["rehash"],
        times=not groups["no_times"],
        **origin_options,
    )
    fetching = Fetching(named.contents, output, transfer_options, leaving, save_manifest)
    if groups["by_daemon"]:
        _by_daemon(live, fetching)
        return

    async def main(node: Node) -> None:
        async with live.following(node):
            if to_stdout:
                await fetch_to_stdout(node, live, fetching)
            else:
                await fetch_all(node, live, fetching)

    runtime.with_node(_node_options(groups, named, output, seed=seed), main)


def _node_options(given: Mapping[str, Any], named: Named, output: Path, *, seed: bool) -> NodeOptions:
    """Return the options of the node that fetches what is ``named``."""
    from cli.transfers.naming import shown
    from swarm.config import DEFAULT_LISTEN, NodeOptions

    into, contents = os.path.realpath(output), named.contents if seed else ()
    return NodeOptions(
        listen=given["listen"] or DEFAULT_LISTEN,
        announce=given["announce"],
        upload_limit=given["upload_limit"],
        download_limit=given["download_limit"],
        resumes=tuple(f"{into}\0{shown(each)}" for each in contents),
        **options.reach_options(given, seeds=seed),
    )


def _leaving(given: Mapping[str, Any], *, seed: bool) -> Leaving:
    """Return when to stop seeding; raises click.UsageError if nothing is seeded."""
    from cli.transfers.leaving import Leaving

    leaving = Leaving(given["copies"], given["ratio"], given["seconds"])
    if leaving and not seed:
        raise click.UsageError("--copies, --ratio and --for say when to stop seeding: add --seed")
    return leaving


def _check_update(others: Mapping[str, object]) -> None:
    """Raise click.UsageError for options that an update of a whole version cannot have."""
    for option, given in others.items():
        if given:
            raise click.UsageError(f"--update replaces a whole version under its name: leave out {option}")


def _check_target(contents: int, name: str | None, *, to_stdout: bool, as_json: bool) -> None:
    """Raise click.UsageError for a target that cannot take what is fetched."""
    if contents > 1 and (to_stdout or name is not None):
        raise click.UsageError("--name and --output - are for one content: fetch them one by one")
    if to_stdout and as_json:
        raise click.UsageError("--json and --output - both write to stdout: choose one of them")


def _by_daemon(live: Live, fetching: Fetching) -> None:
    """Let the running daemon fetch; raises click.UsageError for what cannot be passed to it."""
    from cli.transfers.delegating import (
        DelegatedFetch,
        fetch_by_daemon,
        in_trio,
        refuse_what_cannot_be_passed,
    )
    from cli.transfers.piping import STANDARD_STREAM
    from swarm.content.series_link import is_series_link

    ctx = click.get_current_context()
    given = ctx.params
    refuse_what_cannot_be_passed(ctx, PASSED)
    if fetching.output == STANDARD_STREAM:
        raise click.UsageError("--output - cannot be passed to the daemon")
    if given["update"] and not all(map(is_series_link, fetching.contents)):
        raise click.UsageError("the daemon updates the releases of a series: --update is for its link")
    in_trio(fetching.check)
    chosen, leaving = fetching.options, fetching.leaving
    fields: dict[str, object] = {
        **daemon_calls.limit_fields(given["upload_limit"], given["download_limit"]),
        **daemon_calls.rule_fields(leaving.ratio, leaving.copies, leaving.seconds),
        "peers": list(chosen.peers),
        "only": list(chosen.only),
        "trusted": list(chosen.trusted),
        "bases": [str(base.absolute()) for base in chosen.bases],
        "origins": [url.revealed() for url in chosen.origin_urls],
        "origin_use": chosen.origin_use,
        "sequential": chosen.sequential,
        "prefer_near": chosen.prefer_near,
        "overwrite": chosen.overwrite,
        "times": chosen.times,
        "max_peers": chosen.max_peers,
    }
    if chosen.name is not None:
        fields["name"] = chosen.name
    fetch_by_daemon(
        live,
        DelegatedFetch(
            fetching.contents,
            fetching.output,
            fields,
            given["patience"],
            fetching.save_manifest,
            seed=chosen.seed,
            peers=given["show_peers"],
        ),
    )
