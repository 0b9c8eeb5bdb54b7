"""``swarm listen``: a bare node that answers pings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from swarm.node import Node


@click.command()
@options.listen
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, listen: tuple[str, ...], as_json: str | None) -> None:
    """Print this node's address and answer pings until interrupted."""
    import trio

    from swarm.config import DEFAULT_LISTEN, NodeOptions

    live = runtime.show("listen", json=as_json)

    async def main(node: Node) -> None:
        async with live.following(node):
            for address in node.addresses:
                live.result(None, f"libp2p node address: {address}")
            await trio.sleep_forever()

    runtime.with_node(NodeOptions(listen=listen or DEFAULT_LISTEN, resumes=("swarm listen",)), main)
