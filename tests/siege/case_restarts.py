"""Three shares of one home are restarted in random order, among commands that come and go: links last."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import trio

from tests.siege.field import battlefield
from tests.siege.outcome import Outcome
from tests.support.processes import Processes, Running
from tests.support.sharing import LOOPBACK, random_file, sha256

NAME = "restarts"
FIGURE = "200 restarts of three shares in random order: every link printed first still works"
LIMIT = 3600.0
BESIDE = True
RESTARTS = {True: 10, False: 200}
SHARES = ("a", "b", "c")
SIZE = 300_000
SEED = 7


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        field = _Field(processes, folder)
        field.start(SHARES)
        while field.restarts < RESTARTS[quick]:
            field.restart_some(RESTARTS[quick])
        worked = sum(field.fetched(name) for name in SHARES)
        return Outcome(
            not field.changed and worked == len(SHARES),
            f"{field.restarts} restarts, {field.visits} other commands: {field.changed} links changed, "
            f"{worked} of {len(SHARES)} links printed first still work",
        )


class _Field:
    """The shares, and the links that they printed first."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        self._random = random.Random(SEED)
        self._files = {
            name: random_file(folder / name, SIZE, seed) for seed, name in enumerate(SHARES, start=1)
        }
        self._running: dict[str, Running] = {}
        self._first: dict[str, str] = {}
        self.restarts = self.changed = self.visits = 0

    def start(self, names: tuple[str, ...]) -> None:
        """Start shares side by side, in this order, and compare their links with the first ones."""
        for name in names:
            self._running[name] = self._processes.swarm("share", self._files[name], *LOOPBACK, name="home")
        for name in names:
            link = self._running[name].line("^swarm:.*", within=60).group(0)
            self.changed += self._first.setdefault(name, link) != link

    def restart_some(self, until: int) -> None:
        """End some shares in one way or another, begin another command, and start them in another order."""
        chosen = self._random.sample(SHARES, self._random.randint(1, len(SHARES)))
        chosen = chosen[: until - self.restarts]
        for name in chosen:
            self._running[name].signal(self._random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        for name in chosen:
            self._running[name].wait()
        visitor = self._visitor() if self._random.random() < 0.6 else None
        self._random.shuffle(chosen)
        self.start(tuple(chosen))
        self.restarts += len(chosen)
        if visitor is not None:
            visitor.stop()
        if self._random.random() < 0.1:
            self.changed += not self.fetched(self._random.choice(chosen))

    def _visitor(self) -> Running:
        """A command of the same home that runs while the shares are away and while they start."""
        self.visits += 1
        other = self._first[self._random.choice(SHARES)]
        address = other.rpartition("peer=")[2]
        ping = ("ping", address, "--count", "1000", "--interval", "0.1")
        fetch = ("fetch", other, "-o", self._folder / f"out{self.visits}", "--seed", *LOOPBACK)
        visitor = self._processes.swarm(*self._random.choice((ping, fetch)), name="home")
        if visitor.argv[-1] == "0.1":
            # By then it holds its identity.
            visitor.line("libp2p node address", within=60)
        return visitor

    def fetched(self, name: str) -> bool:
        """Whether another machine's fetch of the link that was printed first brings the content."""
        output = self._folder / f"fetched{self.restarts}{name}"
        fetch = self._processes.swarm("fetch", self._first[name], "-o", output, *LOOPBACK, name="receiver")
        return fetch.wait() == 0 and sha256(output / name) == sha256(self._files[name])
