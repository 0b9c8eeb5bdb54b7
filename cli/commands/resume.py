"""``swarm resume``: go on with paused transfers."""

from __future__ import annotations

import click

from cli import daemon_calls, options
from cli.runtime import Runtime


@click.command()
@daemon_calls.transfers
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, names: tuple[str, ...], as_json: str | None) -> None:
    """Go on with each transfer ID that is paused; try one again that failed.

    An ID is what 'swarm status' shows, the beginning of it, or a name.
    """
    from swarm.daemon.client import transfer_path

    live = runtime.show("resume", json=as_json)
    with daemon_calls.daemon() as client:
        daemon_calls.change_all(
            live, names, "resumed", lambda name: client.patch(transfer_path(name), {"paused": False})
        )
