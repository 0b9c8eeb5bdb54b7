"""Opens the host of a node under its identity, at the port of the last time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from swarm.config import DEFAULT_LISTEN, NodeOptions
from swarm.endpoint import Endpoint
from swarm.errors import UsageError
from swarm.net.addresses import parse_listen_address
from swarm.net.host import Host, all_can_listen, at_one_port, has_ipv6, open_host
from swarm.storage.home import StoredIdentity, remember_port, remembered_port
from swarm.storage.identities import IdentityUse

RELEASE_SECONDS, RELEASE_LOOKS = 0.5, 20
"""How long the port of last time is waited for if it is taken, and how often it is looked at meanwhile."""

RACES = 5
"""Times that a free port is chosen if another process takes each before this one has it."""


@asynccontextmanager
async def listening(identity: StoredIdentity, options: NodeOptions) -> AsyncIterator[Host]:
    """Open the host. Where any port will do it takes the one of last time: links name it."""
    wanted = [parse_listen_address(text) for text in options.listen]
    if options.listen == DEFAULT_LISTEN and not has_ipv6():
        wanted = [endpoint for endpoint in wanted if endpoint.kind != "ip6"]
    port = await remembered_port(identity)
    for _ in range(RELEASE_LOOKS):
        if not port or all_can_listen(wanted, port):
            break
        # A process that was killed lets go of its identity a moment before its port, and nothing tells when.
        await trio.sleep(RELEASE_SECONDS / RELEASE_LOOKS)
    async with AsyncExitStack() as stack:
        host, chosen = await _open_at_one_port(stack, identity, options, wanted, port)
        ports = [found.port for asked, found in zip(wanted, chosen, strict=True) if asked.port == 0]
        if ports:
            await remember_port(identity, ports[0])
        yield host


async def _open_at_one_port(
    stack: AsyncExitStack,
    identity: StoredIdentity,
    options: NodeOptions,
    wanted: Sequence[Endpoint],
    port: int,
) -> tuple[Host, Sequence[Endpoint]]:
    """Open the host; another process may take the port that is chosen before it listens there."""
    for left in reversed(range(RACES)):
        chosen = at_one_port(wanted, port)
        listen = list(map(str, chosen))
        opening = open_host(identity.private, listen, max_connections=options.max_connections)
        try:
            return await stack.enter_async_context(opening), chosen
        except UsageError:
            if not left or chosen == wanted:
                raise
    raise AssertionError


def use_of(options: NodeOptions) -> IdentityUse:
    """What an identity is wanted for."""
    serves = tuple(os.path.realpath(path) for path in options.serves)
    return IdentityUse(serves, options.resumes, options.listen, options.manifests)
