"""A progress bar for terminals, drawn by rich on stderr."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from cli.render.lines import Phase, detail, notice, percent, status, title
from swarm.events import Event
from swarm.observe.tally import TransferSnapshot

BAR_SECONDS = 0.2
"""Between two drawings."""
_FULL = 100.0


class BarView:
    """One line that is drawn anew: bar, percentage and figures; other lines scroll by above it."""

    interval = BAR_SECONDS

    def __init__(self, *, verbose: bool, console: Console | None = None) -> None:
        self._verbose = verbose
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._phase: Phase | None = None

    def event(self, event: Event, t: float) -> None:  # noqa: ARG002
        """Print notices, with ``verbose`` details too."""
        text = notice(event) or (detail(event) if self._verbose else None)
        if text:
            self.say(text)

    def draw(self, snapshot: TransferSnapshot, phase: Phase, t: float) -> None:  # noqa: ARG002
        """Draw the bar; another phase gets a bar of its own."""
        if phase is Phase.STARTING:
            return
        if phase is not self._phase:
            self._stop()
            self._phase = phase
        if self._progress is None:
            self._progress = self._start()
        done = percent(snapshot, phase)
        self._progress.update(
            self._task,
            description=title(snapshot, phase),
            total=None if done is None else _FULL,
            completed=done or 0,
            status=status(snapshot, phase),
        )
        self._progress.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print to stdout, which is often the same terminal: the bar makes room first."""
        self._stop()
        for line in lines:
            click.echo(line)

    def close(self, t: float) -> None:  # noqa: ARG002
        """Take the bar away."""
        self._stop()

    def _start(self) -> Progress:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = progress.add_task("", total=None, status="")
        progress.start()
        return progress

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
