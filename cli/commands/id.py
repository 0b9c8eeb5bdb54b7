"""``swarm id``: who this node is."""

from __future__ import annotations

import click

from cli import options


@click.command()
@options.common
def command() -> None:
    """Print this node's peer id; its key is made on the first use.

    A second node on the same machine, while this one runs, has an id of its own.
    """
    from cli import running

    running.run(_print_id)


async def _print_id() -> None:
    from swarm.content.signature import sign
    from swarm.storage.home import first_identity, swarm_home

    identity = await first_identity(swarm_home())
    click.echo(sign(identity.private, b"").peer_id)
