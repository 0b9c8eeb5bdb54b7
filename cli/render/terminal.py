"""Progress on a terminal: lines at its lower end that are drawn anew, while other lines scroll by above."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cli.output import Kind, Outputs
from cli.render.fitting import Style, line
from cli.render.lines import Phase, Standing
from cli.render.narrator import Narrator
from cli.render.peer_table import peer_table, report
from swarm.events import Event

BAR_SECONDS = 0.2
"""Between two drawings."""
MOST_TRANSFERS = 5
"""Transfers that get a line each; more are counted."""
USUAL_COLUMNS = 80
LEAST_COLUMNS = 10


class TerminalView:
    """A line for each transfer, with ``peers`` a table of its peers below it."""

    interval = BAR_SECONDS

    def __init__(
        self,
        outputs: Outputs,
        *,
        verbose: int = 0,
        peers: bool = False,
        columns: Callable[[], int] | None = None,
        style: Style | None = None,
    ) -> None:
        self._outputs = outputs
        self._peers = peers
        self._narrator = Narrator(verbose)
        self.shows_pieces = verbose > 0
        self._columns = columns or terminal_columns
        self._style = style or _style(outputs.err.encoding)

    def event(self, event: Event, t: float) -> None:
        """Print what a person should be told of ``event``."""
        for text in self._narrator.tell(event, t):
            self._note(text)

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        """Draw how things stand in place of what was drawn before."""
        for text in self._narrator.overdue(t):
            self._note(text)
        # The last column stays free: some terminals wrap there.
        columns = max(LEAST_COLUMNS, self._columns() - 1)
        shown = [standing for standing in standings if standing.phase is not Phase.STARTING]
        frame = []
        for standing in shown[:MOST_TRANSFERS]:
            frame.append(line(standing, columns, self._style))
            if self._peers:
                frame += peer_table(standing.snapshot, columns)
        if len(shown) > MOST_TRANSFERS:
            frame.append(f"and {len(shown) - MOST_TRANSFERS} more")
        self._outputs.err.frame(frame)

    def report(self, standings: Sequence[Standing], t: float) -> None:  # noqa: ARG002
        """Print how things stand above what is drawn, with a table of all peers."""
        for standing in standings:
            for text in report(standing, max(LEAST_COLUMNS, self._columns() - 1)):
                self._outputs.err.put(f"{text}\n")

    def say(self, text: str) -> None:
        """Print a line above what is drawn."""
        self._outputs.err.put(f"{text}\n")

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print to stdout, which is often the same terminal."""
        for text in lines:
            self._outputs.out.put(f"{text}\n")

    def close(self, t: float) -> None:
        """Take away what is drawn."""
        self._outputs.err.frame(())
        for text in self._narrator.overdue(t, last=True):
            self._note(text)

    def _note(self, text: str) -> None:
        self._outputs.err.put(f"{text}\n", Kind.OPTIONAL)


def terminal_columns() -> int:
    """Return the width of the terminal that stderr is, as it is now."""
    try:
        return os.get_terminal_size(2).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS


def _style(encoding: str) -> Style:
    try:
        "━─…".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        unicode = False
    else:
        unicode = True
    return Style(unicode=unicode, colour=not os.environ.get("NO_COLOR"))
