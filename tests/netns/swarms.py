"""One swarm on a limited network: a seeder, leechers that start together, and what each of them moved."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from swarm.content.signature import sign
from swarm.storage.identities import first_identity
from tests.benchmarks.measuring import sha256
from tests.netns.network import Network, payload_rate
from tests.support.processes import Processes, ProcessFailure, Running

PORT = 4001
READY_SECONDS = 60.0
END_SECONDS = 15.0
POLL_SECONDS = 0.02
"""How often the leechers' folders are looked at; what a makespan may be too long by."""


@dataclass(frozen=True, slots=True)
class Case:
    """A swarm to measure; ``acquainted`` leechers are given each other, others the seeder alone."""

    leechers: int
    bits: int
    size: int
    acquainted: bool

    def optimum(self, pieces: int) -> float:
        """The least possible time in seconds, Mundinger, Weber and Weiss (2008), for equal uplinks."""
        steps = 1 + math.ceil(math.log2(self.leechers + 1)) / pieces
        return self.size / payload_rate(self.bits) * steps

    def __str__(self) -> str:
        known = "everybody known" if self.acquainted else "seeder known"
        return f"{self.leechers} leechers, {self.bits // 10**6} Mbit/s, {self.size >> 20} MiB, {known}"


@dataclass(frozen=True, slots=True)
class Moved:
    """Payload bytes of one process."""

    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of one case came to; times are seconds since the first leecher was started."""

    case: Case
    pieces: int
    makespan: float
    first: float
    seeder_sent: int
    seeder_wire: int
    leechers: tuple[Moved, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the case."""
        fields = dataclasses.asdict(self)
        del fields["case"]
        return fields

    @classmethod
    def from_json(cls, case: Case, fields: dict[str, Any]) -> Outcome:
        """The reverse of `to_json`."""
        leechers = tuple(Moved(**each) for each in fields["leechers"])
        return cls(case, **{**fields, "leechers": leechers})

    @property
    def ratio(self) -> float:
        """The makespan in multiples of the optimum."""
        return self.makespan / self.case.optimum(self.pieces)

    @property
    def copies(self) -> float:
        """Copies of the file that the seeder sent."""
        return self.seeder_sent / self.case.size

    @property
    def duplicates(self) -> float:
        """The most duplicate bytes of one leecher, as a share of the file."""
        return max((each.received - self.case.size) / self.case.size for each in self.leechers)


class Contestant(ABC):
    """A program that shares a file among hosts."""

    name: str

    @abstractmethod
    def prepare(self, processes: Processes, network: Network, content: Path) -> int:
        """Start the seeder on host 0 and wait until it serves; return the number of pieces."""

    @abstractmethod
    def leech(self, host: int, known: Sequence[int]) -> Path:
        """Start the leecher on ``host``, which knows the hosts ``known``; return what exists at its end."""

    @abstractmethod
    def fetched(self, host: int) -> Path:
        """The file that a leecher has fetched."""

    @abstractmethod
    def moved(self) -> list[Moved]:
        """End all processes; return what they moved, the seeder first."""

    def run(
        self, case: Case, processes: Processes, network: Network, content: Path, within: float
    ) -> Outcome:
        """Run one swarm to its end and compare what arrived; raises ProcessFailure."""
        pieces = self.prepare(processes, network, content)
        hosts = range(1, case.leechers + 1)
        before = network.sent(0)
        began = time.monotonic()
        goals = {}
        for host in hosts:
            others = [other for other in range(case.leechers + 1) if other != host]
            goals[host] = self.leech(host, others if case.acquainted else [0])
        ends = self._watch(goals, began, within, processes)
        wire = network.sent(0) - before
        seeder, *leechers = self.moved()
        wanted = sha256(content)
        if wrong := [host for host in hosts if sha256(self.fetched(host)) != wanted]:
            raise ProcessFailure(f"{self.name}: hosts {wrong} have something else")
        return Outcome(case, pieces, max(ends), min(ends), seeder.sent, wire, tuple(leechers))

    def _watch(
        self, goals: dict[int, Path], began: float, within: float, processes: Processes
    ) -> list[float]:
        ends: dict[int, float] = {}
        while len(ends) < len(goals):
            now = time.monotonic() - began
            if now > within:
                slow = sorted(set(goals) - set(ends))
                raise ProcessFailure(
                    f"{self.name}: hosts {slow} not done in {within:g} s\n{processes.describe()}"
                )
            for host, goal in goals.items():
                if host not in ends and goal.exists():
                    ends[host] = now
            time.sleep(POLL_SECONDS)
        return list(ends.values())


class Swarm(Contestant):
    """`swarm share` and `swarm fetch --seed`, as a user starts them."""

    name = "swarm"
    options: tuple[str, ...] = ()
    """More of them for each leecher."""

    def prepare(self, processes: Processes, network: Network, content: Path) -> int:
        self._processes = processes
        self._network = network
        self._name = content.name
        self.manifest = processes.folder / "content.swarm"
        self._ids = [self._identity(host) for host in range(network.size)]
        self._running = [self._start(0, "share", content, "--manifest", self.manifest)]
        return self._until_shared()

    def _identity(self, host: int) -> str:
        identity = trio.run(first_identity, self._processes.home(f"host{host}"))
        return sign(identity.private, b"").peer_id

    def address(self, host: int) -> str:
        """Where a host can be dialled."""
        return f"/ip4/{self._network.address(host)}/tcp/{PORT}/p2p/{self._ids[host]}"

    def _told(self, host: int) -> Path:
        return self._processes.folder / f"host{host}.jsonl"

    def _start(self, host: int, *arguments: str | Path) -> Running:
        listen = f"/ip4/{self._network.address(host)}/tcp/{PORT}"
        argv = [sys.executable, "-m", "swarm", *arguments, "--listen", listen, "--json=pieces"]
        inside = self._network.inside(host, *argv)
        # Read when all is over: a reader that wakes for every line slows what it watches.
        return self._processes.command(inside, name=f"host{host}", stdout=self._told(host))

    def _until_shared(self) -> int:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for event in events(self._told(0)):
                if event["event"] == "node_listening":
                    # A share has an identity of its own.
                    self._ids[0] = event["peer"]
                if event["event"] == "path_shared":
                    return int(event["pieces"])
            time.sleep(POLL_SECONDS)
        raise ProcessFailure(f"the seeder is not ready\n{self._running[0].describe()}")

    def leech(self, host: int, known: Sequence[int]) -> Path:
        peers = [self.address(other) for other in known]
        output = self.fetched(host).parent
        options = ("--output", output, "--seed", *self.options)
        self._running.append(self._start(host, "fetch", self.manifest, *peers, *options))
        return self.fetched(host)

    def fetched(self, host: int) -> Path:
        return self._processes.folder / f"host{host}" / "out" / self._name

    def moved(self) -> list[Moved]:
        for running in self._running:
            running.terminate()
        for running in self._running:
            running.expect_exit(128 + signal.SIGTERM, END_SECONDS)
        return [self._moved(host) for host in range(len(self._running))]

    def _moved(self, host: int) -> Moved:
        told = events(self._told(host))
        sent, received = (
            sum(event["size"] for event in told if event["event"] == kind)
            for kind in ("bytes_sent", "bytes_received")
        )
        return Moved(sent, received)


class Sequential(Swarm):
    """Every leecher fetches in order."""

    name = "swarm --sequential"
    options = ("--sequential",)


def events(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Torrent(Contestant):
    """libtorrent, as `torrent_peer` sets it up."""

    name = "libtorrent"

    def prepare(self, processes: Processes, network: Network, content: Path) -> int:
        self._processes = processes
        self._network = network
        self._name = content.name
        self._torrent = processes.folder / "content.torrent"
        # Not installed where only the tests run.
        from tests.netns.torrent_peer import make_torrent

        pieces = make_torrent(content, self._torrent)
        seeder = self._start(0, content.parent, "--seed")
        seeder.line("^begun$", READY_SECONDS)
        self._running = [seeder]
        return pieces

    def _start(self, host: int, folder: Path, *arguments: str) -> Running:
        program = [sys.executable, "-m", "tests.netns.torrent_peer", self._torrent, folder]
        listen = ("--listen", f"{self._network.address(host)}:{PORT}", "--mark", self._mark(host))
        inside = self._network.inside(host, *program, *listen, *arguments)
        return self._processes.command(inside, name=f"host{host}")

    def leech(self, host: int, known: Sequence[int]) -> Path:
        folder = self.fetched(host).parent
        folder.mkdir(parents=True)
        peers = [f"--peer={self._network.address(other)}:{PORT}" for other in known]
        self._running.append(self._start(host, folder, *peers))
        return self._mark(host)

    def _mark(self, host: int) -> Path:
        return self._processes.folder / f"host{host}.finished"

    def fetched(self, host: int) -> Path:
        return self._processes.folder / f"host{host}" / "out" / self._name

    def moved(self) -> list[Moved]:
        for running in self._running:
            running.terminate()
        for running in self._running:
            running.expect_exit(0, END_SECONDS)
        reports = [json.loads(running.lines(r"^\{")[0]) for running in self._running]
        return [Moved(report["sent"], report["received"]) for report in reports]
