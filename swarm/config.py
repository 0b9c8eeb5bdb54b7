"""What a user may set about a node and its transfers; defaults are what most users want.

Rates are bytes per second, None means unlimited; times are seconds.
"""

from __future__ import annotations

from pathlib import Path

from swarm.errors import UsageError
from swarm.lazy_dataclass import dataclass
from swarm.origin_url import OriginUrl, read_origins

DEFAULT_LISTEN = ("/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0")
"""Every address of this machine, on one port for both; without the second where there is no IPv6."""
DEFAULT_MAX_PEERS = 128
DEFAULT_PATIENCE = 120.0
ORIGIN_USES = ("together", "fallback", "never")


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
    """Seconds that a fetch waits for its first peer, for the manifest of an id, and for a verified piece."""
    prefer_near: bool = False
    """Ask far peers only for what no near peer has, and only once for all near peers together."""
    spare: tuple[str, ...] = ()
    """Peer ids that many ask at once: asked only for what no other peer has, and once for all."""
    sequential: bool = False
    """Fetch mostly from the beginning to the end, so that what is fetched can be viewed meanwhile."""
    bases: tuple[Path, ...] = ()
    """Files or folders on this machine that may hold the same content: pieces are taken from there first."""
    ignore: tuple[str, ...] = ()
    """Patterns of what in a folder is not shared (see docs/cli.md), besides those in its ``.swarmignore``."""
    omit: tuple[Path, ...] = ()
    """Paths that are not shared, such as that of the manifest in the folder that is shared."""
    skip: bool = False
    """Leave out what cannot be shared, with a warning; otherwise it is an error."""
    name: str | None = None
    """The final name of what is fetched; None: the name in its manifest."""
    overwrite: bool = False
    """Replace files under the final name that differ, once all is complete; reuse what is right in them."""
    update: bool = False
    """Replace an older version under the final name as a whole, once all is verified; see docs/updates.md."""
    rehash: bool = False
    """Hash what is on the disk anew, also files that nothing has changed since this machine hashed them."""

    origins: tuple[str | OriginUrl, ...] = ()
    """``http`` and ``https`` URLs of web servers that have the content (docs/origins.md)."""
    origin_use: str = "together"
    """When origins are asked: ``together`` with peers, as a ``fallback``, or ``never``."""
    origin_ca: Path | None = None
    """A PEM file of certificate authorities that ``https`` origins may use, instead of the system's."""
    origin_public_only: bool = False
    """Refuse origins whose address is not a public one."""

    times: bool = True
    """Give what is fetched the modification times of the original, where they came with its manifest."""

    @property
    def origin_urls(self) -> tuple[OriginUrl, ...]:
        """The origins, none of which shows its secrets."""
        return read_origins(self.origins)

    def __post_init__(self) -> None:
        # Nothing that prints the options shows what is secret in a URL.
        object.__setattr__(self, "origins", read_origins(self.origins))
        if self.origin_use not in ORIGIN_USES:
            raise UsageError(f"origin_use is one of {', '.join(ORIGIN_USES)}, not {self.origin_use!r}")
        _check_limits(self.upload_limit, self.download_limit)
        if self.update and (self.only or self.overwrite):
            raise UsageError("an update replaces a whole version: leave out what selects or overwrites files")
        if self.max_peers < 1:
            raise UsageError(f"max_peers is at least 1, not {self.max_peers}")
        if self.patience < 0:
            raise UsageError(f"patience is a number of seconds from 0, not {self.patience}")


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Settings of one node."""

    home: Path | None = None
    """The folder of this user's state; None: ``$SWARM_HOME``, or else the platform's data folder."""
    serves: tuple[str | Path, ...] = ()
    """What this node shares: it gets the identity and port that it had for that before, which are its own."""
    resumes: tuple[str, ...] = ()
    """Names of what this node fetches and then seeds: it prefers the identity that it had for it before."""
    manifests: tuple[Path, ...] = ()
    """Where manifests of what it ``serves`` may lie: one that an older version signed gives its identity."""
    listen: tuple[str, ...] = DEFAULT_LISTEN
    """Multiaddrs to listen on (port 0: any free port)."""
    announce: tuple[str, ...] = ()
    """Further multiaddrs at which others reach this node, such as a forwarded port; they come first."""
    listed: bool | None = None
    """Tell peers that ask what is offered here; otherwise they get only what they can name.

    None: tell everybody as long as nothing leads strangers here. With ``lan``, ``dht`` or ``meet``, only this
    machine and the peers that the user named are told."""
    dht: tuple[str, ...] = ()
    """Multiaddrs with ``/p2p/<id>`` of nodes of a distributed hash table, or ``ipfs``: see docs/reach.md."""
    map_port: bool = False
    """Ask the router for a port that leads to this node: see docs/reach.md."""
    lan: bool = False
    """Find peers in the networks that this machine is in, and be found there: see docs/reach.md."""
    upload_limit: int | None = None
    """Of all transfers together."""
    download_limit: int | None = None
    max_connections: int = 256
    meet: tuple[str, ...] = ()
    """Meeting points (multiaddrs with ``/p2p/<id>``) at which peers are found and firewalls are passed."""
    relay_data: bool = False
    """Let pieces go through a meeting point where no direct connection can be made, if the peer does, too."""
    allowed: frozenset[str] | None = None
    """Peer ids that are served besides those that the user named; None: everybody."""

    def __post_init__(self) -> None:
        _check_limits(self.upload_limit, self.download_limit)
        if self.max_connections < 1:
            raise UsageError(f"max_connections is at least 1, not {self.max_connections}")


@dataclass(frozen=True, slots=True)
class MeetingOptions:
    """Settings of a meeting point."""

    home: Path | None = None
    listen: tuple[str, ...] = DEFAULT_LISTEN
    announce: tuple[str, ...] = ()
    max_connections: int = 1024
    circuit_bytes: int = 128 * 1024
    """Bytes that one relayed connection may carry in each direction, 0 for any number. The default is enough
    to agree on a direct connection."""
    circuit_seconds: int = 120
    """How long one relayed connection may last, 0 for any time."""

    def __post_init__(self) -> None:
        if min(self.circuit_bytes, self.circuit_seconds) < 0 or self.max_connections < 1:
            raise UsageError("the limits of a meeting point are numbers from 0, and at least one connection")


def _check_limits(*limits: int | None) -> None:
    for limit in limits:
        if limit is not None and limit < 1:
            raise UsageError(
                f"a rate limit is at least 1 byte per second, not {limit}; use None for no limit"
            )
