"""What the demo knows of its swarm, and how it is shown: a live table on a terminal, else plain lines."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from cli.output import Kind, Outputs
from cli.quantities import format_rate
from cli.render.views import can_draw
from swarm.events import BytesReceived, Event, NodeListening
from swarm.ids import SourceId
from swarm.lazy_dataclass import dataclass
from swarm.observe.reports import PathFetched, PathShared
from swarm.observe.tally import NodeTally, TransferSnapshot
from swarm.sizes import format_size


@dataclass(slots=True)
class DemoNode:
    """One process of the swarm."""

    name: str
    tally: NodeTally
    address: str = ""
    shared: PathShared | None = None
    fetched: PathFetched | None = None


class Board:
    """Folds the events of all nodes; ``now`` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.nodes: list[DemoNode] = []
        self._names: dict[SourceId, str] = {}
        self._flows: Counter[tuple[SourceId, str]] = Counter()

    def join(self, name: str, now: float) -> DemoNode:
        """Add a node to the board."""
        node = DemoNode(name, NodeTally(now))
        self.nodes.append(node)
        return node

    def add(self, node: DemoNode, event: Event, now: float) -> None:
        """Count one event of ``node``."""
        node.tally.add(event, now)
        match event:
            case NodeListening(peer=peer, addresses=addresses):
                node.address = addresses[0]
                self._names[peer] = node.name
            case BytesReceived(source=source, size=size):
                self._flows[source, node.name] += size
            case PathShared():
                node.shared = event
            case PathFetched():
                node.fetched = event

    def flow(self, sender: str, receiver: str) -> int:
        """Return the payload bytes that one node, by name, received from another."""
        return sum(
            size
            for (peer, name), size in self._flows.items()
            if name == receiver and self._names.get(peer) == sender
        )

    def flow_list(self) -> list[tuple[str, str, int]]:
        """Return who sent how much to whom: sender, receiver, payload bytes."""
        flows = ((self._names.get(peer, str(peer)), name, size) for (peer, name), size in self._flows.items())
        return sorted(flows)

    def progress(self, now: float) -> list[tuple[str, ...]]:
        """Return a row for each node: name, done, pieces, peers, down, up."""
        return [_row(node, node.tally.latest(now)) for node in self.nodes]

    def flows(self) -> list[tuple[str, ...]]:
        """Return the table of who (rows) sent how much to whom (columns), with sums."""
        receivers = [node.name for node in self.nodes if node.shared is None]
        rows: list[tuple[str, ...]] = [("from / to", *receivers, "sent")]
        for node in self.nodes:
            sizes = [self.flow(node.name, receiver) for receiver in receivers]
            cells = [
                "-" if name == node.name else format_size(size)
                for name, size in zip(receivers, sizes, strict=True)
            ]
            rows.append((node.name, *cells, format_size(sum(sizes))))
        received = [sum(self.flow(node.name, name) for node in self.nodes) for name in receivers]
        rows.append(("received", *map(format_size, received), format_size(sum(received))))
        return rows


def _row(node: DemoNode, snapshot: TransferSnapshot) -> tuple[str, ...]:
    done = "seeds" if node.shared else "complete" if node.fetched else _percent(snapshot)
    pieces = node.shared.pieces if node.shared else snapshot.have_pieces
    return (
        node.name,
        done,
        str(pieces),
        str(snapshot.connected),
        format_rate(snapshot.down_rate),
        format_rate(snapshot.up_rate),
    )


def _percent(snapshot: TransferSnapshot) -> str:
    return f"{100 * snapshot.have_size / snapshot.size:.0f}%" if snapshot.size else "starting"


PROGRESS_HEADINGS = ("NODE", "DONE", "PIECES", "PEERS", "DOWN", "UP")


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines; the first column leans left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join((first.ljust(widths[0]), *cells)))
    return lines


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

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._last = ""

    def draw(self, board: Board, now: float) -> None:
        """Print how far everybody is, unless that is the same as before."""
        line = ", ".join(f"{name} {done}" for name, done, *_ in board.progress(now))
        if line != self._last:
            self._last = line
            self._outputs.err.put(f"{line}\n", Kind.LATEST)

    def close(self) -> None:
        """Nothing to undo."""


class LiveShow:
    """A table that is drawn anew in its place."""

    interval = LIVE_SECONDS

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def draw(self, board: Board, now: float) -> None:
        """Draw the table."""
        self._outputs.err.frame(aligned([PROGRESS_HEADINGS, *board.progress(now)]))

    def close(self) -> None:
        """Take the table away."""
        self._outputs.err.frame(())


def choose_show(outputs: Outputs) -> Show:
    """Return the live table if stderr is a terminal that can show it."""
    return LiveShow(outputs) if can_draw() else PlainShow(outputs)
