"""Feeds a view: events as they come, a snapshot at the view's own pace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.render.lines import Phase
from cli.render.views import View
from cli.version import version
from swarm.events import Event, HashingProgress, NodeListening, Warned
from swarm.observe.jsonlines import FORMAT_VERSION
from swarm.observe.reports import CommandFailed, CommandStarted
from swarm.observe.tally import Snapshot, Tally

if TYPE_CHECKING:
    from cli.render.following import Follower
    from swarm.node import Node

_MAX_WAITING_WARNINGS = 1000


class Live:
    """What one command shows while it works.

    `hashing` and `warn` may be called from any thread; everything else from the one that runs trio.
    """

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        self.phase = Phase.STARTING
        self._view = view
        self._clock = clock
        self._start = clock()
        self._began = datetime.now(UTC)
        self._tally = Tally(self._start)
        self._hashed: tuple[int, int] | None = None
        self._warnings: deque[str] = deque(maxlen=_MAX_WAITING_WARNINGS)
        self._follower: Follower | None = None

    def begin(self, command: str) -> None:
        """Say which command this is; to programs only."""
        self.event(CommandStarted(command, version(), FORMAT_VERSION, self._began.isoformat()))

    def event(self, event: Event) -> None:
        """Count and show one event."""
        now = self._clock()
        self._tally.add(event, now)
        self._view.event(event, now - self._start)

    def hashing(self, done: int, total: int) -> None:
        """Note how many bytes are hashed; shown at the view's pace."""
        self._hashed = (done, total)

    def warn(self, message: str) -> None:
        """Note something that the user should know; shown at the view's pace."""
        self._warnings.append(message)

    def snapshot(self) -> Snapshot:
        """Return how things stand."""
        return self._tally.snapshot(self._clock())

    def draw(self) -> None:
        """Show how things stand now."""
        self._flush()
        now = self._clock()
        self._view.draw(self._tally.snapshot(now), self.phase, now - self._start)

    def say(self, text: str) -> None:
        """Tell a person one line."""
        self._flush()
        self._view.say(text)

    def result(self, report: Event | None, *lines: str) -> None:
        """Print what the command was called for: ``report`` to programs, ``lines`` to people."""
        self._flush()
        self._view.result(report, lines, self._clock() - self._start)

    def failed(self, message: str, exit_code: int) -> None:
        """End the view with an error; to programs this is the last line."""
        self.event(CommandFailed(message, exit_code))
        self.close()

    def close(self) -> None:
        """Show what is still waiting and leave the terminal as it was."""
        self._flush()
        self._view.close(self._clock() - self._start)

    @asynccontextmanager
    async def following(self, node: Node) -> AsyncIterator[None]:
        """Show what ``node`` does until the block is left, and then all that it has done by then."""
        from cli.render.following import following

        self.event(NodeListening(node.peer_id, node.addresses))
        async with self.drawing(), following(node.events, self._follow) as self._follower:
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
            yield
            nursery.cancel_scope.cancel()

    def _flush(self) -> None:
        while self._warnings:
            self.event(Warned(self._warnings.popleft()))
        if self._hashed is not None:
            self.event(HashingProgress(*self._hashed))
            self._hashed = None

    def _follow(self, event: Event) -> None:
        # These two are told by the command itself: the one comes before anybody can subscribe, the
        # other from the hashing thread.
        if not isinstance(event, NodeListening | HashingProgress):
            self.event(event)

    async def _tick(self) -> None:
        import trio

        while True:
            await trio.sleep(self._view.interval)
            self.draw()
