"""Feeds a view: events as they come, a snapshot at the view's own pace."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli import interrupts
from cli.render.lines import Phase, Standing
from cli.render.views import View
from cli.version import version
from swarm.events import Event, HashingProgress, PieceStored, Warned
from swarm.ids import TransferId
from swarm.observe.jsonlines import FORMAT_VERSION
from swarm.observe.reports import CommandFailed, CommandStarted
from swarm.observe.tally import NodeTally, TransferSnapshot

if TYPE_CHECKING:
    from cli.render.following import Follower
    from swarm.node import Node

NO_TRANSFER = TransferId(0)
"""Stands for the work of a command that has no node."""


class Live:
    """What one command shows while it works: the events of its node, and what the command itself says."""

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = Phase.STARTING
        self.resumes = True
        """Whether a fetch that is not done goes on when the same command is run again."""
        self._view = view
        self._clock = clock
        self._start = clock()
        self._began = datetime.now(UTC)
        self._tally = NodeTally(self._start)
        self._follower: Follower | None = None

    def begin(self, command: str) -> None:
        """Say which command this is; to programs only."""
        self.event(CommandStarted(command, version(), FORMAT_VERSION, self._began.isoformat()))

    def event(self, *events: Event) -> None:
        """Count and show an event, or several of stored pieces."""
        now = self._clock()
        self._tally.add_many(events, now)
        if self._view.shows_pieces or type(events[0]) is not PieceStored:
            for event in events:
                self._view.event(event, now - self._start)

    def hashing(self, done: int, total: int) -> None:
        """Tell how many bytes this command has hashed, where it hashes without a node."""
        self.event(HashingProgress(NO_TRANSFER, done, total))

    def warn(self, message: str) -> None:
        """Tell a warning of the command's own."""
        self.event(Warned(message))

    def snapshot(self, transfer: TransferId | None = None) -> TransferSnapshot:
        """Return how a transfer of the command stands, the latest unless one is named."""
        now = self._clock()
        return self._tally.latest(now) if transfer is None else self._tally.of(transfer, now)

    def draw(self) -> None:
        """Show how things stand now."""
        now = self._clock()
        self._view.draw(tuple(self._standings(now)), now - self._start)

    @property
    def interval(self) -> float:
        """Seconds between two calls of `show`."""
        return self._view.interval

    def show(self, standings: Sequence[Standing]) -> None:
        """Show how transfers of another process stand."""
        self._view.draw(standings, self._clock() - self._start)

    def report(self) -> None:
        """Print how things stand now, because somebody asks."""
        now = self._clock()
        self._view.report(tuple(self._standings(now)), now - self._start)

    def _standings(self, now: float) -> Iterator[Standing]:
        snapshots = [each for each in self._tally.snapshot(now).transfers if not each.ended]
        for snapshot in snapshots or [self._tally.latest(now)]:
            yield Standing(snapshot, self._phase_of(snapshot))

    def _phase_of(self, snapshot: TransferSnapshot) -> Phase:
        """Say what a transfer is busy with: the command knows it of one that has only begun."""
        if self.phase in {Phase.STARTING, Phase.VERIFYING} or not snapshot.kind:
            hashes = snapshot.hashing and self.phase is Phase.FETCHING
            return Phase.HASHING if hashes else self.phase
        if snapshot.patch_done < snapshot.patch_total:
            return Phase.PATCHING
        if snapshot.hashing or (snapshot.kind == "share" and snapshot.manifest is None):
            return Phase.HASHING
        return Phase.SEEDING if snapshot.kind == "share" or snapshot.complete else Phase.FETCHING

    def say(self, text: str) -> None:
        """Tell a person one line."""
        self._view.say(text)

    def result(self, report: Event | None, *lines: str) -> None:
        """Print what the command was called for: ``report`` to programs, ``lines`` to people."""
        self._view.result(report, lines, self._clock() - self._start)

    def failed(self, message: str, exit_code: int) -> None:
        """End the view with an error; to programs this is the last line."""
        self.event(CommandFailed(message, exit_code))
        self.close()

    def interrupted(self) -> None:
        """End the view after a signal: a fetch that is not done can go on later."""
        self.close()
        snapshots = self._tally.snapshot(self._clock()).transfers
        if self.resumes and any(each.kind == "fetch" and not each.complete for each in snapshots):
            self.say("interrupted; the same command resumes it")

    def close(self) -> None:
        """Show what is still waiting and leave the terminal as it was."""
        self._view.close(self._clock() - self._start)

    @asynccontextmanager
    async def following(self, node: Node) -> AsyncIterator[None]:
        """Show what ``node`` does until the block is left, and then all that it has done by then."""
        from cli.render.following import following

        shown = following(node.event_stream, self.event, requests=self._view.shows_pieces)
        async with self.drawing(), shown as self._follower:
            # What happened before comes before all that the command says.
            await self.settle()
            yield

    async def settle(self) -> None:
        """Wait until everything that the followed node has done by now is shown."""
        if self._follower is not None:
            await self._follower.settle()

    @asynccontextmanager
    async def drawing(self) -> AsyncIterator[None]:
        """Show how things stand, at the view's pace, until the block is left."""
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            nursery.start_soon(self._report_when_asked)
            yield
            nursery.cancel_scope.cancel()

    async def _report_when_asked(self) -> None:
        import trio

        with trio.open_signal_receiver(*interrupts.REPORTS) as asked:
            async for _ in asked:
                self.report()

    async def _tick(self) -> None:
        import trio

        while True:
            await trio.sleep(self._view.interval)
            self.draw()
