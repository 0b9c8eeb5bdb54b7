"""The table of peers: who has how much, rates, round trips."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from cli.quantities import format_duration, format_rate
from cli.render.lines import Standing, percent, short, status, title
from swarm.content.paths import printable
from swarm.ids import PeerId
from swarm.observe.tally import SourceRow, TransferSnapshot
from swarm.sizes import format_size

HEADINGS = ("PEER", "HAS", "DOWN", "UP", "GOT", "SENT", "TRIP", "ADDRESS")
MOST_ROWS = 16
"""Peers that are shown; the rest is counted."""


def peer_table(snapshot: TransferSnapshot, columns: int, most: int = MOST_ROWS) -> list[str]:
    """Return the lines of the table of connected peers, fastest first, each at most ``columns`` wide."""
    rows = [row for row in snapshot.sources if row.connected]
    if not rows:
        return []
    rows.sort(key=lambda row: (-(row.down_rate + row.up_rate), row.source))
    cells = [HEADINGS, *(_cells(row, snapshot) for row in rows[:most])]
    lines = [_fitted(line, columns) for line in _aligned(cells)]
    if len(rows) > most:
        lines.append(f"and {len(rows) - most} more")
    return lines


def report(standing: Standing, columns: int) -> list[str]:
    """Return how a transfer stands, and the whole table of its peers below that."""
    share = percent(*standing)
    done = "" if share is None else f"{share:.1f}%, "
    rows = peer_table(standing.snapshot, columns, most=sys.maxsize) or ["no peer is connected"]
    return [f"{title(*standing)}: {done}{status(*standing)}", *(f"  {row}" for row in rows)]


def _cells(row: SourceRow, snapshot: TransferSnapshot) -> tuple[str, ...]:
    has = "?"
    if row.pieces_held is not None and snapshot.all_pieces:
        has = f"{100 * row.pieces_held // snapshot.all_pieces}%"
    return (
        short(PeerId(row.source)),
        has,
        format_rate(row.down_rate),
        format_rate(row.up_rate),
        format_size(row.received),
        format_size(row.sent),
        "-" if row.round_trip is None else format_duration(row.round_trip),
        printable(row.address) or "-",
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *figures, last in rows:
        middle = [figure.rjust(width) for figure, width in zip(figures, widths[1:-1], strict=True)]
        lines.append("  ".join((first.ljust(widths[0]), *middle, last)))
    return lines


def _fitted(line: str, columns: int) -> str:
    return line if cell_len(line) <= columns else set_cell_size(line, columns).rstrip()
