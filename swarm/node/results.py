"""What a node's commands bring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarm.content.envelope import Envelope
from swarm.content.link import SwarmLink
from swarm.content.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Shared:
    """What `Node.share` seeds."""

    envelope: Envelope
    link: SwarmLink

    @property
    def manifest(self) -> Manifest:
        """The manifest of what is shared."""
        return self.envelope.manifest


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What `Node.fetch` brought: ``size`` in bytes (of the selected files), ``seconds`` from the call to
    the final name."""

    manifest: Manifest
    path: Path
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PingSample:
    """One ping: the round trip in seconds, or None when it was lost."""

    address: str
    seconds: float | None
