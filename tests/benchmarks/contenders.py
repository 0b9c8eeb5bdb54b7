"""Each way to bring a file from one process to another on loopback, measured the same way."""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import Transfer, cpu_seconds, peak_rss, sha256
from tests.support.processes import Processes, Running

START_DEADLINE = 120.0
"""Seconds that a sender may take to be ready: it hashes the file first."""
TRANSFER_DEADLINE = 600.0
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@dataclass(frozen=True, slots=True)
class Content:
    """The file to transfer."""

    path: Path
    size: int
    sha256: str


@dataclass(slots=True)
class Readings:
    """Processor times of both ends when the transfer began."""

    sender: Running
    receiver: Running
    sender_cpu: float
    receiver_cpu: float

    @classmethod
    def take(cls, sender: Running, receiver: Running) -> Readings:
        return cls(sender, receiver, cpu_seconds(sender), cpu_seconds(receiver))

    def transfer(self, size: int, seconds: float) -> Transfer:
        """Read both ends now that the transfer has ended, and let the receiver end."""
        sender_cpu = cpu_seconds(self.sender) - self.sender_cpu
        sender_rss = peak_rss(self.sender)
        self.receiver.expect_exit(0)
        usage = self.receiver.usage()
        return Transfer(
            size=size,
            seconds=seconds,
            whole_seconds=self.receiver.elapsed(),
            receiver_cpu=usage.cpu_seconds - self.receiver_cpu,
            sender_cpu=sender_cpu,
            receiver_rss=usage.peak_rss,
            sender_rss=sender_rss,
        )


class Contender(ABC):
    """One way to transfer."""

    name: str
    module: str
    """What must be importable for it."""

    @abstractmethod
    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        """Transfer once into ``folder``; raises ProcessFailure when it fails or the content is wrong."""


def check(path: Path, content: Content) -> None:
    """Raise ValueError unless the received file is the one that was sent."""
    received = sha256(path)
    if received != content.sha256:
        raise ValueError(f"{path.name}: received {received}, sent {content.sha256}")


class StockStream(Contender):
    """One stream of py-libp2p as it comes: nothing is stored or hashed."""

    name = "stock py-libp2p, raw stream"
    module = "libp2p"

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        program = [sys.executable, "-m", "tests.benchmarks.stock_stream"]
        receiver = processes.command([*program, "receive"])
        sender = processes.command([*program, "send", receiver.address(START_DEADLINE), str(content.size)])
        receiver.line("^begin$", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        seconds = float(receiver.line(r"^finished (\S+)$", TRANSFER_DEADLINE).group(1))
        return dataclasses.replace(readings.transfer(content.size, seconds), whole_seconds=None)


class BareLoop(Contender):
    """Records, BLAKE3 and a file in a loop of Python without a protocol: what bounds a fetch here."""

    name = "bare loop, no protocol"
    module = "blake3"

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        program = [sys.executable, "-m", "tests.benchmarks.bare_loop"]
        target = folder / "received.bin"
        receiver = processes.command([*program, "receive", target])
        port = receiver.line(r"^listening (\d+)$", START_DEADLINE).group(1)
        sender = processes.command([*program, "send", port, content.path])
        receiver.line("^begin$", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        seconds = float(receiver.line(r"^finished (\S+)$", TRANSFER_DEADLINE).group(1))
        result = readings.transfer(content.size, seconds)
        check(target, content)
        return dataclasses.replace(result, whole_seconds=None)


class Swarm(Contender):
    """`swarm share` to `swarm fetch`: encrypted, verified with BLAKE3, on disk."""

    name = "swarm share → swarm fetch"
    module = "cli"

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        manifest = folder / "content.swarm"
        sender = processes.swarm(
            "share",
            content.path,
            "--manifest",
            manifest,
            "--listen",
            LOOPBACK,
            "--json=pieces",
            name="sender",
        )
        sender.event("path_shared", START_DEADLINE)
        told = folder / "fetch.jsonl"
        options = ("--output", folder / "out", "--listen", LOOPBACK, "--json=pieces")
        receiver = processes.swarm("fetch", manifest, sender.address(), *options, stdout=told)
        sender.event("peer_connected", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        receiver.expect_exit(0, TRANSFER_DEADLINE)
        lines = [json.loads(line) for line in told.read_text().splitlines()]
        first = {line["event"]: line["t"] for line in reversed(lines)}
        result = readings.transfer(content.size, first["path_fetched"] - first["peer_connected"])
        check(folder / "out" / content.path.name, content)
        return result


class Torrent(Contender):
    """libtorrent (C++): SHA-1 verified, on disk."""

    module = "libtorrent"

    def __init__(self, *, encrypted: bool) -> None:
        self.link = "rc4" if encrypted else "plaintext"
        self.name = "libtorrent, " + ("encrypted (RC4)" if encrypted else "plaintext")
        self._program = [sys.executable, "-m", "tests.benchmarks.torrent_peer"]
        if encrypted:
            self._program.append("--encrypted")

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        torrent = folder / "content.torrent"
        sender = processes.command([*self._program, "seed", content.path, torrent])
        port = sender.line(r"^listening (\d+)$", START_DEADLINE).group(1)
        receiver = processes.command([*self._program, "leech", torrent, folder, port])
        receiver.line("^begin$", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        seconds = float(receiver.line(r"^finished (\S+)$", TRANSFER_DEADLINE).group(1))
        result = readings.transfer(content.size, seconds)
        link = receiver.line(r"^link (\w+)$").group(1)
        if link != self.link:
            raise ValueError(f"{self.name}: the connection was {link}")
        check(folder / content.path.name, content)
        return result


class Wormhole(Contender):
    """magic-wormhole (Python): encrypted, SHA-256 verified, on disk; peers meet at a server of our own."""

    name = "magic-wormhole"
    module = "wormhole"
    CODE = "1-one-two"

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        port = self._start_server(processes)
        program = [sys.executable, "-m", "wormhole", "--relay-url", f"ws://127.0.0.1:{port}/v1"]
        # Peers find each other directly; a transit relay that is not there keeps it so.
        program += ["--transit-helper", "tcp:127.0.0.1:9", "--appid", "swarm-bench"]
        sender = processes.command(
            [*program, "send", "--hide-progress", "--no-qr", "--code", self.CODE, content.path]
        )
        sender.line(r"wormhole receive", START_DEADLINE, stderr=True)
        timing, target = folder / "timing.json", folder / "received.bin"
        accept = ("--hide-progress", "--accept-file")
        receiver = processes.command(
            [*program, "--dump-timing", timing, "receive", *accept, "--output-file", target, self.CODE]
        )
        receiver.line(r"^Receiving \(", START_DEADLINE, stderr=True)
        readings = Readings.take(sender, receiver)
        receiver.line(r"^Received file written", TRANSFER_DEADLINE, stderr=True)
        result = readings.transfer(content.size, 0)
        (seconds,) = (
            entry["stop"] - entry["start"]
            for entry in json.loads(timing.read_text())
            if entry["name"] == "rx file"
        )
        check(target, content)
        return dataclasses.replace(result, seconds=seconds)

    def _start_server(self, processes: Processes) -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        where = ("--port", f"tcp:{port}:interface=127.0.0.1", "--channel-db", ":memory:")
        server = processes.command(
            [sys.executable, "-m", "twisted", "--log-format=text", "wormhole-mailbox", *where]
        )
        server.line(f"starting on {port}", START_DEADLINE)
        return port


CONTENDERS: dict[str, Contender] = {
    "stock": StockStream(),
    "bare": BareLoop(),
    "swarm": Swarm(),
    "torrent": Torrent(encrypted=False),
    "torrent-rc4": Torrent(encrypted=True),
    "wormhole": Wormhole(),
}
