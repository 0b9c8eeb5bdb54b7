"""``swarm status``: what a daemon shares and fetches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli import daemon_calls, options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADINGS = ("ID", "STATE", "DONE", "SIZE", "DOWN", "UP", "LEFT", "PEERS", "NAME")
ID_SHOWN = 8
"""Characters of an id in the table."""


@click.command()
@click.argument("names", metavar="[ID]...", nargs=-1)
@options.qr
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, names: tuple[str, ...], qr: bool, as_json: str | None) -> None:
    """Show how the transfers of the daemon stand: all of them, or each ID."""
    from swarm.daemon.client import transfer_path
    from swarm.observe.reports import TransferListed

    live = runtime.show("status", json=as_json)
    with daemon_calls.daemon() as client:
        if names:
            found = [client.get(transfer_path(name)) for name in names]
        else:
            found = client.get("/v1/transfers")["transfers"]
    found.sort(key=lambda each: (each["added"], each["id"]))
    live.result(None, *table(found))
    for each in found:
        if qr and each["link"] is not None:
            from swarm.content.link_code import link_blocks
            from swarm.content.paths import printable

            live.result(None, "", printable(each["name"]), *link_blocks(each["link"]), each["link"])
    for each in found:
        live.result(TransferListed(**{field: each[field] for field in TransferListed.__match_args__}))


def table(transfers: Sequence[dict[str, Any]]) -> list[str]:
    """Return aligned lines with headings; names are others' words and escaped."""
    from swarm.content.paths import printable

    rows = [HEADINGS, *map(cells, transfers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, about in zip(rows, ({}, *transfers), strict=True):
        lines.append("  ".join(map(str.ljust, row, widths)).rstrip())
        if about and (
            remark := about["error"] or about["finished"] or (not about["complete"] and about["note"])
        ):
            lines.append(f"{'':{widths[0]}}  {printable(remark)}")
    return lines


def cells(each: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one line, as in `HEADINGS`."""
    from cli.quantities import format_rate, format_remaining
    from swarm.content.paths import printable
    from swarm.sizes import format_size

    done = each["done"] / each["size"] if each["size"] else float(each["complete"])
    if each["state"] == "hashing" and each["hash_total"]:
        done = each["hashed"] / each["hash_total"]
    left = "" if each["seconds_left"] is None else format_remaining(each["seconds_left"])
    release = "" if each["series"] is None else f" (release {each['release'] or '…'})"
    return (
        each["id"][:ID_SHOWN],
        each["state"],
        f"{100 * done:.1f}%",
        format_size(each["size"]),
        format_rate(each["down_rate"]),
        format_rate(each["up_rate"]),
        left,
        str(each["peers"]),
        printable(each["name"] or each["manifest"] or "") + release,
    )
