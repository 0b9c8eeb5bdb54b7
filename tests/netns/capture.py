"""Writes every Ethernet frame of this namespace to a file: python -m tests.netns.capture FILE."""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path

ALL_PROTOCOLS = 3
HEADER_BYTES = 14
DESTINATION = slice(16, 20)


def main() -> None:
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
    print("capturing", flush=True)
    with Path(sys.argv[1]).open("wb", buffering=0) as file:
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


if __name__ == "__main__":
    main()
