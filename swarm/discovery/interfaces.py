"""The network interfaces of this machine that others can be met on, and the news that they have changed."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

import ifaddr
import trio

from swarm.discovery.lan_scope import Interface, IpInterface

logger = logging.getLogger(__name__)

MAX_INTERFACES: Final = 16
"""Of more the first are used: a machine that runs containers can have hundreds."""
SETTLING_SECONDS: Final = 0.3
"""A change of an interface comes as several pieces of news, and its addresses a moment later."""

MAX_NEWS: Final = 4096
"""Pieces of news that are read at once; what is left wakes again."""

_SIOCGIFFLAGS: Final = 0x8913
_UP: Final = 0x1
_POINT_TO_POINT: Final = 0x10
_MULTICAST: Final = 0x1000
_CHANGES: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of Linux."""


def interfaces() -> tuple[Interface, ...]:
    """Those that are up and on which several machines can be, and the loopback.

    Tunnels are left out: what is at their other end is no network of this machine.
    """
    found = []
    for adapter in ifaddr.get_adapters():
        index = adapter.index
        addresses = tuple(address for ip in adapter.ips if (address := _address(ip)) is not None)
        if index is None or not addresses:
            continue
        interface = Interface(index, adapter.name, addresses)
        if interface.is_loopback or _is_shared(adapter.name):
            found.append(interface)
    return tuple(found[:MAX_INTERFACES])


class InterfaceNews:
    """Wakes whoever waits when an interface or an address came or went; a context manager.

    Where the system does not tell, nothing ever wakes.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def __enter__(self) -> InterfaceNews:
        with suppress(OSError):
            self._socket = _listening()
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    async def wait(self) -> None:
        """Return when something has changed and a moment has passed."""
        if self._socket is None:
            await trio.sleep_forever()
            return
        await trio.lowlevel.wait_readable(self._socket.fileno())
        await trio.sleep(SETTLING_SECONDS)
        for _ in range(MAX_NEWS):
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                # More came than the system keeps (ENOBUFS): that too says only that something changed.
                logger.debug("news of interfaces: %s", error)


def _listening() -> socket.socket | None:
    if sys.platform == "linux":
        news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        news.setblocking(False)
        news.bind((0, _CHANGES))
        return news
    if hasattr(socket, "AF_ROUTE"):
        news = socket.socket(socket.AF_ROUTE, socket.SOCK_RAW, 0)
        news.setblocking(False)
        return news
    return None


def _address(ip: ifaddr.IP) -> IpInterface | None:
    text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
    with suppress(ValueError):
        return ipaddress.ip_interface(f"{text}/{ip.network_prefix}")
    return None


def _is_shared(name: str) -> bool:
    """Whether it is up, can multicast and is no tunnel; where that cannot be asked, it is taken for true."""
    if sys.platform != "linux":
        return True
    import fcntl

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", name.encode()[:15], 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)
        return bool(flags & _UP and flags & _MULTICAST and not flags & _POINT_TO_POINT)
    return False
