"""Each way to bring a file from one process to another on loopback, measured the same way."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measuring import Transfer, cpu_seconds, peak_rss, sha256
from tests.support.processes import Processes, Running

START_DEADLINE = 120.0
"""Seconds that a sender may take to be ready: it hashes the file first."""
TRANSFER_DEADLINE = 600.0
MEMORY = Path("/dev/shm")
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


class Loop(Contender):
    """A loop of Python without a protocol, in the module ``program``."""

    module = "blake3"

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self._program = [sys.executable, "-m", program]

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        target = folder / "received.bin"
        receiver = processes.command([*self._program, "receive", target])
        port = receiver.line(r"^listening (\d+)$", START_DEADLINE).group(1)
        sender = processes.command([*self._program, "send", port, content.path])
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
            "--json",
            name="sender",
        )
        sender.event("path_shared", START_DEADLINE)
        told = folder / "fetch.jsonl"
        options = ("--output", folder / "out", "--listen", LOOPBACK, "--json")
        receiver = processes.swarm("fetch", manifest, sender.address(), *options, stdout=told)
        sender.event("peer_connected", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        receiver.expect_exit(0, TRANSFER_DEADLINE)
        lines = [json.loads(line) for line in told.read_text().splitlines()]
        first = {line["event"]: line["t"] for line in reversed(lines)}
        result = readings.transfer(content.size, first["path_fetched"] - first["peer_connected"])
        check(folder / "out" / content.path.name, content)
        return result


class SwarmFan(Contender):
    """Several sharers of one file, or several fetchers at once; size and times are those of all together."""

    module = "cli"

    def __init__(self, seeders: int, receivers: int) -> None:
        self.name = f"swarm, {seeders} to {receivers}, total"
        self._seeders, self._receivers = seeders, receivers

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        manifest = folder / "content.swarm"
        senders = []
        for number in range(self._seeders):
            options = ("--listen", LOOPBACK, "--json")
            told = ("--manifest", manifest) if number == 0 else ("--manifest", folder / f"{number}.swarm")
            senders.append(processes.swarm("share", content.path, *told, *options, name=f"sender{number}"))
        for sender in senders:
            sender.event("path_shared", START_DEADLINE)
        addresses = [sender.address() for sender in senders]
        receivers, logs = [], []
        for number in range(self._receivers):
            logs.append(folder / f"fetch{number}.jsonl")
            options = ("--output", folder / f"out{number}", "--listen", LOOPBACK, "--json")
            receivers.append(
                processes.swarm(
                    "fetch", manifest, *addresses, *options, name=f"receiver{number}", stdout=logs[-1]
                )
            )
        for sender in senders:
            sender.event("peer_connected", START_DEADLINE)
        before = [cpu_seconds(process) for process in (*senders, *receivers)]
        for receiver in receivers:
            receiver.expect_exit(0, TRANSFER_DEADLINE)
        sent = [cpu_seconds(process) for process in senders]
        first = []
        for number, log in enumerate(logs):
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            first.append({line["event"]: line["t"] for line in reversed(lines)})
            check(folder / f"out{number}" / content.path.name, content)
        return Transfer(
            size=content.size * self._receivers,
            seconds=max(each["path_fetched"] - each["peer_connected"] for each in first),
            whole_seconds=max(receiver.elapsed() for receiver in receivers),
            receiver_cpu=sum(each.usage().cpu_seconds for each in receivers) - sum(before[len(senders) :]),
            sender_cpu=sum(sent) - sum(before[: len(senders)]),
            receiver_rss=max(receiver.usage().peak_rss for receiver in receivers),
            sender_rss=max(map(peak_rss, senders)),
        )


class SwarmSmall(Contender):
    """10,000 files of 1 KiB, whatever the size of the others' file.

    On a file system in memory where there is one: an ext4 that has just deleted as many files looks longer
    for free inodes than everything else takes.
    """

    FILES = 10_000
    name = "swarm, 10,000 files of 1 KiB"
    module = "cli"

    def run(self, processes: Processes, content: Content, folder: Path) -> Transfer:
        memory = MEMORY if os.access(MEMORY, os.W_OK) else folder
        with tempfile.TemporaryDirectory(dir=memory) as place:
            return self._run(processes, Path(place))

    def _run(self, processes: Processes, folder: Path) -> Transfer:
        source, manifest = folder / "small", folder / "small.swarm"
        source.mkdir()
        for number in range(self.FILES):
            (source / f"{number:05}.bin").write_bytes(number.to_bytes(8, "big") * 128)
        options = ("--listen", LOOPBACK, "--json")
        sender = processes.swarm("share", source, "--manifest", manifest, *options, name="sender")
        sender.event("path_shared", START_DEADLINE)
        told = folder / "fetch.jsonl"
        where = ("--output", folder / "out", *options)
        receiver = processes.swarm("fetch", manifest, sender.address(), *where, stdout=told)
        sender.event("peer_connected", START_DEADLINE)
        readings = Readings.take(sender, receiver)
        receiver.expect_exit(0, TRANSFER_DEADLINE)
        lines = [json.loads(line) for line in told.read_text().splitlines()]
        first = {line["event"]: line["t"] for line in reversed(lines)}
        seconds = first["path_fetched"] - first["peer_connected"]
        found = sorted((folder / "out" / "small").iterdir())
        if [path.read_bytes() for path in found] != [path.read_bytes() for path in sorted(source.iterdir())]:
            raise ValueError("the small files arrived changed")
        result = readings.transfer(self.FILES * 1024, seconds)
        return dataclasses.replace(result, files=self.FILES)


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
    "plain": Loop("plain TCP, sendfile to file", "tests.benchmarks.plain_copy"),
    "bare": Loop("bare loop, no protocol", "tests.benchmarks.bare_loop"),
    "swarm": Swarm(),
    "swarm-3-1": SwarmFan(3, 1),
    "swarm-1-3": SwarmFan(1, 3),
    "swarm-small": SwarmSmall(),
    "torrent": Torrent(encrypted=False),
    "torrent-rc4": Torrent(encrypted=True),
    "wormhole": Wormhole(),
}
