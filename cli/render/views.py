"""The views that need nothing but text, and the choice between all of them."""

from __future__ import annotations

import os
import sys
from typing import Protocol

import click

from cli.render.lines import Phase, detail, notice, percent, status, title
from swarm.events import BytesReceived, BytesSent, Event, PieceRequested, PieceStored, TransferEnded
from swarm.ids import SourceId, TransferId
from swarm.observe.jsonlines import encode
from swarm.observe.tally import TransferSnapshot

PLAIN_SECONDS = 3.0
"""Between two lines of progress where there is no terminal."""
JSON_SECONDS = 0.5
"""Over which bytes sent and received are summed up into one line for each peer."""
TOGETHER_SECONDS = 0.05
"""How long a JSON line about a single piece may wait for others."""


class View(Protocol):
    """Shows one command; ``t`` is seconds since its start, results go to stdout, the rest to stderr."""

    interval: float
    """Seconds between two calls of `draw`."""

    def event(self, event: Event, t: float) -> None:
        """Something happened."""

    def draw(self, snapshot: TransferSnapshot, phase: Phase, t: float) -> None:
        """This is how things stand."""

    def say(self, text: str) -> None:
        """Tell a person one line."""

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:
        """Print what the command was called for: ``report`` to programs, ``lines`` to people."""

    def close(self, t: float) -> None:
        """Leave the terminal as it was."""


class PlainView:
    """A line of progress every few seconds; for logs, pipes and dumb terminals."""

    interval = PLAIN_SECONDS

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._last = ""

    def event(self, event: Event, t: float) -> None:  # noqa: ARG002
        """Print notices, with ``verbose`` details too."""
        text = notice(event) or (detail(event) if self._verbose else None)
        if text:
            self.say(text)

    def draw(self, snapshot: TransferSnapshot, phase: Phase, t: float) -> None:  # noqa: ARG002
        """Print a line of progress, unless it is the same as the last."""
        if phase is Phase.STARTING:
            return
        share = percent(snapshot, phase)
        done = "" if share is None else f"{share:.1f}%, "
        line = f"{title(snapshot, phase)}: {done}{status(snapshot, phase)}"
        if line != self._last:
            self._last = line
            self.say(line)

    def say(self, text: str) -> None:
        """Print to stderr."""
        click.echo(text, err=True)

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print to stdout."""
        for line in lines:
            click.echo(line)

    def close(self, t: float) -> None:
        """Nothing to undo."""


class JsonView:
    """Every event as one line of JSON on stdout."""

    interval = JSON_SECONDS

    def __init__(self) -> None:
        self._sums: dict[tuple[type[BytesReceived | BytesSent], TransferId, SourceId], int] = {}
        self._waiting: list[str] = []
        self._printed_at = 0.0

    def event(self, event: Event, t: float) -> None:
        """Print the event, but sum up those that come with every few kilobytes.

        Thousands of lines a second about single pieces go out together: a write for each of them costs
        more than the piece. Everything else is printed at once.
        """
        if isinstance(event, BytesReceived | BytesSent):
            source = event.source if isinstance(event, BytesReceived) else event.peer
            key = (type(event), event.transfer, source)
            self._sums[key] = self._sums.get(key, 0) + event.size
            return
        if isinstance(event, TransferEnded):
            # The last event of a transfer, so its sums come before it.
            self._print_sums(t)
        self._waiting.append(encode(event, t))
        if not isinstance(event, PieceRequested | PieceStored) or t >= self._printed_at + TOGETHER_SECONDS:
            self._print(t)

    def draw(self, snapshot: TransferSnapshot, phase: Phase, t: float) -> None:  # noqa: ARG002
        """Print the sums."""
        self._print_sums(t)

    def _print_sums(self, t: float) -> None:
        for (kind, transfer, source), size in self._sums.items():
            self._waiting.append(encode(kind(transfer, source, size), t))  # type: ignore[arg-type]
        self._sums.clear()
        self._print(t)

    def _print(self, t: float) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            click.echo("\n".join(lines))
        self._printed_at = t

    def say(self, text: str) -> None:
        """Programs read no prose."""

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print the report."""
        self._print_sums(t)
        if report is not None:
            self._waiting.append(encode(report, t))
            self._print(t)

    def close(self, t: float) -> None:
        """Print the last sums."""
        self._print_sums(t)


def can_draw() -> bool:
    """Return whether stderr is a terminal on which lines can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def choose_view(*, json: bool, verbose: bool) -> View:
    """Return JSON lines if asked for, a bar if stderr is a terminal that can show one, else lines."""
    if json:
        return JsonView()
    if can_draw():
        from cli.render.bar import BarView

        return BarView(verbose=verbose)
    return PlainView(verbose=verbose)
