"""Words for the end-to-end tests: real files, a seeder, a leecher, who got what from whom."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from swarm.content.envelope import Envelope
from tests.support.processes import Processes, Running

LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0")
MIB = 1 << 20


def random_file(path: Path, size: int, seed: int = 7) -> Path:
    """Write ``size`` reproducible bytes that do not repeat from piece to piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    with path.open("wb") as file:
        while size > 0:
            file.write(source.randbytes(min(size, MIB)))
            size -= MIB
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: Path) -> dict[str, tuple[str, bool]]:
    """Every file below ``folder``: its relative path, its SHA-256 and whether it is executable."""
    return {
        str(path.relative_to(folder)): (sha256(path), bool(path.stat().st_mode & 0o100))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass
class Seeder:
    """A running ``swarm share``.

    ``written`` is the manifest that it wrote, which carries its address. ``manifest`` is the same without: a
    test that uses it decides itself who is asked.
    """

    process: Running
    written: Path
    manifest: Path
    link: str
    address: str

    @property
    def peer(self) -> str:
        return self.address.rpartition("/p2p/")[2]


def share(processes: Processes, path: Path, *options: str, name: str | None = None) -> Seeder:
    """Start ``swarm share path`` on loopback and wait until it seeds."""
    process = processes.swarm("share", str(path), *LOOPBACK, *options, name=name)
    address = process.address()
    link = process.line(r"swarm:\S+").group(0)
    where = Path(process.lines()[0])
    written = where if where.is_absolute() else process.cwd / where
    plain = process.cwd.parent / where.name
    plain.write_bytes(Envelope.from_bytes(written.read_bytes()).plain_bytes())
    return Seeder(process, written, plain, link, address)


def fetch(
    processes: Processes, what: str | Path, output: Path, *options: str, name: str | None = None
) -> Running:
    """Start ``swarm fetch`` with JSON events on loopback."""
    return processes.swarm(
        "fetch", str(what), *options, "--output", str(output), *LOOPBACK, "--json=pieces", name=name
    )


def received_from(leecher: Running) -> Counter[str]:
    """Bytes of verified pieces that a fetch took, by the peer they came from."""
    counter: Counter[str] = Counter()
    for event in leecher.events("piece_stored"):
        counter[event["source"]] += event["size"]
    return counter
