"""Asks the router for a port, by PCP or NAT-PMP over UDP, or by UPnP in a worker thread.

Each client maps one TCP port of this machine, renews the mapping and takes it back. What it raises is
`MappingRefused` or OSError; silence is a None.
"""

from __future__ import annotations

import ipaddress
import random
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import trio

from swarm.protocol import port_mapping as wire
from swarm.protocol.port_mapping import MappedPort, MappingRefused

T = TypeVar("T")
_in_thread: Any = trio.to_thread.run_sync
"""The stubs that mypy finds are of an older trio."""

RETRIES: Final = (0.15, 0.35, 0.7)
"""Seconds that each sending of a request waits for its answer."""
SEARCH_SECONDS: Final = 1.2
"""So long routers have to answer the search of UPnP."""
PORTS_TRIED: Final = 3
"""Ports of the router that are asked for by UPnP, which does not choose one itself."""
FIRST_PORT: Final = 1025
DESCRIPTION: Final = "swarm"
_GATEWAY_FLAG: Final = 0x2


class RouterClient(Protocol):
    """One way of asking the router."""

    name: str

    async def request(self, seconds: int) -> MappedPort | None:
        """Map the port for ``seconds``, or renew that; None if nobody answers."""

    async def release(self) -> None:
        """Take it back; one try."""


def default_gateway() -> str | None:
    """The router out of this machine's IPv4 network; None without one, or if the system does not say."""
    with suppress(OSError, ValueError), Path("/proc/net/route").open(encoding="ascii") as file:
        for line in list(file)[1:]:
            _, target, gateway, flags, *rest = line.split()
            if target == "00000000" and rest[3] == "00000000" and int(flags, 16) & _GATEWAY_FLAG:
                return str(ipaddress.IPv4Address(int(gateway, 16).to_bytes(4, "little")))
    return None


class PcpClient:
    """PCP."""

    name = "PCP"

    def __init__(self, gateway: str, own: str, port: int) -> None:
        self._gateway = gateway
        self._own = own
        self._port = port
        self._wanted = port
        self._nonce = wire.new_nonce(secrets.token_bytes(16))

    async def request(self, seconds: int) -> MappedPort | None:
        """As the protocol says."""
        request = wire.pcp_request(self._own, self._nonce, self._port, self._wanted, seconds)
        async with _talking_to(self._gateway) as router:
            granted = await _ask(router, request, lambda data: wire.pcp_answer(data, self._nonce, self._port))
        if granted is not None and granted.port:
            self._wanted = granted.port
        return granted

    async def release(self) -> None:
        """As the protocol says."""
        request = wire.pcp_request(self._own, self._nonce, self._port, self._wanted, 0)
        async with _talking_to(self._gateway) as router:
            await _ask(router, request, lambda data: wire.pcp_answer(data, self._nonce, self._port))


class PmpClient:
    """NAT-PMP."""

    name = "NAT-PMP"

    def __init__(self, gateway: str, port: int) -> None:
        self._gateway = gateway
        self._port = port
        self._wanted = port

    async def request(self, seconds: int) -> MappedPort | None:
        """As the protocol says."""
        async with _talking_to(self._gateway) as router:
            address = await _ask(router, wire.pmp_address_request(), wire.pmp_address)
            if address is None:
                return None
            request = wire.pmp_request(self._port, self._wanted, seconds)
            granted = await _ask(router, request, lambda data: wire.pmp_answer(data, self._port))
        if granted is None:
            return None
        self._wanted = granted.port
        return granted._replace(address=address)

    async def release(self) -> None:
        """As the protocol says."""
        request = wire.pmp_request(self._port, self._wanted, 0)
        async with _talking_to(self._gateway) as router:
            await _ask(router, request, lambda data: wire.pmp_answer(data, self._port))


class UpnpClient:
    """UPnP, with miniupnpc once our own search has found the router: its own search blocks for seconds."""

    name = "UPnP"

    def __init__(self, own: str, port: int) -> None:
        self._own = own
        self._port = port
        self._wanted = port
        self._location: str | None = None
        self._boot: bytes | None = None
        self._finding = trio.Lock()
        self._permanent = False

    async def find(self) -> bool:
        """Whether a router of this network answers the search."""
        async with self._finding:
            if self._location is None and (found := await _searched(self._own)) is not None:
                self._location, self._boot = found
        return self._location is not None

    def restarted(self, data: bytes, source: str) -> bool:
        """Whether a packet that devices send to everybody says that this router was restarted."""
        at_router = self._location is not None and urlsplit(self._location).hostname == source
        boot = wire.ssdp_boot(data) if at_router and wire.is_ssdp_alive(data) else None
        if boot is None or boot == self._boot:
            return False
        before, self._boot = self._boot, boot
        return before is not None

    async def request(self, seconds: int) -> MappedPort | None:
        """As the protocol says; a router that refuses leases gives the port for good."""
        if not await self.find():
            return None
        location = self._location or ""
        try:
            mapped: MappedPort = await _in_thread(self._map, location, seconds, abandon_on_cancel=True)
        except MappingRefused:
            # After a restart it may describe itself elsewhere.
            self._location = None
            raise
        return mapped

    async def release(self) -> None:
        """As the protocol says."""
        if self._location is not None:
            await _in_thread(self._unmap, self._location, abandon_on_cancel=True)

    def _map(self, location: str, seconds: int) -> MappedPort:
        import miniupnpc

        router = miniupnpc.UPnP()
        last = "no answer"
        try:
            router.selectigd(location)
            address = str(router.externalipaddress())
        except Exception as error:
            raise MappingRefused(f"UPnP: {error}") from error
        for _ in range(PORTS_TRIED):
            # Many routers give a port to whoever asks last.
            is_taken = self._leads_here(router) is False
            if is_taken:
                last = "the port leads to somebody else"
            for lease in () if is_taken else (0,) if self._permanent else (seconds, 0):
                try:
                    router.addportmapping(self._wanted, "TCP", self._own, self._port, DESCRIPTION, "", lease)
                except Exception as error:  # noqa: BLE001 - miniupnpc raises Exception itself
                    last = str(error)
                    continue
                self._permanent = not lease
                return MappedPort(address if _is_ip(address) else "", self._wanted, lease)
            self._wanted = random.SystemRandom().randrange(FIRST_PORT, 1 << 16)
        raise MappingRefused(f"UPnP: {last}")

    def _unmap(self, location: str) -> None:
        import miniupnpc

        router = miniupnpc.UPnP()
        with suppress(Exception):
            router.selectigd(location)
            # Since the last renewal it may have become somebody else's.
            if self._leads_here(router):
                router.deleteportmapping(self._wanted, "TCP")

    def _leads_here(self, router: Any) -> bool | None:
        """Whether the router's port leads here; None if that leads nowhere, or the router does not say."""
        with suppress(Exception):
            found = router.getspecificportmapping(self._wanted, "TCP")
            return None if found is None else found[:2] == (self._own, self._port)
        return None


class RouterNews:
    """What routers tell everybody after a restart; where it cannot be heard, there is none.

    By PCP and NAT-PMP without ``upnp``, otherwise what that one understands.
    """

    def __init__(self, own: str, upnp: UpnpClient | None) -> None:
        self._socket: trio.socket.SocketType | None = None
        self._own = own
        self._upnp = upnp
        here = (wire.NEWS_GROUP, wire.NEWS_PORT)
        self._group, self._port = here if upnp is None else (wire.SSDP_GROUP, wire.SSDP_PORT)

    async def __aenter__(self) -> RouterNews:
        try:
            self._socket = news = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            news.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await news.bind((self._group, self._port))
            member = socket.inet_aton(self._group) + socket.inet_aton(self._own)
            news.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError:
            await self.__aexit__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def wait(self, gateway: str | None) -> None:
        """Return when the router at ``gateway`` says something."""
        if self._socket is None or (gateway is None and self._upnp is None):
            await trio.sleep_forever()
            return
        while True:
            with suppress(OSError):
                data, source = await self._socket.recvfrom(wire.MAX_ANSWER_BYTES)
                upnp = self._upnp
                if upnp.restarted(data, source[0]) if upnp is not None else source[0] == gateway:
                    return


@asynccontextmanager
async def _talking_to(gateway: str) -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as router:
        # Connected: only what comes from there is received, and that nobody listens is told.
        await router.connect((gateway, wire.PORT))
        yield router


async def _ask(router: trio.socket.SocketType, request: bytes, read: Callable[[bytes], T | None]) -> T | None:
    """Send a request until an answer comes; None if none does. Raises MappingRefused, OSError."""
    for seconds in RETRIES:
        await router.send(request)
        with trio.move_on_after(seconds):
            while True:
                answer = read(await router.recv(wire.MAX_ANSWER_BYTES))
                if answer is not None:
                    return answer
    return None


async def _searched(own: str) -> tuple[str, bytes | None] | None:
    """Where a router describes itself, and what changes with its next start."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        await asking.bind((own, 0))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        for search in wire.ssdp_searches():
            await asking.sendto(search, (wire.SSDP_GROUP, wire.SSDP_PORT))
        with trio.move_on_after(SEARCH_SECONDS):
            while True:
                data, source = await asking.recvfrom(wire.MAX_ANSWER_BYTES)
                location = wire.ssdp_location(data, source[0])
                if location is not None and _is_private(source[0]):
                    return location, wire.ssdp_boot(data)
    return None


def _is_ip(text: str) -> bool:
    try:
        return not ipaddress.IPv4Address(text).is_unspecified
    except ValueError:
        return False


def _is_private(address: str) -> bool:
    return not ipaddress.IPv4Address(address).is_global
