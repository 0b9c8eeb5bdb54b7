"""Keeps a folder at the newest release of a series: fetch, seed, wait for the next one, update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm.errors import Incomplete, NoPeerReachable
from swarm.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.config import TransferOptions
    from swarm.content.release import ReleaseRecord
    from swarm.content.series_link import SeriesLink
    from swarm.node import Node
    from swarm.transfer.transfer import Transfer

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
"""Seconds before an update that failed for lack of peers is tried again; doubled each time."""


@dataclass(frozen=True, slots=True)
class KeepingUp:
    """Which series to follow, into which folder, and how; ``once`` ends after one update."""

    link: SeriesLink
    output: Path
    options: TransferOptions
    once: bool


async def keep_up(node: Node, live: Live, keeping: KeepingUp) -> None:
    """Update whenever there is a release, until interrupted; raises what no waiting can mend."""
    import trio

    pause = FIRST_PAUSE
    record = await _newest(node, live, keeping)
    while True:
        transfer = node.fetch(keeping.link, into=keeping.output, options=keeping.options)
        try:
            changed = await _complete(node, live, transfer)
        except (NoPeerReachable, Incomplete) as error:
            live.warn(f"release {record.sequence} could not be fetched: {error}; trying again")
            await transfer.stop()
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            record = await _newest(node, live, keeping)
            continue
        pause = FIRST_PAUSE
        record = node.known_release(keeping.link.series) or record
        if keeping.once and changed:
            await node.passed_on(transfer)
            await transfer.stop()
            return
        record = await node.next_release(keeping.link, record.sequence, options=keeping.options)
        # Its folder is about to be replaced.
        await transfer.stop()


async def _newest(node: Node, live: Live, keeping: KeepingUp) -> ReleaseRecord:
    try:
        return await node.newest_release(keeping.link, options=keeping.options)
    except (NoPeerReachable, Incomplete) as error:
        live.warn(f"{error}; waiting for a release")
        return await node.next_release(keeping.link, 0, options=keeping.options)


async def _complete(node: Node, live: Live, transfer: Transfer) -> bool:
    """Wait until a release is in place, and tell its path; says whether anything was different before."""
    from cli.render.lines import Phase, summary
    from swarm.content.paths import printable
    from swarm.observe.reports import FetchedSeeded, PathFetched

    live.phase = Phase.FETCHING
    path = str(await transfer.complete())
    await live.settle()
    snapshot = live.snapshot(transfer.number)
    live.say(summary(snapshot))
    live.result(PathFetched(transfer.id, path, transfer.size, snapshot.elapsed), printable(path))
    await node.port_decided()
    live.result(FetchedSeeded(transfer.id, transfer.link))
    live.phase = Phase.SEEDING
    return bool(snapshot.received or snapshot.reused or snapshot.patched)
