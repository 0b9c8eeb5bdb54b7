"""A web server beside cold receivers on limited uplinks, and libtorrent with the same web seed beside it.

    python -m tests.netns.bench_origins [--rounds 1] [--only 8,4] [--programs swarm,libtorrent]

Nobody has the content but nginx, on a host of its own whose uplink is as limited as theirs. The
receivers start together and are given each other's addresses. The optimum is that of a seeder with the same
uplink (Mundinger, Weber and Weiss 2008). Copies are what nginx sent of bodies; duplicates are what a receiver
got beyond the content. `--keep FOLDER` keeps the events of the last run. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from swarm.content.envelope import Envelope
from tests.benchmarks.measuring import machine, table, write_random_file
from tests.netns.network import Network, why_unavailable
from tests.netns.swarms import Case, Contestant, Moved, Outcome, Swarm, Torrent
from tests.support.processes import Processes, Running
from tests.support.web_servers import Nginx

MIB = 1 << 20
CASES = {
    "8": Case(8, 20_000_000, 64 * MIB, acquainted=True),
    "4": Case(4, 50_000_000, 128 * MIB, acquainted=True),
}
WEB_PORT = 80
PATIENCE = 8
HEAD = ("case", "program", "makespan s", "x optimum", "copies from the origin", "duplicates, worst receiver")


class OriginOfBoth(Contestant):
    """What swarm and libtorrent have in common here: nginx on host 0."""

    web: Nginx

    def serve(self, processes: Processes, network: Network, content: Path) -> str:
        """Start nginx on host 0; return its URL."""
        root = processes.folder / "www"
        root.mkdir()
        os.link(content, root / content.name)
        listen = f"{network.address(0)}:{WEB_PORT}"
        self.web = Nginx(processes, root, listen=listen, wrap=lambda *argv: network.inside(0, *argv))
        time.sleep(1)
        return self.web.url

    def origin_sent(self) -> int:
        """Bytes of bodies that nginx sent."""
        return sum(size for status, size, _ in self.web.served() if status in (200, 206))


class SwarmWithOrigin(Swarm, OriginOfBoth):
    """`swarm fetch --origin`, as a user starts it."""

    def prepare(self, processes: Processes, network: Network, content: Path) -> int:
        self._processes, self._network, self._name = processes, network, content.name
        self.manifest = processes.folder / "content.swarm"
        self._ids = [self._identity(host) for host in range(network.size)]
        share = processes.command(
            [
                *(sys.executable, "-m", "swarm", "share", str(content), "--manifest", str(self.manifest)),
                *("--for", "1s", "--listen", "/ip4/127.0.0.1/tcp/0"),
            ],
            name="publisher",
        )
        share.expect_exit(0, 60)
        envelope = Envelope.from_bytes(self.manifest.read_bytes())
        self.manifest.write_bytes(envelope.plain_bytes())
        self.url = self.serve(processes, network, content)
        self.options = ("--origin", self.url)
        self._running: list[Running] = []
        return envelope.manifest.piece_count

    def leech(self, host: int, known: Sequence[int]) -> Path:
        return super().leech(host, [other for other in known if other])

    def moved(self) -> list[Moved]:
        for running in self._running:
            running.terminate()
        for running in self._running:
            running.expect_exit(143, 15)
        return [Moved(self.origin_sent(), 0), *(self._moved(host + 1) for host in range(len(self._running)))]


class TorrentWithOrigin(Torrent, OriginOfBoth):
    """libtorrent with a web seed."""

    def prepare(self, processes: Processes, network: Network, content: Path) -> int:
        self._processes, self._network, self._name = processes, network, content.name
        self._torrent = processes.folder / "content.torrent"
        from tests.netns.torrent_peer import make_torrent

        url = self.serve(processes, network, content)
        self._running = []
        return make_torrent(content, self._torrent, web_seed=url)

    def leech(self, host: int, known: Sequence[int]) -> Path:
        return super().leech(host, [other for other in known if other])

    def moved(self) -> list[Moved]:
        return [Moved(self.origin_sent(), 0), *super().moved()]


PROGRAMS: dict[str, type[Contestant]] = {"swarm": SwarmWithOrigin, "libtorrent": TorrentWithOrigin}


def measure(name: str, case: Case, folder: Path, keep: Path | None) -> Outcome:
    """Run one case once on a network of its own."""
    content = folder / f"content-{case.size}.bin"
    if not content.exists():
        write_random_file(content, case.size)
    os.sync()
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Network(case.leechers + 1, bits=case.bits) as network,
        Processes(Path(place)) as processes,
    ):
        outcome = PROGRAMS[name]().run(case, processes, network, content, PATIENCE * case.optimum(100))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for told in (*Path(place).glob("*.jsonl"), *Path(place).glob("nginx-*/access.log")):
                shutil.copy(told, keep)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--keep", type=Path, help="where the JSON lines of the last run go")
    parser.add_argument("--results", type=Path, help="a file that each run is added to")
    arguments = parser.parse_args()
    if why := why_unavailable():
        sys.exit(f"bench_origins: {why}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="swarm-origins") as folder:
        for key in arguments.only.split(","):
            case = CASES[key]
            for name in arguments.programs.split(","):
                runs = [measure(name, case, Path(folder), arguments.keep) for _ in range(arguments.rounds)]
                row = [
                    str(case),
                    name,
                    f"{statistics.median(each.makespan for each in runs):.1f}",
                    f"{statistics.median(each.ratio for each in runs):.2f}",
                    f"{statistics.median(each.copies for each in runs):.2f}",
                    f"{statistics.median(each.duplicates for each in runs):.2%}",
                ]
                rows.append(row)
                print(" | ".join(row), file=sys.stderr, flush=True)
                if arguments.results is not None:
                    with arguments.results.open("a") as file:
                        file.write(json.dumps({"case": key, "program": name, "row": row}) + "\n")
    print(f"`python -m tests.netns.bench_origins --rounds {arguments.rounds}`; {machine()}.\n")
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
