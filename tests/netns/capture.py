"""Writes every Ethernet frame of this namespace to a file: python -m tests.netns.capture FILE.

SIGTERM ends it, once all that has been sent by then is written.

And what is looked for in them: where packets went, and whether a manifest's id is among them in clear text.
"""

from __future__ import annotations

import base64
import ipaddress
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import base58

from swarm.ids import ManifestId

ALL_PROTOCOLS = 3
BUFFER_BYTES = 64 << 20
SO_RCVBUFFORCE = 33
"""As SO_RCVBUF, without the system's limit (`socket(7)`): a full buffer would lose packets."""
HEADER_BYTES = 14
DESTINATION = slice(16, 20)
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"
PORTS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


class Packet(NamedTuple):
    """Of TCP or UDP: where from, and where to."""

    protocol: str
    source: str
    destination: str
    port: int


def main() -> None:
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    signal.signal(signal.SIGTERM, lambda *_: listener.setblocking(False))
    print("capturing", flush=True)
    with Path(sys.argv[1]).open("wb", buffering=0) as file, suppress(BlockingIOError):
        while True:
            frame = listener.recv(1 << 16)
            file.write(len(frame).to_bytes(4, "big") + frame)


def frames(path: Path) -> list[bytes]:
    """What was captured so far."""
    data, found, at = path.read_bytes(), [], 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def destinations(path: Path) -> set[str]:
    """The IPv4 addresses that packets went to, but for multicast: the kernel itself tells of its groups."""
    packets = [frame[HEADER_BYTES:] for frame in frames(path) if frame[12:14] == b"\x08\x00"]
    found = {socket.inet_ntoa(packet[DESTINATION]) for packet in packets}
    return {each for each in found if not ipaddress.ip_address(each).is_multicast}


def packets(path: Path) -> set[Packet]:
    """All kinds of packets of TCP and UDP."""
    return set(filter(None, map(_packet, frames(path))))


def _packet(frame: bytes) -> Packet | None:
    kind, body = frame[12:14], frame[HEADER_BYTES:]
    if kind == IPV4:
        header, protocol = (body[0] & 15) * 4, body[9]
        source, destination = socket.inet_ntoa(body[12:16]), socket.inet_ntoa(body[16:20])
    elif kind == IPV6:
        header, protocol = 40, body[6]
        source, destination = (socket.inet_ntop(socket.AF_INET6, body[at : at + 16]) for at in (8, 24))
    else:
        return None
    port = int.from_bytes(body[header + 2 : header + 4], "big")
    return Packet(PORTS[protocol], source, destination, port) if protocol in PORTS else None


def spellings(manifest: ManifestId) -> set[bytes]:
    """A manifest's id as a program may write it: bytes, hex, base32, base58 and base64.

    The digest alone, as a multihash, and as a CID.
    """
    found: set[bytes] = set()
    multihash = b"\x1e\x20" + manifest.digest
    for data in (manifest.digest, multihash, b"\x01\x71" + multihash, b"\x01\x55" + multihash):
        base32 = base64.b32encode(data).rstrip(b"=")
        found |= {data, data.hex().encode(), data.hex().upper().encode(), base32, base32.lower()}
        found |= {base58.b58encode(data), base64.b64encode(data).rstrip(b"=")}
        found.add(base64.urlsafe_b64encode(data).rstrip(b"="))
    return found


def told(captured: bytes, secrets: Iterable[bytes]) -> set[bytes]:
    """Those of the secrets that are in what was captured, also if one is cut in two by a packet's end."""
    halves = {each: (each[: len(each) // 2], each[len(each) // 2 :]) for each in secrets}
    return {secret for secret, parts in halves.items() if any(part in captured for part in parts)}


if __name__ == "__main__":
    main()
