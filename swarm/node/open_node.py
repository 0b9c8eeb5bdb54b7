"""Opens a node: its identity, its host, and what it takes part in from the start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from swarm.config import NodeOptions
from swarm.events import Warned
from swarm.node.listening import listening, use_of
from swarm.node.node import Node
from swarm.storage.home_folder import swarm_home
from swarm.storage.identities import hold_identity


@asynccontextmanager
async def open_node(
    options: NodeOptions | None = None, *, tell: Callable[[str], None] | None = None
) -> AsyncIterator[Node]:
    """Open a node with the identity of what it ``serves``, or else the first of the user's that is free.

    Leaving the block ends all transfers. What the block raises arrives as it is, in no group. ``tell`` is
    called with warnings about opening as they come up; without it they are `Warned` events of the node.
    Raises UsageError when an address to listen on is malformed or taken, DiskError when the identity of what
    is shared cannot be kept.
    """
    options = options or NodeOptions()
    failure: BaseException | None = None
    untold: list[str] = []
    async with (
        hold_identity(options.home or swarm_home(), use_of(options), tell or untold.append) as identity,
        listening(identity, options) as host,
        trio.open_nursery() as nursery,
    ):
        try:
            node = Node(host, identity.signing, options, nursery)
            for message in untold:
                node.event_stream.publish(Warned(message))
            try:
                if options.map_port:
                    node.map_port()
                if options.dht:
                    node.enter_tables()
                if options.lan:
                    node.look_around()
                yield node
            finally:
                await node.aclose()
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - carried past the nursery, which would make a group of it
            failure = error
        finally:
            # Not in `aclose`: the caller's block is inside this nursery.
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
