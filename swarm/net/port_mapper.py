"""Keeps a port of the router leading to this machine while a node runs, by whatever the router speaks."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from swarm.endpoint import Endpoint
from swarm.net.addresses import route_source
from swarm.net.router_memory import RouterMemory
from swarm.net.router_protocols import (
    PcpClient,
    PmpClient,
    RouterClient,
    RouterNews,
    UpnpClient,
    default_gateway,
)
from swarm.net.streams import shielded
from swarm.protocol.port_mapping import MappedPort, MappingRefused

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 3600
"""What is asked for; it is renewed when half of what was granted is over."""
SHORTEST_RENEWAL: Final = 5.0
"""Seconds between two renewals at least, whatever a router grants."""
AGAIN_SECONDS: Final = 600.0
"""When no router answered, it is tried again so much later, or when the machine has moved."""
LOOK_SECONDS: Final = 15.0
"""So often it is looked at whether the machine has moved to another network, or was suspended."""
MISSED_SECONDS: Final = 300.0
"""So long a router that gave a port and fell silent is asked every LOOK_SECONDS, and not noted as silent.

After a suspension the network may take longer to come back than the address and the route.
"""
HEAD_STARTS: Final = (0.0, 0.2, 0.4)
"""Seconds after which PCP, NAT-PMP and UPnP ask for the port, or earlier if those before have failed.

All look for the router at once; but two of them would give the same port twice, and then take it away twice.
"""
RENEWALS_TRIED: Final = 3
RENEWAL_PAUSE: Final = 1.0
RELEASE_SECONDS: Final = 1.0
"""So long the end of a node waits for the router to take its port back."""


class NetworkPlace(NamedTuple):
    """What tells one network from another: this machine's address there, and the router as far as known."""

    own: str
    gateway: str | None


class PortLease(NamedTuple):
    """Where the router leads to this node; ``seconds`` is the lease, 0 for a port that is given for good."""

    endpoint: Endpoint
    protocol: str
    seconds: int


Told = Callable[[PortLease | None], None]
"""Told of each mapping that is new, and None when there is none (any more)."""


class PortMapper:
    """Maps one port while `run` runs; tells of it, and takes it back at the end.

    ``listening`` is where the node listens: one IPv4 port of it is mapped. ``memory`` says whether the router
    has been silent before: then it is asked again, but nobody needs to wait for it.
    """

    def __init__(self, listening: Sequence[Endpoint], told: Told, memory: RouterMemory | None = None) -> None:
        self._listening = listening
        self._told = told
        self.decided = trio.Event()
        """Whether a router has answered is known, or not to be expected."""
        self._memory = memory
        if memory is not None and memory.is_silent:
            self.decided.set()
        self._held: RouterClient | None = None
        self._place: NetworkPlace | None = None
        """Where this machine was when a router was last looked for."""
        self._lost: tuple[NetworkPlace | None, float] = (None, 0.0)
        """Where a port was lost the last time without a move, and when."""
        self._pcp: dict[NetworkPlace, PcpClient] = {}

    async def run(self) -> None:
        """Find a router, ask it, and renew the mapping until cancelled."""
        try:
            while True:
                was_mapped = await self._map()
                self.decided.set()
                if not was_mapped:
                    with trio.move_on_after(LOOK_SECONDS if self._is_missed() else AGAIN_SECONDS):
                        await self._until_moved()
        except Exception:
            if self._held is not None:
                self._told(None)
            raise
        finally:
            await self._release()

    async def _map(self) -> bool:
        """Get a port and keep it until it or its network is lost; False at once if there is none to get."""
        self._held = None
        self._place = here = _whereabouts()
        clients = [] if here is None else self._clients(here.own)
        if here is None or not clients:
            return False
        found = await self._first_granted(clients)
        known = found is not None or not self._is_missed()
        if self._memory is not None and known and _whereabouts() == here:
            self._memory.note(silent=found is None)
        if found is None:
            return False
        self._held, granted = found
        self._tell(*found)
        async with RouterNews(here.own, found[0] if isinstance(found[0], UpnpClient) else None) as news:
            await self._renew(self._held, granted, news)
        self._told(None)
        if self._has_moved():
            # The router may still be in reach, by another address or beside a tunnel: it would lead nowhere.
            await self._release()
        else:
            self._lost = here, trio.current_time()
        return True

    def _is_missed(self) -> bool:
        """Whether the router of this place gave a port and was lost a short time ago."""
        place, at = self._lost
        return place is not None and place == self._place and trio.current_time() < at + MISSED_SECONDS

    def _has_moved(self) -> bool:
        """Whether it is elsewhere now; without a route it is nowhere, and may come back."""
        now = _whereabouts()
        return now is not None and now != self._place

    async def _until_moved(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            if self._has_moved():
                return

    def _clients(self, own: str) -> list[RouterClient]:
        here = Endpoint("ip4", own, "tcp", 0)
        ports = [
            each.port
            for each in self._listening
            if each.kind == "ip4" and (each.is_unspecified or each.same_host(here))
        ]
        if not ports or here.is_public or here.is_loopback:
            return []
        gateway = default_gateway()
        asked: list[RouterClient] = []
        if gateway is not None:
            # The router of a place refuses another nonce until the lease of the earlier mapping is over.
            pcp = self._pcp.setdefault(NetworkPlace(own, gateway), PcpClient(gateway, own, ports[0]))
            asked += [pcp, PmpClient(gateway, ports[0])]
        return [*asked, UpnpClient(own, ports[0])]

    async def _first_granted(self, clients: Sequence[RouterClient]) -> tuple[RouterClient, MappedPort] | None:
        """Ask by all of the protocols; what the first one is granted."""
        found: list[tuple[RouterClient, MappedPort]] = []
        failed = [trio.Event() for _ in clients]
        async with trio.open_nursery() as nursery:

            async def ask(number: int, client: RouterClient) -> None:
                if isinstance(client, UpnpClient):
                    nursery.start_soon(_prepare, client)
                with trio.move_on_after(HEAD_STARTS[number]):
                    for earlier in failed[:number]:
                        await earlier.wait()
                granted = await _granted(client, LEASE_SECONDS)
                if granted is not None and granted.address:
                    found.append((client, granted))
                    nursery.cancel_scope.cancel()
                failed[number].set()

            for number, client in enumerate(clients):
                nursery.start_soon(ask, number, client)
        return found[0] if found else None

    async def _renew(self, client: RouterClient, granted: MappedPort, news: RouterNews) -> None:
        """Renew until the router does not answer or refuses, or the machine has moved."""
        while True:
            await self._until_due((granted.seconds or LEASE_SECONDS) / 2, news)
            if self._has_moved():
                return
            for _ in range(RENEWALS_TRIED):
                renewed = await _granted(client, LEASE_SECONDS)
                if renewed is not None:
                    break
                await trio.sleep(RENEWAL_PAUSE)
            else:
                return
            if renewed._replace(seconds=0) != granted._replace(seconds=0) and renewed.address:
                self._tell(client, renewed)
            granted = renewed

    async def _until_due(self, seconds: float, news: RouterNews) -> None:
        """Wait until the port is to be asked for again, ``seconds`` at most, or the machine has moved."""
        until = trio.current_time() + seconds
        suspended = seconds_suspended()
        await trio.sleep(SHORTEST_RENEWAL)
        while (left := until - trio.current_time()) > 0:
            with trio.move_on_after(min(left, LOOK_SECONDS)):
                # A router that was restarted has forgotten the port.
                await news.wait(default_gateway())
                return
            # The lease of a machine that was suspended has gone on meanwhile.
            if self._has_moved() or seconds_suspended() - suspended > LOOK_SECONDS:
                return

    def _tell(self, client: RouterClient, granted: MappedPort) -> None:
        endpoint = Endpoint("ip4", granted.address, "tcp", granted.port)
        self._told(PortLease(endpoint, client.name, granted.seconds))
        self.decided.set()

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        with shielded(RELEASE_SECONDS):
            try:
                await held.release()
            except (MappingRefused, OSError) as error:
                logger.debug("%s: %s", held.name, error)


def _whereabouts() -> NetworkPlace | None:
    own = route_source("ip4")
    return None if own is None else NetworkPlace(own, default_gateway())


def seconds_suspended() -> float:
    """How long this machine was suspended since its start, where the system says so: no timer counts that."""
    if sys.platform != "linux":
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


async def _prepare(client: UpnpClient) -> None:
    try:
        await client.find()
    except OSError as error:
        logger.debug("UPnP: %s", error)


async def _granted(client: RouterClient, seconds: int) -> MappedPort | None:
    try:
        return await client.request(seconds)
    except (MappingRefused, OSError) as error:
        logger.debug("%s: %s", client.name, error)
        return None
