"""Moves Ethernet frames between two interfaces, each after a delay.

python -m tests.netns.delay ONE OTHER SECONDS
"""

from __future__ import annotations

import heapq
import select
import socket
import sys
import time

from tests.netns.capture import ALL_PROTOCOLS, SO_RCVBUFFORCE

OUTGOING = 4
FRAME_BYTES = 65536


def main() -> None:
    names, delay = sys.argv[1:3], float(sys.argv[3])
    ends = []
    for name in names:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        end.bind((name, ALL_PROTOCOLS))
        end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        ends.append(end)
    waiting: list[tuple[float, int, bytes, socket.socket]] = []
    number = 0
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select(ends, [], [], timeout)
        for end in ready:
            frame, origin = end.recvfrom(FRAME_BYTES)
            if origin[2] != OUTGOING:
                number += 1
                other = ends[1 - ends.index(end)]
                heapq.heappush(waiting, (time.monotonic() + delay, number, frame, other))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, frame, other = heapq.heappop(waiting)
            other.send(frame)


if __name__ == "__main__":
    main()
