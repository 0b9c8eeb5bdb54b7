"""The demo while it runs: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from typing import Protocol

import click

from cli.demo.board import PROGRESS_HEADINGS, Board
from cli.render.views import can_draw

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 1.0


class Show(Protocol):
    """Draws the board every ``interval`` seconds."""

    interval: float

    def draw(self, board: Board, now: float) -> None:
        """Show how things stand at ``now``."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainShow:
    """One line for the whole swarm."""

    interval = PLAIN_SECONDS

    def __init__(self) -> None:
        self._last = ""

    def draw(self, board: Board, now: float) -> None:
        """Print how far everybody is, unless that is the same as before."""
        line = ", ".join(f"{name} {done}" for name, done, *_ in board.progress(now))
        if line != self._last:
            self._last = line
            click.echo(line, err=True)

    def close(self) -> None:
        """Nothing to undo."""


class LiveShow:
    """A table that is drawn anew in its place."""

    interval = LIVE_SECONDS

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    def draw(self, board: Board, now: float) -> None:
        """Draw the table."""
        from rich.table import Table

        table = Table(*PROGRESS_HEADINGS)
        for row in board.progress(now):
            table.add_row(*row)
        self._live.update(table, refresh=True)

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()


def choose_show() -> Show:
    """Return the live table if stderr is a terminal that can show it."""
    return LiveShow() if can_draw() else PlainShow()
