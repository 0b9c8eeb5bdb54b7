"""A film that is watched while it is fetched from one seeder with a limited uplink. Root only.

    python -m tests.netns.bench_video [--mbit 20] [--film-mbit 16] [--seconds 60] [--rounds 1]

A player reads the film from the daemon over HTTP: from its beginning, then, after five seconds, from 75 % on,
where nothing is fetched yet. The first frame needs the first half second of the film. It reads ahead as far
as a browser does (`AHEAD_SECONDS`), and stalls when it would have to show what has not come. Prints the time
to the first frame, that of the seek, and the stalls of so many seconds after it.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.netns.network import Network, why_unavailable
from tests.support.processes import Processes, Running
from tests.support.sharing import MIB, random_file

FRAME_SECONDS = 0.5
"""Of the film, that the first frame needs: a group of pictures with its head."""
AHEAD_SECONDS = 30.0
BEFORE_SECONDS = 5.0
"""What is watched before the seek."""
SEEDER, VIEWER = 0, 1
API = """
import http.client, json, pathlib, sys
port, home, method, path = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
body = sys.argv[5] if len(sys.argv) > 5 else None
token = (home / "api-token").read_text().strip()
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
connection.request(method, path, body, headers)
print(connection.getresponse().read().decode())
"""


@dataclass
class Watched:
    """One view of the film: seconds to its first frame, and each stall after that."""

    first_frame: float
    stalls: list[float]
    read: int


class Player:
    """Watches a film at ``rate`` bytes a second, from the daemon on a host."""

    def __init__(self, network: Network, port: int, path: str, rate: float) -> None:
        self._network, self._port, self._path, self._rate = network, port, path, rate

    def watch(self, start: int, seconds: float) -> Watched:
        """Watch from a byte on, for so long after the first frame."""
        began = time.monotonic()
        stream = self._network.socket(VIEWER, socket.AF_INET, socket.SOCK_STREAM)
        with stream:
            stream.connect(("127.0.0.1", self._port))
            request = (
                f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nRange: bytes={start}-\r\n\r\n"
            )
            stream.sendall(request.encode())
            come = b""
            while b"\r\n\r\n" not in come:
                come += stream.recv(1 << 16)
            assert come.startswith(b"HTTP/1.1 206"), come[:100]
            read = len(come.partition(b"\r\n\r\n")[2])
            while read < FRAME_SECONDS * self._rate:
                read += len(stream.recv(1 << 16))
            first = time.monotonic() - began
            return self._play(stream, read, first, seconds)

    def _play(self, stream: socket.socket, read: int, first: float, seconds: float) -> Watched:
        """Show the film as time passes; it stands still while what is shown next has not come."""
        shown, at = 0.0, time.monotonic()
        end = at + seconds
        stalls: list[float] = []
        standing: float | None = None
        while at < end:
            full = read - shown > AHEAD_SECONDS * self._rate
            if not full and select.select([stream], [], [], 0.02)[0]:
                part = stream.recv(1 << 18)
                assert part, "the daemon hung up"
                read += len(part)
            elif full:
                time.sleep(0.02)
            now = time.monotonic()
            if standing is None:
                shown += (now - at) * self._rate
            if shown > read and standing is None:
                shown, standing = read, now
            elif standing is not None and read - shown > FRAME_SECONDS * self._rate:
                stalls.append(now - standing)
                standing = None
            at = now
        if standing is not None:
            stalls.append(at - standing)
        return Watched(first, stalls, read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mbit", type=float, default=20, help="the seeder's uplink")
    parser.add_argument("--film-mbit", type=float, default=16)
    parser.add_argument("--seconds", type=float, default=60, help="watched after the seek")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if why := why_unavailable():
        sys.exit(why)
    rate = arguments.film_mbit * 1e6 / 8
    # The last quarter is as long as what is watched of it, and half as much more.
    size = int(4 * 1.5 * arguments.seconds * rate)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        film = random_file(Path(folder) / "film.mp4", size)
        print(
            f"a film of {size // MIB} MiB at {arguments.film_mbit:g} Mbit/s, uplink {arguments.mbit:g} Mbit/s"
        )
        for number in range(arguments.rounds):
            with (
                Network(2, bits=int(arguments.mbit * 1e6)) as network,
                Processes(Path(folder) / str(number)) as processes,
            ):
                one_round(network, processes, film, rate, arguments.seconds)


def one_round(network: Network, processes: Processes, film: Path, rate: float, seconds: float) -> None:
    """Share, fetch, watch, seek, watch."""

    def node(host: int, *argv: str | Path, name: str) -> Running:
        return processes.command(network.inside(host, sys.executable, "-m", "swarm", *argv), name=name)

    listen = ("--listen", f"/ip4/{network.address(SEEDER)}/tcp/0")
    seeder = node(SEEDER, "share", film, *listen, name="seeder")
    link = seeder.line(r"^swarm:\S+", within=120)[0]
    listen = ("--listen", f"/ip4/{network.address(VIEWER)}/tcp/0")
    daemon = node(VIEWER, "daemon", "--http", "127.0.0.1:0", *listen, name="daemon")
    port = int(daemon.line(r"^page: http://127\.0\.0\.1:(\d+)/$")[1])
    daemon.address()
    home = processes.home("daemon")

    def ask(*words: str) -> str:
        argv = network.inside(VIEWER, sys.executable, "-c", API, str(port), home, *words)
        running = processes.command(argv, name="asker")
        running.expect_exit(0)
        return running.lines()[-1]

    import json

    into = str(processes.work("daemon"))
    began = time.monotonic()
    added = json.loads(ask("POST", "/v1/transfers", json.dumps({"link": link, "output": into})))
    path = f"/v1/transfers/{added['id']}"
    while not (about := json.loads(ask("GET", path)))["files"]:
        pass
    print(f"added and opened after   {time.monotonic() - began:.2f} s (with two starts of Python)")
    player = Player(network, port, about["files"][0]["url"], rate)
    before = player.watch(0, BEFORE_SECONDS)
    say("the beginning", before)
    start = film.stat().st_size * 3 // 4
    after = player.watch(start, seconds)
    say("after a seek to 75 %", after)
    about = json.loads(ask("GET", path))
    print(
        f"{'fetched by then':24} {100 * about['done'] / about['size']:.0f} %, state {about['state']}",
        flush=True,
    )


def say(what: str, watched: Watched) -> None:
    """Print one view."""
    stalls = ", ".join(f"{each:.2f} s" for each in watched.stalls) or "none"
    print(f"{what:24} first frame after {watched.first_frame:.2f} s, stalls: {stalls}", flush=True)


if __name__ == "__main__":
    main()
