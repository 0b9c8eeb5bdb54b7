"""The sockets of multicast DNS: one for each interface and kind of address.

Each is bound to the multicast group, not to every address: what is sent to this machine alone at port 5353
stays with the system's own responder, if there is one. All processes of a machine share the port, and each
gets every packet.
"""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio

from swarm.discovery.lan_scope import Interface
from swarm.protocol.dns_message import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)

PORT: Final = 5353
GROUPS: Final = {"ip4": "224.0.0.251", "ip6": "ff02::fb"}
BATCH: Final = 32
"""Packets that are read at once; then others get their turn."""
BATCH_SECONDS: Final = 0.05
"""The pause after a full batch: whoever floods the network gets no more than this of the processor."""
MAX_REMEMBERED: Final = 16
"""Packets of one's own that are recognised when they come back."""

_HOPS: Final = 255
_IP_MULTICAST_ALL: Final = 49
"""Of Linux: without it a socket gets what arrives on the interfaces of others' sockets, too."""


class MulticastSocket:
    """Sends to, and receives from, the nodes of one interface's network; a context manager.

    Raises OSError when the interface cannot do that.
    """

    def __init__(self, interface: Interface, kind: str) -> None:
        self.interface = interface
        self.kind = kind
        self._sent: Counter[bytes] = Counter()
        family = socket.AF_INET if kind == "ip4" else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sys.platform != "linux" and hasattr(socket, "SO_REUSEPORT"):
                # Not on Linux: 6.18 was seen to give a multicast packet to one socket of all that have this
                # option, chosen by a hash, though that one had joined on another interface.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == "ip4":
                self._join_ip4(interface)
            else:
                self._join_ip6(interface.index)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> MulticastSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send to all; what the system refuses is lost, as any packet may be."""
        address = (GROUPS[self.kind], PORT) + ((0, self.interface.index) if self.kind == "ip6" else ())
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            logger.debug("multicast on %s: %s", self.interface.name, error)
            return
        if len(self._sent) >= MAX_REMEMBERED:
            self._sent.clear()
        self._sent[data] += 1

    async def received(self) -> Iterator[tuple[bytes, str]]:
        """Wait for packets; returns them with the addresses that they came from, none of them one's own."""
        await trio.lowlevel.wait_readable(self._socket.fileno())
        packets = list(self._drain())
        if len(packets) >= BATCH:
            await trio.sleep(BATCH_SECONDS)
        return iter(packets)

    def _drain(self) -> Iterator[tuple[bytes, str]]:
        for _ in range(BATCH):
            try:
                data, source, *_ = self._socket.recvfrom(MAX_MESSAGE_BYTES + 1)
            except OSError:
                return
            # Other processes of this machine send from the same address, perhaps the same bytes.
            if self._sent[data]:
                self._sent[data] -= 1
                continue
            del self._sent[data]
            if source[1] == PORT:
                yield data, str(source[0]).partition("%")[0]

    def _join_ip4(self, interface: Interface) -> None:
        group = socket.inet_aton(GROUPS["ip4"])
        # The loopback has no route that would choose an address to speak from.
        own = next(each.ip.packed for each in interface.addresses if each.version == 4)
        member = struct.pack("@4s4si", group, own, interface.index)
        self._socket.bind((GROUPS["ip4"], PORT))
        if sys.platform == "linux":
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)

    def _join_ip6(self, index: int) -> None:
        group = socket.inet_pton(socket.AF_INET6, GROUPS["ip6"])
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.bind((GROUPS["ip6"], PORT, 0, index))
        self._socket.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("@16sI", group, index)
        )
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
