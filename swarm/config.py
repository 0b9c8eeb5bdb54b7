"""What a user may set about a node and its transfers; defaults are what most users want.

Rates are bytes per second, None means unlimited; times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)
DEFAULT_MAX_PEERS = 128
DEFAULT_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """Settings of one transfer."""

    max_peers: int = DEFAULT_MAX_PEERS
    upload_limit: int | None = None
    download_limit: int | None = None
    patience: float = DEFAULT_PATIENCE
    """How long a fetch waits while nobody connected has anything that it wants."""
    prefer_near: bool = False
    """Take over far links only what no near peer has, once for all near peers together."""
    sequential: bool = False
    """Fetch mostly from the beginning to the end, so that what is fetched can be viewed meanwhile."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one node; ``listen`` are multiaddrs (port 0: any free port)."""

    listen: tuple[str, ...] = DEFAULT_LISTEN
    max_connections: int = 256
    allowed: frozenset[str] | None = None
    """Peer ids that are served beside those that the user named; None: everybody."""
    transfer: TransferConfig = TransferConfig()
