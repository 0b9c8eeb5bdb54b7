"""``swarm limit``: how fast a daemon sends and receives."""

from __future__ import annotations

import click

from cli import daemon_calls, options
from cli.runtime import Runtime


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@daemon_calls.limits
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    names: tuple[str, ...],
    upload_limit: int | None,
    download_limit: int | None,
    as_json: str | None,
) -> None:
    """Limit each transfer ID; without one, all transfers of the daemon together.

    A limit that is not given stays as it is.
    """
    from swarm.daemon.client import transfer_path
    from swarm.observe.reports import LimitsChanged

    fields = daemon_calls.limit_fields(upload_limit, download_limit)
    if not fields:
        raise click.UsageError("give --upload-limit or --download-limit, or both")
    live = runtime.show("limit", json=as_json)
    with daemon_calls.daemon() as client:
        if names:
            daemon_calls.change_all(
                live, names, "limited", lambda name: client.patch(transfer_path(name), fields)
            )
            return
        found = client.patch("/v1/limits", fields)
        live.result(LimitsChanged(found["upload_limit"], found["download_limit"]))
