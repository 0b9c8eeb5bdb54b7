"""``swarm top``: what a daemon does, live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cli import daemon_calls, options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.daemon.client import DaemonClient
    from swarm.observe.reports import TransferListed

DRAW_SECONDS = 0.5
WAIT_SECONDS = 2
"""How long one question waits for news."""
USUAL_ROWS = 24
IN_ORDER = ("NAME", "STATE", "DONE", "DOWN", "UP", "LEFT", "PEERS", "SIZE", "ID")
"""The columns; the last ones give way first."""
LEAST_NAME = 12
GAP = 2
BUSIEST_FIRST = ("fetching", "hashing", "seeding")


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@click.option("--once", is_flag=True, help="Print one table and end.")
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, names: tuple[str, ...], once: bool, as_json: str | None) -> None:
    """Show what the daemon does, live: all transfers, or each ID with a table of its peers.

    Without a terminal it is as with --once; with --json a transfer gets a line whenever it has changed.
    """
    from cli.render.views import can_draw

    live = runtime.show("top", json=as_json)
    with daemon_calls.daemon() as client:
        top = Top(client, names)
        if as_json and not once:
            top.stream(live)
        elif once or as_json or not can_draw():
            top.ask()
            live.result(None, *top.lines(None, None))
            top.tell(live)
        else:
            try:
                while True:
                    top.ask()
                    runtime.outputs.err.frame(top.lines(*_size()))
                    time.sleep(DRAW_SECONDS)
            finally:
                runtime.outputs.err.frame(())


class Top:
    """The transfers of the daemon, or those that are named, as they were when asked for last."""

    def __init__(self, client: DaemonClient, names: tuple[str, ...]) -> None:
        self._client = client
        self._names = names
        self._version = ""
        self._known: dict[str, dict[str, Any]] = {}
        self._changed: list[dict[str, Any]] = []
        self._told: dict[str, TransferListed] = {}
        self._node: dict[str, Any] = {}

    def ask(self, wait: int = 0) -> None:
        """Ask the daemon; with ``wait`` seconds for what is new."""
        from swarm.daemon.client import transfer_path

        delta = self._client.get("/v1/transfers", since=self._version, wait=wait)
        self._version, self._node, self._changed = delta["version"], delta["node"], delta["transfers"]
        if self._names:
            self._changed = [self._client.get(transfer_path(name)) for name in self._names]
        if self._names or delta["whole"]:
            self._known = {}
        for gone in delta["removed"]:
            self._known.pop(gone, None)
            self._told.pop(gone, None)
        self._known.update((each["id"], each) for each in self._changed)

    def stream(self, live: Live) -> None:
        """Tell of each transfer whenever it has changed."""
        while True:
            self.ask(WAIT_SECONDS)
            self.tell(live)
            time.sleep(DRAW_SECONDS)

    def tell(self, live: Live) -> None:
        """Tell programs what has changed since it was told last."""
        from swarm.observe.reports import TransferListed

        for each in self._changed:
            listed = TransferListed(**{field: each[field] for field in TransferListed.__match_args__})
            if self._told.get(listed.id) != listed:
                self._told[listed.id] = listed
                live.result(listed)

    def lines(self, rows: int | None, columns: int | None) -> list[str]:
        """The table, at most so large; the busiest transfers come first."""
        from rich.cells import cell_len, set_cell_size

        found = sorted(self._known.values(), key=_rank)
        shown = found if rows is None else found[: max(1, rows - 3)]
        lines = [self._totals(), *_table(shown, columns)]
        for each in shown if self._names else ():
            lines += self._peers(each, columns)
        if len(found) > len(shown):
            lines.append(f"and {len(found) - len(shown)} more")
        if rows is not None:
            lines = lines[: rows - 1]
        if columns is None:
            return lines
        return [
            line if cell_len(line) <= columns else set_cell_size(line, columns).rstrip() for line in lines
        ]

    def _totals(self) -> str:
        from cli.quantities import counted, format_rate
        from swarm.sizes import format_size

        node = self._node
        down = f"down {format_rate(node['down_rate'])} ({format_size(node['received'])})"
        up = f"up {format_rate(node['up_rate'])} ({format_size(node['sent'])})"
        return f"{counted(node['transfers'], 'transfer')}, {down}, {up}"

    def _peers(self, about: dict[str, Any], columns: int | None) -> list[str]:
        import sys

        from cli.render.peer_table import peer_table
        from cli.transfers.delegating import snapshot_of
        from swarm.content.paths import printable

        table = peer_table(snapshot_of(about, 1, 0.0), columns or sys.maxsize)
        return ["", printable(about["name"] or about["id"]), *(table or ["no peer is connected"])]


def _table(transfers: list[dict[str, Any]], columns: int | None) -> list[str]:
    """Lines with headings. What a narrow terminal has no room for is left out, the name last of all."""
    from rich.cells import cell_len, set_cell_size

    from cli.commands.status import HEADINGS, cells
    from swarm.content.paths import printable

    order = [HEADINGS.index(name) for name in IN_ORDER]
    rows = [[row[index] for index in order] for row in (HEADINGS, *map(cells, transfers))]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    if columns is not None:
        least = min(widths[0], LEAST_NAME)
        while len(widths) > 1 and least + sum(widths[1:]) + GAP * (len(widths) - 1) > columns:
            widths.pop()
        room = columns - sum(widths[1:]) - GAP * (len(widths) - 1)
        widths[0] = min(widths[0], max(least, room))
    lines = []
    for row, about in zip(rows, ({}, *transfers), strict=True):
        padded = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=False))
        lines.append((" " * GAP).join(padded).rstrip())
        if about.get("error"):
            lines.append(f"  {printable(about['error'])}")
    return lines


def _rank(each: dict[str, Any]) -> tuple[Any, ...]:
    state = each["state"]
    busy = BUSIEST_FIRST.index(state) if state in BUSIEST_FIRST else len(BUSIEST_FIRST)
    return -round(each["down_rate"] + each["up_rate"], -3), busy, each["added"], each["id"]


def _size() -> tuple[int, int]:
    import os

    try:
        found = os.get_terminal_size(2)
    except OSError:
        return USUAL_ROWS, 80
    # The last column stays free: some terminals wrap there.
    return found.lines or USUAL_ROWS, max(10, (found.columns or 80) - 1)
