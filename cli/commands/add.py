"""``swarm add``: let a daemon share or fetch something."""

from __future__ import annotations

import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import completion, daemon_calls, options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.daemon.client import DaemonClient

WAIT_SECONDS = 20
"""How long one question to the daemon waits for news."""
NAME_SECONDS = 2
"""How long the name of what is fetched by its id is waited for, or for what prevents the fetch."""


@click.command()
@click.argument(
    "contents",
    metavar="PATH|MANIFEST...",
    nargs=-1,
    required=True,
    shell_complete=completion.complete_content,
)
@click.option(
    "-o",
    "--output",
    type=options.PathType(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder of a fetch (default: the current one).",
)
@click.option(
    "--name", metavar="NAME", help="The name that others get, or the final name of what is fetched."
)
@click.option(
    "--peer",
    "peers",
    type=options.PeerType(),
    metavar="PEER",
    multiple=True,
    help="Ask this peer, too, and keep in touch with it (repeatable).",
)
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Fetch only the files that match, e.g. '*.jpg' (repeatable).",
)
@click.option("--sequential", is_flag=True, help="Fetch the pieces in order, to watch or read meanwhile.")
@options.added_origins
@daemon_calls.limits
@daemon_calls.rule
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    *,
    contents: tuple[str, ...],
    output: Path | None,
    name: str | None,
    peers: tuple[str, ...],
    only: tuple[str, ...],
    sequential: bool,
    origin_urls: tuple[Any, ...],
    origin_use: str,
    upload_limit: int | None,
    download_limit: int | None,
    ratio: float | None,
    copies: float | None,
    seconds: float | None,
    as_json: str | None,
) -> None:
    """Let the daemon share each PATH, or fetch each MANIFEST (a .swarm file, an id or a swarm: link).

    Prints the manifest's id and a link, as soon as they are known; the daemon goes on by itself.
    What is fetched is seeded afterwards. The link of a series is followed from release to release.
    """
    from cli.failures import explain, summed_up
    from cli.transfers.naming import shown
    from swarm.errors import SwarmError
    from swarm.observe.reports import PathFailed

    if name is not None and len(contents) > 1:
        raise click.UsageError("--name is for one content: add them one by one")
    fields: dict[str, object] = daemon_calls.limit_fields(upload_limit, download_limit)
    fields |= daemon_calls.rule_fields(ratio, copies, seconds)
    fields |= {"peers": list(peers), "only": list(only), "sequential": sequential}
    fields |= {"origins": [url.revealed() for url in origin_urls], "origin_use": origin_use}
    if name is not None:
        fields["name"] = name
    live = runtime.show("add", json=as_json)
    failures: list[BaseException] = []
    with daemon_calls.daemon() as client:
        for content in contents:
            try:
                _add(client, live, content, (output or Path()).absolute(), fields)
            except SwarmError as error:
                if len(contents) == 1:
                    raise
                failures.append(error)
                failure = explain(error)
                live.event(PathFailed(shown(content), failure.message, failure.exit_code))
    if failures:
        raise summed_up(failures, len(contents), "added")


def _add(client: DaemonClient, live: Live, content: str, output: Path, fields: dict[str, object]) -> None:
    from swarm.content.paths import printable
    from swarm.errors import UsageError
    from swarm.observe.reports import TransferAdded
    from swarm.storage.manifest_files import is_remote, kind_at

    path = Path(content)
    if is_remote(content):
        request = {**fields, "link": content, "output": str(output)}
    elif stat.S_ISREG(kind := kind_at(content)) and content.endswith(".swarm"):
        request = {**fields, "link": str(path.absolute()), "output": str(output)}
    elif kind:
        request = {**fields, "path": str(path.absolute())}
    else:
        raise UsageError(f"there is no file or folder {printable(content)}, and it is no link and no id")
    before = client.get("/v1/status")["changes"]
    added = client.post("/v1/transfers", request)
    new = client.made
    added = _until_known(client, live, added, before, new=new)
    live.result(
        TransferAdded(added["id"], added["kind"], added["name"], added["manifest"], added["link"], new),
        *filter(None, (added["manifest"], added["link"])),
    )
    does = "shares" if added["kind"] == "share" else "fetches" if added["series"] is None else "follows"
    name = printable(added["name"] or added["manifest"] or added["id"])
    live.say(f"the daemon {does} {name}: swarm status {added['id'][:8]}")


def _until_known(
    client: DaemonClient, live: Live, added: dict[str, Any], version: str, *, new: bool
) -> dict[str, Any]:
    """Wait until the manifest of what was added is known; raises what prevents that.

    What is fetched by its id is waited for a moment only, until its name is known or it has failed for good.
    What is ``new`` and fails at once is removed again: the command has told.
    """
    from swarm.content.paths import printable
    from swarm.daemon.client import DaemonRefused, transfer_path

    told, until = None, time.monotonic() + NAME_SECONDS
    while added["state"] != "paused":
        known = added["manifest"] is not None
        if added["state"] == "failed" or (added["error"] is not None and not known):
            if new:
                client.delete(transfer_path(added["id"]))
            raise DaemonRefused(added["error"], added["exit_code"])
        if known and (added["name"] or added["error"] or added["note"] or time.monotonic() >= until):
            break
        if added["note"] != told:
            told = added["note"]
            live.warn(f"{printable(told)}; the daemon goes on looking if this command is interrupted")
        delta = client.get("/v1/transfers", since=version, wait=1 if known else WAIT_SECONDS)
        version = delta["version"]
        if added["id"] in delta["removed"]:
            raise DaemonRefused("the transfer was removed meanwhile", 1)
        added = next((each for each in delta["transfers"] if each["id"] == added["id"]), added)
    return added
