"""``swarm id``: who this node is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live


@click.command()
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, as_json: str | None) -> None:
    """Print the peer id with which this machine fetches and signs; its key is made on the first use.

    Give it to a sharer who uses --allow, or to receivers who use --trust. What is shared is served under an
    id of its own.
    """
    from cli import running

    live = runtime.show("id", json=as_json)
    running.run(partial(_print_id, live))


async def _print_id(live: Live) -> None:
    from swarm.content.signature import sign
    from swarm.observe.reports import NodeIdentified
    from swarm.storage.home_folder import swarm_home
    from swarm.storage.identities import first_identity

    identity = await first_identity(swarm_home())
    peer = sign(identity.private, b"").peer_id
    live.result(NodeIdentified(peer), peer)
