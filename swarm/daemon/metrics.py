"""The metrics of the daemon in the text format of Prometheus."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final

from swarm.daemon.keeper import SOURCE_KINDS, TransferKeeper
from swarm.daemon.kept_entry import KeptEntry
from swarm.observe.tally import TransferSnapshot
from swarm.transfer.buffers import POOL_BYTES, UPLOAD_BYTES

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STATES: Final = ("opening", "hashing", "fetching", "seeding", "finished", "paused", "waiting", "failed")
ROUND_TRIP_STEPS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5)
"""Seconds; the upper edges of the histogram of round trips."""

Sample = tuple[str, float]


Family = tuple[str, str, str, Sequence[Sample]]
"""A name, a type, a text, and samples: labels and a value."""


def metrics(keeper: TransferKeeper, now: float) -> str:
    """The text; costs one pass over the transfers."""
    snapshots = [(entry, entry.tally.snapshot(now)) for entry in keeper.entries.values()]
    lines: list[str] = []
    for name, kind, text, samples in (*_of_node(keeper, now), *_of_transfers(snapshots)):
        lines.extend(_family(name, kind, text, samples))
    trips = sorted(
        row.round_trip
        for _, snapshot in snapshots
        for row in snapshot.sources
        if row.connected and row.round_trip is not None
    )
    lines.extend(_histogram("swarm_round_trip_seconds", "Round trips to connected peers.", trips))
    return "\n".join(lines) + "\n"


def _of_node(keeper: TransferKeeper, now: float) -> Iterator[Family]:
    memory, limits = keeper.node.memory, keeper.rules.limits_now
    received = [(f'{{source="{kind}"}}', keeper.received_from[kind]) for kind in SOURCE_KINDS]
    yield "swarm_uptime_seconds", "gauge", "Seconds since the daemon started.", [("", now - keeper.began)]
    yield "swarm_received_bytes_total", "counter", "Payload bytes received, by kind of source.", received
    made = [('{from="files"}', keeper.reused), ('{from="patch"}', keeper.patched)]
    text = "Bytes of pieces that complete fetches took from this machine instead."
    yield "swarm_reused_bytes_total", "counter", text, made
    yield "swarm_sent_bytes_total", "counter", "Payload bytes sent.", [("", keeper.sent)]
    yield "swarm_pieces_refused_total", "counter", "Pieces that were false.", [("", keeper.refused)]
    yield "swarm_sources_banned_total", "counter", "Sources that broke a rule.", [("", keeper.banned)]
    yield "swarm_events_total", "counter", "Events of the node.", [("", keeper.ring.count)]
    delay, text = keeper.loop_delay, "How late the event loop was lately."
    yield "swarm_loop_delay_seconds", "gauge", text, [("", delay)]
    text = "How long the last change of the list took."
    yield "swarm_disk_delay_seconds", "gauge", text, [("", keeper.disk_delay)]
    used = [('{use="receive"}', memory.pool.used), ('{use="send"}', memory.uploads.used)]
    text = "Pieces in memory: received and not yet stored, read and not yet sent."
    yield "swarm_buffer_bytes", "gauge", text, used
    most = [('{use="receive"}', POOL_BYTES), ('{use="send"}', UPLOAD_BYTES)]
    yield "swarm_buffer_limit_bytes", "gauge", "What such pieces may take.", most
    rates = [('{direction="in"}', limits.download or inf), ('{direction="out"}', limits.upload or inf)]
    text = "The limit of all transfers together at this moment; +Inf is none."
    yield "swarm_limit_bytes_per_second", "gauge", text, rates
    yield "swarm_resident_memory_bytes", "gauge", "Memory of the process.", [("", _resident())]


def _of_transfers(snapshots: Sequence[tuple[KeptEntry, TransferSnapshot]]) -> Iterator[Family]:
    states = Counter(entry.state(snapshot) for entry, snapshot in snapshots)
    by_state = [(f'{{state="{state}"}}', states[state]) for state in STATES]
    yield "swarm_transfers", "gauge", "Transfers by state.", by_state
    # The name of a series has no character that a label would have to escape.
    releases = [
        (f'{{transfer="{entry.kept.id}",series="{entry.series.series.name}"}}', entry.kept.release)
        for entry, _ in snapshots
        if entry.series is not None
    ]
    text = "The release that each followed series is at; 0 until the first is found."
    yield "swarm_series_release", "gauge", text, releases
    have = sum(snapshot.have_pieces for _, snapshot in snapshots)
    yield "swarm_pieces_stored", "gauge", "Verified pieces of all transfers.", [("", have)]
    connected = sum(snapshot.connected for _, snapshot in snapshots)
    inbound = sum(row.connected and row.inbound for _, each in snapshots for row in each.sources)
    sessions = [('{direction="in"}', inbound), ('{direction="out"}', connected - inbound)]
    text = "Open sessions with peers and other sources, by who began."
    yield "swarm_sessions", "gauge", text, sessions
    peers = [(f'{{state="{state}"}}', count) for state, count in _peers(snapshots).items()]
    yield "swarm_peers", "gauge", "Sources of all transfers by state; full ones have everything.", peers


def _peers(snapshots: Iterable[tuple[KeptEntry, TransferSnapshot]]) -> dict[str, int]:
    counts = {"connected": 0, "full": 0, "banned": 0, "gone": 0}
    for _, snapshot in snapshots:
        counts["connected"] += snapshot.connected - snapshot.full_peers
        counts["full"] += snapshot.full_peers
        counts["banned"] += snapshot.banned
        counts["gone"] += sum(not (row.connected or row.banned) for row in snapshot.sources)
    return counts


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{labels} {'+Inf' if value == inf else f'{value:.17g}'}"


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
