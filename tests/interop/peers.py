"""The same few actions on every other libp2p implementation."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.support.interop_go import GoPeer
from tests.support.processes import Processes

DEADLINE = 100.0
"""Seconds for one transfer, the start of its process included."""
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

    def move(self, mode: str, address: str, size: int) -> str:
        """Dial and ``echo``, ``send`` or ``receive`` the pattern; return the SHA-256 in hex."""


class GoImplementation:
    half_close = False

    def __init__(self, peer: GoPeer) -> None:
        self._peer = peer

    @property
    def address(self) -> str:
        return self._peer.address

    def ping(self, address: str, count: int) -> list[float]:
        return self._peer.ping(address, count)

    def move(self, mode: str, address: str, size: int) -> str:
        act = {"echo": self._peer.echo, "send": self._peer.send, "receive": self._peer.receive}[mode]
        return act(address, size).hex()


class _ProgramImplementation:
    """A peer program with the command line that tests/support/interop_peer.py describes."""

    half_close = True

    def __init__(self, processes: Processes, program: Sequence[str | Path]) -> None:
        self._processes = processes
        self._program = list(program)
        self._listening = processes.command([*program, "listen"])

    @property
    def address(self) -> str:
        return self._listening.address()

    def ping(self, address: str, count: int) -> list[float]:
        run = self._processes.command([*self._program, "ping", address, str(count)])
        run.expect_exit(0, within=DEADLINE)
        pings = (re.match(r"pinged \S+ in ([\d.]+)ms$", line) for line in run.lines())
        return [float(ping.group(1)) / 1e3 for ping in pings if ping]

    def move(self, mode: str, address: str, size: int) -> str:
        run = self._processes.command([*self._program, mode, address, str(size)])
        run.expect_exit(0, within=DEADLINE)
        return run.line(rf"^{mode} {size} bytes in \S+ s sha256 (\w+)$").group(1)


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
