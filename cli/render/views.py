"""The views that need nothing but text, and the choice between all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from cli.output import Kind, Outputs
from cli.render.lines import Phase, Standing, facts, notice, percent, status, title
from cli.render.narrator import Narrator
from swarm import events
from swarm.events import BytesReceived, BytesSent, Event, PieceRequested, PieceStored, TransferEnded
from swarm.ids import SourceId, TransferId
from swarm.observe import reports
from swarm.observe.jsonlines import encode
from swarm.observe.reports import LinesLost, TransferProgress

PLAIN_SECONDS = 3.0
"""Between two lines of progress where there is no terminal; the longer it takes, the more."""
SPARSE = 20
"""A line of progress comes after a 20th of the time that has passed, so that a long transfer fills no log."""
MOST_SECONDS = 60.0
"""But at least once in a minute."""
JSON_SECONDS = 1.0
"""Between two events of progress; bytes are summed up over it, into one line for each peer."""
TOGETHER_SECONDS = 0.05
"""How long a JSON line about a single piece may wait for others."""


class View(Protocol):
    """Shows one command; ``t`` is seconds since its start, results go to stdout, the rest to stderr."""

    interval: float
    """Seconds between two calls of `draw`."""
    shows_pieces: bool
    """Whether it shows each piece that is requested, and each that is stored."""

    def event(self, event: Event, t: float) -> None:
        """Something happened."""

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        """This is how things stand."""

    def report(self, standings: Sequence[Standing], t: float) -> None:
        """Somebody asks how things stand."""

    def say(self, text: str) -> None:
        """Tell a person one line."""

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:
        """Print what the command was called for: ``report`` to programs, ``lines`` to people."""

    def close(self, t: float) -> None:
        """Leave the terminal as it was."""


class QuietView:
    """Results and errors, and nothing else."""

    interval = PLAIN_SECONDS
    shows_pieces = False

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def event(self, event: Event, t: float) -> None:  # noqa: ARG002
        """Print errors."""
        if isinstance(event, reports.PathFailed):
            self._outputs.err.put(f"{notice(event)}\n")

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        """Nobody wants to know."""

    def report(self, standings: Sequence[Standing], t: float) -> None:  # noqa: ARG002
        """Print it to stderr, in full."""
        from cli.render.peer_table import report

        for standing in standings:
            self._outputs.err.put("".join(f"{text}\n" for text in report(standing, sys.maxsize)))

    def say(self, text: str) -> None:
        """Nobody wants to know."""

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print to stdout."""
        for line in lines:
            self._outputs.out.put(f"{line}\n")

    def close(self, t: float) -> None:
        """Nothing to undo."""


class PlainView(QuietView):
    """A line of progress every few seconds; for logs, pipes and dumb terminals."""

    def __init__(self, outputs: Outputs, *, verbose: int = 0, peers: bool = False) -> None:
        super().__init__(outputs)
        self._narrator = Narrator(verbose)
        self.shows_pieces = verbose > 0
        self._peers = peers
        self._shown: dict[TransferId, tuple[object, ...]] = {}
        self._next = 0.0

    def event(self, event: Event, t: float) -> None:
        """Print what a person should be told of ``event``."""
        for text in self._narrator.tell(event, t):
            self._note(text)

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        """Print a line of progress for each transfer, unless nothing has changed since the last."""
        for text in self._narrator.overdue(t):
            self._note(text)
        if t < self._next:
            return
        for standing in standings:
            snapshot, phase = standing
            now = facts(snapshot, phase)
            if phase is Phase.STARTING or now == self._shown.get(snapshot.transfer):
                continue
            self._shown[snapshot.transfer] = now
            # Half a tick less: the next one must not miss it by a moment.
            self._next = t + min(t / SPARSE, MOST_SECONDS) - self.interval / 2
            share = percent(snapshot, phase)
            done = "" if share is None else f"{share:.1f}%, "
            kind = Kind.LATEST if len(standings) == 1 else Kind.OPTIONAL
            self._outputs.err.put(f"{title(snapshot, phase)}: {done}{status(snapshot, phase)}\n", kind)
            self._draw_peers(standing)

    def _draw_peers(self, standing: Standing) -> None:
        if self._peers:
            from cli.render.peer_table import peer_table

            for line in peer_table(standing.snapshot, sys.maxsize, most=sys.maxsize):
                self._note(f"  {line}")

    def say(self, text: str) -> None:
        """Print to stderr."""
        self._outputs.err.put(f"{text}\n")

    def close(self, t: float) -> None:
        """Tell what was counted only."""
        for text in self._narrator.overdue(t, last=True):
            self._note(text)

    def _note(self, text: str) -> None:
        self._outputs.err.put(f"{text}\n", Kind.OPTIONAL)


PIECES = (events.PieceRequested, events.PieceStored, events.PieceWasted, events.PieceLost)
"""Events about single pieces, which come by the thousand: printed with ``--json=pieces`` only."""
_KEPT = (
    events.NodeListening,
    events.TransferStarted,
    events.ManifestReady,
    events.FilesSelected,
    events.TransferResumed,
    events.TransferComplete,
    events.TransferEnded,
    *(
        kind
        for kind in vars(reports).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind.__module__ == reports.__name__
    ),
)
"""Events that a reader who comes back finds all of; others may have been left out, and are counted."""


class JsonView:
    """Events as lines of JSON on stdout; with ``pieces`` all of them."""

    interval = JSON_SECONDS

    def __init__(self, outputs: Outputs, *, pieces: bool = False) -> None:
        self._out = outputs.out
        self._out.gap = self._mark_gap
        self._pieces = self.shows_pieces = pieces
        self._sums: dict[tuple[type[BytesReceived | BytesSent], TransferId, SourceId], int] = {}
        self._shown: dict[TransferId, tuple[object, ...]] = {}
        self._waiting: list[str] = []
        self._printed_at = 0.0
        self._last_t = 0.0

    def event(self, event: Event, t: float) -> None:
        """Print the event, but sum up those that come with every few kilobytes.

        Thousands of lines a second about single pieces go out together: a line at a time costs more than
        the piece. Everything else is printed at once.
        """
        if isinstance(event, BytesReceived | BytesSent):
            source = event.source if isinstance(event, BytesReceived) else event.peer
            key = (type(event), event.transfer, source)
            self._sums[key] = self._sums.get(key, 0) + event.size
            return
        if isinstance(event, PIECES) and not self._pieces:
            return
        if isinstance(event, TransferEnded):
            # The last event of a transfer, so its sums come before it.
            self._print_sums(t)
        if isinstance(event, _KEPT) and not isinstance(event, TransferProgress):
            self._print(t)
            self._put(event, t, Kind.RESULT)
            return
        self._waiting.append(encode(event, t))
        if not isinstance(event, PieceRequested | PieceStored) or t >= self._printed_at + TOGETHER_SECONDS:
            self._print(t)

    def draw(self, standings: Sequence[Standing], t: float) -> None:
        """Print the sums, and how things stand if that has changed."""
        self._print_sums(t)
        for snapshot, phase in standings:
            # Rates that fade are no news until they are zero.
            flows = snapshot.down_rate >= 1, snapshot.up_rate >= 1
            now = (*facts(snapshot, phase), snapshot.have_pieces, snapshot.received, flows)
            if phase is not Phase.STARTING and now != self._shown.get(snapshot.transfer):
                self._shown[snapshot.transfer] = now
                self._put(progress(Standing(snapshot, phase)), t, Kind.OPTIONAL)

    def report(self, standings: Sequence[Standing], t: float) -> None:
        """Print how things stand, whether or not that has changed."""
        self._print_sums(t)
        for standing in standings:
            self._put(progress(standing), t, Kind.OPTIONAL)

    def _print_sums(self, t: float) -> None:
        for (kind, transfer, source), size in self._sums.items():
            self._waiting.append(encode(kind(transfer, source, size), t))  # type: ignore[arg-type]
        self._sums.clear()
        self._print(t)

    def _print(self, t: float) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._last_t = t
            self._out.put("\n".join(lines) + "\n", Kind.OPTIONAL)
        self._printed_at = t

    def _put(self, event: Event, t: float, kind: Kind) -> None:
        self._last_t = t
        self._out.put(f"{encode(event, t)}\n", kind)

    def _mark_gap(self) -> Callable[[int], str]:
        t = self._last_t
        return lambda lost: encode(LinesLost(lost), t)

    def say(self, text: str) -> None:
        """Programs read no prose."""

    def result(self, report: Event | None, lines: tuple[str, ...], t: float) -> None:  # noqa: ARG002
        """Print the report."""
        self._print_sums(t)
        if report is not None:
            self._put(report, t, Kind.RESULT)

    def close(self, t: float) -> None:
        """Print the last sums."""
        self._print_sums(t)


def progress(standing: Standing) -> TransferProgress:
    """Return the event that says how a transfer stands."""
    snapshot, phase = standing
    return TransferProgress(
        transfer=snapshot.transfer,
        phase=phase.value,
        done=snapshot.have_size,
        size=snapshot.size,
        pieces_done=snapshot.have_pieces,
        pieces=snapshot.pieces,
        hashed=snapshot.hashed,
        hash_total=snapshot.hash_total,
        received=snapshot.received,
        sent=snapshot.sent,
        down_rate=round(snapshot.down_rate, 1),
        up_rate=round(snapshot.up_rate, 1),
        seconds_left=None if snapshot.eta is None else round(snapshot.eta, 1),
        peers=snapshot.connected,
        full_peers=snapshot.full_peers,
    )


def can_draw() -> bool:
    """Return whether stderr is a terminal on which lines can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def choose_view(
    outputs: Outputs,
    *,
    json: str | bool | None = None,
    verbose: int = 0,
    quiet: bool = False,
    peers: bool = False,
) -> View:
    """Return JSON lines if asked for, a bar if stderr is a terminal that can show one, else lines."""
    if json:
        return JsonView(outputs, pieces=json == "pieces")
    if quiet:
        return QuietView(outputs)
    if can_draw():
        from cli.render.terminal import TerminalView

        return TerminalView(outputs, verbose=verbose, peers=peers)
    return PlainView(outputs, verbose=verbose, peers=peers)
