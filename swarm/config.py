"""What a user may set about a node and its transfers; defaults are what most users want.

Rates are bytes per second, None means unlimited; times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0",)
DEFAULT_MAX_PEERS = 128
DEFAULT_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Settings of one transfer."""

    peers: tuple[str, ...] = ()
    """Multiaddrs with ``/p2p/<id>`` of peers to dial, besides those that a link names."""
    only: tuple[str, ...] = ()
    """Patterns of the files to fetch (see docs/cli.md); none: everything."""
    trusted: tuple[str, ...] = ()
    """Peer ids, or Ed25519 public keys in hexadecimal, one of which must have signed the manifest."""
    seed: bool = False
    """Go on seeding once a fetch is complete, and wait for peers where none is named."""
    max_peers: int = DEFAULT_MAX_PEERS
    upload_limit: int | None = None
    """A limit of this transfer's own, within that of the node."""
    download_limit: int | None = None
    patience: float = DEFAULT_PATIENCE
    """Seconds that a fetch waits while no connected source has anything that it lacks."""
    prefer_near: bool = False
    """Ask far peers only for what no near peer has, and only once for all near peers together."""
    sequential: bool = False
    """Fetch mostly from the beginning to the end, so that what is fetched can be viewed meanwhile."""
    bases: tuple[Path, ...] = ()
    """Files or folders on this machine that may hold the same content: pieces are taken from there first."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Settings of one node."""

    home: Path | None = None
    """The folder of this user's state; None: ``$SWARM_HOME``, or else the platform's data folder."""
    listen: tuple[str, ...] = DEFAULT_LISTEN
    """Multiaddrs to listen on (port 0: any free port)."""
    announce: tuple[str, ...] = ()
    """Further multiaddrs at which others reach this node, such as a forwarded port; they come first."""
    upload_limit: int | None = None
    """Of all transfers together."""
    download_limit: int | None = None
    max_connections: int = 256
    allowed: frozenset[str] | None = None
    """Peer ids that are served besides those that the user named; None: everybody."""
