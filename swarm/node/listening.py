"""Opens the host of a node under its identity, at the port of the last time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swarm.config import DEFAULT_LISTEN, NodeOptions
from swarm.net.addresses import parse_listen_address
from swarm.net.host import Host, at_one_port, has_ipv6, open_host
from swarm.storage.home import StoredIdentity, remember_port, remembered_port
from swarm.storage.identities import IdentityUse


@asynccontextmanager
async def listening(identity: StoredIdentity, options: NodeOptions) -> AsyncIterator[Host]:
    """Open the host. Where any port will do it takes the one of last time: links name it."""
    wanted = [parse_listen_address(text) for text in options.listen]
    if options.listen == DEFAULT_LISTEN and not has_ipv6():
        wanted = [endpoint for endpoint in wanted if endpoint.kind != "ip6"]
    chosen = at_one_port(wanted, await remembered_port(identity))
    listen = list(map(str, chosen))
    async with open_host(identity.private, listen, max_connections=options.max_connections) as host:
        ports = [found.port for asked, found in zip(wanted, chosen, strict=True) if asked.port == 0]
        if ports:
            await remember_port(identity, ports[0])
        yield host


def use_of(options: NodeOptions) -> IdentityUse:
    """What an identity is wanted for."""
    serves = tuple(os.path.realpath(path) for path in options.serves)
    return IdentityUse(serves, options.resumes, options.listen, options.manifests)
