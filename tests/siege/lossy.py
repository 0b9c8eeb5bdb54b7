"""Two hosts on a lossy path: namespaces with a TUN device each, packets carried by this process.

``with LossyPath(loss, seconds) as path`` makes them; ``path.inside(0, …)`` is a command that runs on the
first. A packet that is not lost arrives ``seconds`` / 2 after it was sent, in order; one in 1/``loss`` is
lost, in either direction, at a random place of each such run of packets, so that short runs have their
share, too.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x1, 0x1000
CLONE_NEWNET = 0x40000000
MTU = 1500
QUEUE_PACKETS = 4096
"""What is on its way in one direction; more is dropped, as a router would."""


class Unavailable(Exception):
    """This machine has no such network; one line says why."""


def _open_tun(namespace: str, name: str) -> int:
    """A TUN device inside a namespace; runs in a thread of its own, whose namespace it changes."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(place, CLONE_NEWNET):
            raise Unavailable(f"setns failed: {os.strerror(ctypes.get_errno())}")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return tun
    finally:
        os.close(place)


class LossyPath:
    """See the module's text."""

    def __init__(self, loss: float, seconds: float, seed: int = 1) -> None:
        self._names = [f"lossy-{os.getpid()}-{side}" for side in "ab"]
        self.addresses = ["198.18.77.1", "198.18.77.2"]
        self._period = round(1 / loss)
        self._delay = seconds / 2
        self._random = random.Random(seed)
        self._tuns: list[int] = []
        self._stop_read, self._stop_write = os.pipe()
        self._thread: threading.Thread | None = None
        self.carried = self.lost = 0

    def __enter__(self) -> Self:
        if not Path("/dev/net/tun").exists() or os.geteuid() != 0:
            raise Unavailable("a lossy path needs root and /dev/net/tun")
        try:
            for name, mine, other in zip(self._names, self.addresses, self.addresses[::-1], strict=True):
                self._make(name, mine, other)
        except BaseException:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        return self

    def _make(self, name: str, mine: str, other: str) -> None:
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
        opened: list[int | BaseException] = []

        def work() -> None:
            try:
                opened.append(_open_tun(name, "tun0"))
            except (OSError, Unavailable) as error:
                opened.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(opened[0], BaseException):
            raise Unavailable(str(opened[0]))
        self._tuns.append(opened[0])
        for arguments in (
            ("addr", "add", mine, "peer", other, "dev", "tun0"),
            ("link", "set", "tun0", "mtu", str(MTU), "up"),
            ("link", "set", "lo", "up"),
        ):
            subprocess.run(["ip", "-n", name, *arguments], check=True, capture_output=True)

    def inside(self, side: int, *argv: object) -> list[str]:
        """The command that runs ``argv`` on one of the two."""
        return ["ip", "netns", "exec", self._names[side], *map(str, argv)]

    def _carry(self) -> None:
        queues: list[list[tuple[float, int, bytes]]] = [[], []]
        victim = [self._random.randrange(self._period) for _ in range(2)]
        count = [0, 0]
        while True:
            due = min((queue[0][0] for queue in queues if queue), default=None)
            wait = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([*self._tuns, self._stop_read], [], [], wait)
            if self._stop_read in ready:
                return
            now = time.monotonic()
            for side, tun in enumerate(self._tuns):
                while tun in ready:
                    try:
                        packet = os.read(tun, 65536)
                    except BlockingIOError:
                        break
                    place = count[side] % self._period
                    count[side] += 1
                    if place == self._period - 1:
                        victim[side], lost = self._random.randrange(self._period), place == victim[side]
                    else:
                        lost = place == victim[side]
                    if lost or len(queues[side]) > QUEUE_PACKETS:
                        self.lost += 1
                    else:
                        heapq.heappush(queues[side], (now + self._delay, count[side], packet))
                queue = queues[side]
                while queue and queue[0][0] <= now:
                    self.carried += 1
                    try:
                        os.write(self._tuns[1 - side], heapq.heappop(queue)[2])
                    except OSError:
                        continue

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_write, b"x")
        if self._thread:
            self._thread.join()
        self._remove()

    def _remove(self) -> None:
        for tun in self._tuns:
            os.close(tun)
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        os.close(self._stop_read)
        os.close(self._stop_write)
