"""The metrics of the daemon in the text format of Prometheus."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from swarm.daemon.keeper import TransferKeeper

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = ("opening", "hashing", "fetching", "seeding", "finished", "paused", "waiting", "failed")
ROUND_TRIP_STEPS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5)
"""Seconds; the upper edges of the histogram of round trips."""

Sample = tuple[str, float]


def metrics(keeper: TransferKeeper, now: float) -> str:
    """The text; costs one pass over the transfers."""
    snapshots = [(entry, entry.tally.snapshot(now)) for entry in keeper.entries.values()]
    states = Counter(entry.state(snapshot) for entry, snapshot in snapshots)
    trips = sorted(
        row.round_trip
        for _, snapshot in snapshots
        for row in snapshot.sources
        if row.connected and row.round_trip is not None
    )
    connected = sum(snapshot.connected for _, snapshot in snapshots)
    inbound = sum(row.connected and row.inbound for _, each in snapshots for row in each.sources)
    have = sum(snapshot.have_pieces for _, snapshot in snapshots)
    lines: list[str] = []
    for name, kind, text, samples in (
        ("swarm_uptime_seconds", "gauge", "Seconds since the daemon started.", [("", now - keeper.began)]),
        ("swarm_received_bytes_total", "counter", "Payload bytes received.", [("", keeper.received)]),
        ("swarm_sent_bytes_total", "counter", "Payload bytes sent.", [("", keeper.sent)]),
        ("swarm_pieces_refused_total", "counter", "Pieces that were false.", [("", keeper.refused)]),
        ("swarm_sources_banned_total", "counter", "Sources that broke a rule.", [("", keeper.banned)]),
        ("swarm_events_total", "counter", "Events of the node.", [("", keeper.ring.last)]),
        (
            "swarm_transfers",
            "gauge",
            "Transfers by state.",
            [(f'{{state="{state}"}}', states[state]) for state in STATES],
        ),
        ("swarm_pieces_stored", "gauge", "Verified pieces of all transfers.", [("", have)]),
        (
            "swarm_sessions",
            "gauge",
            "Open sessions with peers and other sources, by who began.",
            [('{direction="in"}', inbound), ('{direction="out"}', connected - inbound)],
        ),
        (
            "swarm_loop_delay_seconds",
            "gauge",
            "How late the event loop was lately.",
            [("", keeper.loop_delay)],
        ),
        (
            "swarm_disk_delay_seconds",
            "gauge",
            "How long the last change of the list took.",
            [("", keeper.disk_delay)],
        ),
        ("swarm_resident_memory_bytes", "gauge", "Memory of the process.", [("", _resident())]),
    ):
        lines.extend(_family(name, kind, text, samples))
    lines.extend(_histogram("swarm_round_trip_seconds", "Round trips to connected peers.", trips))
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{labels} {value:.17g}"


def _histogram(name: str, text: str, values: list[float]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    for edge in ROUND_TRIP_STEPS:
        yield f'{name}_bucket{{le="{edge:g}"}} {sum(value <= edge for value in values)}'
    yield f'{name}_bucket{{le="+Inf"}} {len(values)}'
    yield f"{name}_sum {sum(values):.17g}"
    yield f"{name}_count {len(values)}"


def _resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of a user's
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
