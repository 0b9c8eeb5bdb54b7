"""How a router is asked to lead a port of its own to this machine: PCP, NAT-PMP, and finding UPnP. Pure.

Sources: RFC 6887 (PCP, version 2, the MAP opcode), RFC 6886 (NAT-PMP, version 0), UPnP Device Architecture
1.1 (the search for devices).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final, NamedTuple

PORT: Final = 5351
"""Where a router answers PCP and NAT-PMP."""
NEWS_GROUP: Final = "224.0.0.1"
NEWS_PORT: Final = 5350
"""Where a router that has forgotten its mappings, by a restart, says that it is there."""
SSDP_GROUP: Final = "239.255.255.250"
SSDP_PORT: Final = 1900
MAX_ANSWER_BYTES: Final = 1100
"""The longest answer of PCP; those of the others are shorter, or are cut to it."""

_PCP: Final = 2
_MAP: Final = 1
_ANSWER: Final = 0x80
_TCP: Final = 6
_NONCE_BYTES: Final = 12
_PCP_REQUEST: Final = struct.Struct("!BBHI16s")
_PCP_ANSWER: Final = struct.Struct("!BBBBII12x")
_PCP_MAP: Final = struct.Struct("!12sB3xHH16s")
_PMP_ADDRESS: Final = struct.Struct("!BBHI4s")
_PMP_REQUEST: Final = struct.Struct("!BBHHHI")
_PMP_MAP: Final = struct.Struct("!BBHIHHI")
_PMP_TCP: Final = 2
_UNSUPPORTED_VERSION: Final = 1
_PMP_HEADER: Final = struct.Struct("!BBH")
_LOCATION: Final = re.compile(
    rb"^(?i:LOCATION):[ \t]*(http://(\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?/[\x21-\x7e]{0,200})[ \t]*\r?$",
    re.MULTILINE,
)
_BOOT: Final = re.compile(
    rb"^(?i:BOOTID\.UPNP\.ORG|\d\d-NLS):[ \t]*([\x21-\x7e]{1,64})[ \t]*\r?$", re.MULTILINE
)
_DEVICES: Final = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2))


class MappingRefused(Exception):
    """The router said no; ``another_version`` if it does not speak this protocol."""

    def __init__(self, reason: str, *, another_version: bool = False) -> None:
        super().__init__(reason)
        self.another_version = another_version


class MappedPort(NamedTuple):
    """What a router has granted: a port of its own, for ``seconds``; no ``address`` if it did not say it."""

    address: str
    port: int
    seconds: int


def pcp_request(own: str, nonce: bytes, port: int, wanted: int, seconds: int) -> bytes:
    """Ask by PCP that the router's TCP port ``wanted`` leads to ``port`` of ``own``; 0 seconds: no more."""
    header = _PCP_REQUEST.pack(_PCP, _MAP, 0, seconds, _mapped(own))
    return header + _PCP_MAP.pack(nonce, _TCP, port, wanted, _mapped("0.0.0.0"))  # noqa: S104 - any address


def pcp_answer(data: bytes, nonce: bytes, port: int) -> MappedPort | None:
    """Read an answer to `pcp_request`; None for what is none of it. Raises MappingRefused."""
    if len(data) < _PMP_HEADER.size:
        return None
    if data[0] == 0 and data[1] & _ANSWER:
        raise MappingRefused("the router does not speak PCP", another_version=True)
    if len(data) < _PCP_ANSWER.size or data[:2] != bytes((_PCP, _MAP | _ANSWER)):
        return None
    *_, result, seconds, _ = _PCP_ANSWER.unpack_from(data)
    if result:
        raise MappingRefused(f"PCP result {result}", another_version=result == _UNSUPPORTED_VERSION)
    if len(data) < _PCP_ANSWER.size + _PCP_MAP.size:
        return None
    answered, protocol, inside, outside, address = _PCP_MAP.unpack_from(data, _PCP_ANSWER.size)
    if (answered, protocol, inside) != (nonce, _TCP, port):
        return None
    ip = ipaddress.IPv6Address(address).ipv4_mapped
    return MappedPort("" if ip is None or ip.is_unspecified else str(ip), outside, seconds)


def new_nonce(random_bytes: bytes) -> bytes:
    """What tells this mapping from those of others, who cannot take it away."""
    return random_bytes[:_NONCE_BYTES].ljust(_NONCE_BYTES, b"\0")


def pmp_address_request() -> bytes:
    """Ask by NAT-PMP for the router's own address."""
    return bytes(2)


def pmp_address(data: bytes) -> str | None:
    """Read an answer to `pmp_address_request`; None for what is none of it. Raises MappingRefused."""
    if not _is_pmp(data, 0) or len(data) < _PMP_ADDRESS.size:
        return None
    *_, address = _PMP_ADDRESS.unpack_from(data)
    ip = ipaddress.IPv4Address(address)
    return None if ip.is_unspecified else str(ip)


def pmp_request(port: int, wanted: int, seconds: int) -> bytes:
    """Ask by NAT-PMP that the router's TCP port ``wanted`` leads to ``port``; 0 seconds: no more."""
    return _PMP_REQUEST.pack(0, _PMP_TCP, 0, port, wanted if seconds else 0, seconds)


def pmp_answer(data: bytes, port: int) -> MappedPort | None:
    """Read an answer to `pmp_request`; None for what is none of it. Raises MappingRefused."""
    if not _is_pmp(data, _PMP_TCP) or len(data) < _PMP_MAP.size:
        return None
    _, _, _, _, inside, outside, seconds = _PMP_MAP.unpack_from(data)
    return MappedPort("", outside, seconds) if inside == port else None


def ssdp_searches() -> tuple[bytes, ...]:
    """Ask who in this network is a router."""
    return tuple(
        f"M-SEARCH * HTTP/1.1\r\nHOST: {SSDP_GROUP}:{SSDP_PORT}\r\nST: {device}\r\n"
        'MAN: "ssdp:discover"\r\nMX: 1\r\n\r\n'.encode()
        for device in _DEVICES
    )


def ssdp_location(data: bytes, source: str) -> str | None:
    """Where the router that answered from ``source`` describes itself; None unless that is at ``source``."""
    if not data[:MAX_ANSWER_BYTES].startswith(b"HTTP/1.1 200"):
        return None
    found = _LOCATION.search(data[:MAX_ANSWER_BYTES])
    return found[1].decode() if found is not None and found[2].decode() == source else None


def ssdp_boot(data: bytes) -> bytes | None:
    """What changes when the device that answers or notifies is restarted; None if it does not say."""
    found = _BOOT.search(data[:MAX_ANSWER_BYTES])
    return found[1] if found is not None else None


def is_ssdp_alive(data: bytes) -> bool:
    """Whether a device says by itself that it is there."""
    head = data[:MAX_ANSWER_BYTES].upper()
    return head.startswith(b"NOTIFY ") and b"SSDP:ALIVE" in head


def _is_pmp(data: bytes, opcode: int) -> bool:
    if len(data) < _PMP_HEADER.size:
        return False
    version, answered, result = _PMP_HEADER.unpack_from(data)
    if version == _PCP:
        raise MappingRefused("the router does not speak NAT-PMP", another_version=True)
    if version or answered != opcode | _ANSWER:
        return False
    if result:
        raise MappingRefused(f"NAT-PMP result {result}", another_version=result == _UNSUPPORTED_VERSION)
    return True


def _mapped(address: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{address}").packed
