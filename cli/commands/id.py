"""``swarm id``: who this node is."""

from __future__ import annotations

import click

from cli import options


@click.command()
@options.common
def command() -> None:
    """Print the peer id with which this machine fetches and signs; its key is made on the first use.

    Give it to a sharer who uses --allow, or to receivers who use --trust. What is shared is served under an
    id of its own.
    """
    from cli import running

    running.run(_print_id)


async def _print_id() -> None:
    from swarm.content.signature import sign
    from swarm.storage.home import swarm_home
    from swarm.storage.identities import first_identity

    identity = await first_identity(swarm_home())
    click.echo(sign(identity.private, b"").peer_id)
