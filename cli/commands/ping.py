"""``swarm ping``: round trips to several peers side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.node import Node
    from swarm.observe.reports import PingSummary

DEFAULT_COUNT = 5
DEFAULT_INTERVAL = 0.05
"""Seconds: a command that prints five round trips should not take seconds itself."""
MAX_INTERVAL = 3600.0


@click.command()
@options.peers_or_links
@click.option(
    "-c",
    "--count",
    type=click.IntRange(min=1),
    default=DEFAULT_COUNT,
    show_default=True,
    help="Pings to each peer.",
)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(min=0, max=MAX_INTERVAL),
    default=DEFAULT_INTERVAL,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two pings of a peer.",
)
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, peers: tuple[str, ...], count: int, interval: float, as_json: bool) -> None:
    """Measure the round trip to each PEER, several of them side by side.

    A swarm: link stands for all the peers that it names. Ends with exit code 4 if no peer answered a
    single ping.
    """
    from swarm.config import NodeOptions

    live = runtime.show("ping", json=as_json)

    async def main(node: Node) -> None:
        async with live.following(node):
            await _ping(node, live, peers, count, interval)

    runtime.with_node(NodeOptions(), main)


async def _ping(node: Node, live: Live, peers: tuple[str, ...], count: int, interval: float) -> None:
    import trio

    from swarm.errors import NoPeerReachable

    for address in node.addresses:
        live.result(None, f"libp2p node address: {address}")
    failures: list[NoPeerReachable] = []
    answers: list[int] = []

    async def one(address: str) -> None:
        try:
            answers.append(await _ping_one(node, live, address, count, interval))
        except NoPeerReachable as error:
            failures.append(error)
            if len(peers) > 1:
                live.say(f"warning: {error}")

    async with trio.open_nursery() as nursery:
        for address in dict.fromkeys(peers):
            nursery.start_soon(one, address)
    if not any(answers):
        raise failures[0] if failures and len(peers) == 1 else NoPeerReachable("no peer answered a ping")


async def _ping_one(node: Node, live: Live, address: str, count: int, interval: float) -> int:
    """Ping one peer, print every answer and the summary; return the number of answers."""
    from contextlib import aclosing

    from swarm.errors import NoPeerReachable
    from swarm.observe.reports import PeerPinged, PingStarted

    live.result(PingStarted(address, count), f"sending {count} ping messages to {address}")
    samples: list[float | None] = []
    try:
        async with aclosing(node.ping(address, count=count, interval=interval)) as answers:
            async for sample in answers:
                samples.append(sample.seconds)
                live.result(PeerPinged(address, sample.seconds), _answer_line(address, sample.seconds))
    except NoPeerReachable as error:
        if not samples:
            raise
        live.say(f"warning: {error}")
    report = summarise(address, samples)
    live.result(report, _summary_line(report))
    return report.sent - report.lost


def _answer_line(address: str, seconds: float | None) -> str:
    from cli.quantities import format_duration

    if seconds is None:
        return f"no answer from {address}"
    return f"pinged {address} in {format_duration(seconds)}"


def summarise(address: str, samples: list[float | None]) -> PingSummary:
    """Return the summary of one peer's round trips (seconds; None for a lost one)."""
    from statistics import median

    from swarm.observe.reports import PingSummary

    times = [seconds for seconds in samples if seconds is not None]
    return PingSummary(
        address=address,
        sent=len(samples),
        lost=len(samples) - len(times),
        min=min(times, default=None),
        median=median(times) if times else None,
        max=max(times, default=None),
    )


def _summary_line(report: PingSummary) -> str:
    from cli.quantities import format_duration

    times = (report.min, report.median, report.max)
    shown = "/".join("-" if seconds is None else format_duration(seconds) for seconds in times)
    return f"{report.address}: {report.sent} sent, {report.lost} lost, min/median/max {shown}"
