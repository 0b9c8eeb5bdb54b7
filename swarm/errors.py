"""Every error that swarm raises on purpose, with the exit code that a command ends with.

Blame is part of the type: `RemoteError` is the peer's doing, `LinkClosed` is the transport's,
everything else is ours or the user's. A message is one line that says what to do.
"""

from __future__ import annotations


class SwarmError(Exception):
    """Base of all declared errors; ``exit_code`` is what a command exits with."""

    exit_code = 1


class UsageError(SwarmError):
    """The caller asked for something that makes no sense (exit 2)."""

    exit_code = 2


class ManifestError(SwarmError):
    """A manifest, a manifest's id or a ``swarm:`` link is malformed or breaks a limit (exit 3)."""

    exit_code = 3


class PatchError(ManifestError):
    """A patch is malformed, breaks a limit, or belongs to other versions (exit 3)."""


class NoPeerReachable(SwarmError):
    """None of the peers answered (exit 4).

    Of several, the one with the greatest ``telling`` says most about what is wrong.
    """

    exit_code = 4

    def __init__(self, message: str, *, telling: int = 0) -> None:
        super().__init__(message)
        self.telling = telling


class Incomplete(SwarmError):
    """Peers are gone or nobody has the missing pieces (exit 5)."""

    exit_code = 5


class IntegrityError(SwarmError):
    """Content does not match its manifest (exit 6)."""

    exit_code = 6


class DiskError(SwarmError):
    """The file system refused: full, read-only, I/O error, target in the way (exit 7)."""

    exit_code = 7


class PiecesChanged(DiskError):
    """Another program changed ``pieces`` of what a fetch wrote to ``path``; they can be fetched again."""

    def __init__(self, message: str, path: str, pieces: tuple[int, ...]) -> None:
        super().__init__(message)
        self.path = path
        self.pieces = pieces


class Locked(SwarmError):
    """Another process holds the lock of this target (exit 8)."""

    exit_code = 8


class RemoteError(SwarmError):
    """The remote peer broke a rule of the protocol; the peer is to blame."""


class PieceMismatch(RemoteError):
    """A received piece does not have the hash that the manifest names."""


class PieceWithdrawn(SwarmError):
    """A piece that this node advertised can no longer be read as it was; it must not be sent."""


class ContentAway(PieceWithdrawn):
    """The file of an advertised piece is gone or changed, so that none of its pieces is served for now."""


class LinkClosed(SwarmError):
    """The stream or its connection ended (EOF, reset, lost); nobody is to blame."""


class LocalProtocolError(SwarmError):
    """This side was about to say something illegal; nothing was sent."""
