"""The same few actions on every other libp2p implementation."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tests.support.interop_go import GoPeer
from tests.support.processes import Processes

DEADLINE = 100.0
"""Seconds for the transfers of one process, the start of its process included."""
PEER = (sys.executable, "-m", "tests.support.interop_peer")


class Implementation(Protocol):
    """One running peer of another implementation."""

    half_close: bool
    """Whether its side can go on after the other side's FIN."""

    @property
    def address(self) -> str:
        """Where it listens, with ``/p2p/<id>``."""

    def ping(self, address: str, count: int) -> list[float]:
        """Ping; return the round trips in seconds."""

    def move(self, modes: Sequence[str], address: str, sizes: Sequence[int]) -> list[str]:
        """Dial and ``echo``, ``send`` or ``receive`` each size of the pattern; return each SHA-256 in hex."""


class GoImplementation:
    half_close = False

    def __init__(self, peer: GoPeer) -> None:
        self._peer = peer

    @property
    def address(self) -> str:
        return self._peer.address

    def ping(self, address: str, count: int) -> list[float]:
        return self._peer.ping(address, count)

    def move(self, modes: Sequence[str], address: str, sizes: Sequence[int]) -> list[str]:
        acts = {"echo": self._peer.echo, "send": self._peer.send, "receive": self._peer.receive}
        return [acts[mode](address, size).hex() for mode in modes for size in sizes]


class _ProgramImplementation:
    """A peer program with the command line that tests/support/interop_peer.py describes."""

    half_close = True

    def __init__(self, processes: Processes, program: Sequence[str | Path]) -> None:
        self._processes = processes
        self._program = list(program)

    @cached_property
    def address(self) -> str:
        return self._processes.command([*self._program, "listen"]).address()

    def ping(self, address: str, count: int) -> list[float]:
        run = self._processes.command([*self._program, "ping", address, str(count)])
        run.expect_exit(0, within=DEADLINE)
        pings = (re.match(r"pinged \S+ in ([\d.]+)ms$", line) for line in run.lines())
        return [float(ping.group(1)) / 1e3 for ping in pings if ping]

    def move(self, modes: Sequence[str], address: str, sizes: Sequence[int]) -> list[str]:
        numbers = ",".join(map(str, sizes))
        run = self._processes.command([*self._program, ",".join(modes), address, numbers])
        run.expect_exit(0, within=DEADLINE)
        return [
            run.line(rf"^{mode} {size} bytes in \S+ s sha256 (\w+)$").group(1)
            for mode in modes
            for size in sizes
        ]


class JsImplementation(_ProgramImplementation):
    """js-libp2p."""


class StockImplementation(_ProgramImplementation):
    """py-libp2p as it comes."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes, PEER)


class OwnHost(_ProgramImplementation):
    """swarm's own host, serving and dialling the same test protocols."""

    def __init__(self, processes: Processes, *, half_close: bool) -> None:
        super().__init__(processes, [*PEER, "--swarm", *([] if half_close else ["--late-fin"])])
