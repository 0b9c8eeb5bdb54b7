"""How things stand at one moment; plain values for whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.ids import ManifestId, PeerId


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer: sizes in bytes, rates in bytes per second, the last round trip in seconds.

    ``wasted`` counts refused, late and unwanted bytes; ``pieces`` only verified ones; ``why`` is
    the ranking's reason for the last request to this peer.
    """

    peer: PeerId
    address: str
    connected: bool
    inbound: bool
    banned: bool
    received: int
    sent: int
    pieces: int
    wasted: int
    down_rate: float
    up_rate: float
    round_trip: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One transfer at one moment: sizes in bytes, rates in bytes per second, times in seconds.

    ``hashed`` of ``hash_total`` bytes of a shared path are hashed (0 of 0 for a fetch). ``eta`` is
    None while nothing arrives. ``resumed`` bytes were here before this run.
    """

    elapsed: float
    manifest: ManifestId | None
    name: str
    size: int
    pieces: int
    have_pieces: int
    have_size: int
    resumed: int
    hashed: int
    hash_total: int
    received: int
    sent: int
    wasted: int
    down_rate: float
    up_rate: float
    eta: float | None
    connected: int
    banned: int
    complete: bool
    peers: tuple[PeerRow, ...]
