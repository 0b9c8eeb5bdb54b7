"""``swarm pause``: stop exchanging, and keep what is there."""

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
    """Stop exchanging each transfer ID until 'swarm resume', also after a restart.

    An ID is what 'swarm status' shows, the beginning of it, or a name.
    """
    from swarm.daemon.client import transfer_path

    live = runtime.show("pause", json=as_json)
    with daemon_calls.daemon() as client:
        daemon_calls.change_all(
            live, names, "paused", lambda name: client.patch(transfer_path(name), {"paused": True})
        )
