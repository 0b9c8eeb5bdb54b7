"""One brain per transfer: every input returns the commands that follow from it. It routes, it never computes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swarm.config import TransferConfig
from swarm.ids import ManifestId, PeerId
from swarm.strategy.commands import Command

if TYPE_CHECKING:
    from swarm.content.bitfield import Bitfield
    from swarm.content.layout import Layout
    from swarm.wire.messages import Message


class Brain:
    """Decides who is asked for what and who is served; ``now`` is monotonic seconds everywhere."""

    def __init__(
        self,
        manifest_id: ManifestId,
        layout: Layout,
        stored: Bitfield,
        rng: random.Random,
        now: float,
        config: TransferConfig,
    ) -> None:
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether every wanted piece is stored."""
        raise NotImplementedError

    def missing(self) -> Iterator[int]:
        """The wanted pieces that are not stored and that no connected peer has, in order."""
        raise NotImplementedError

    def next_wakeup(self) -> float:
        """When `tick` next has something to do; infinity when only an input can change anything."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Command]:
        """Do what is due at ``now``."""
        raise NotImplementedError

    def peer_joined(self, peer: PeerId, now: float, *, rtt: float | None) -> list[Command]:
        """A session is open and its handshake done; ``rtt`` is a measured round trip in seconds, if any."""
        raise NotImplementedError

    def peer_left(self, peer: PeerId, now: float) -> list[Command]:
        """The peer's session ended, for whatever reason."""
        raise NotImplementedError

    def received(self, peer: PeerId, message: Message, now: float) -> list[Command]:
        """A control message of the peer that is legal in its session."""
        raise NotImplementedError

    def data_received(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` payload bytes of a requested piece arrived."""
        raise NotImplementedError

    def piece_received(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """A requested piece is whole in memory; without a `StorePiece` in the answer it is to be dropped."""
        raise NotImplementedError

    def piece_stored(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The piece matched its hash and is written."""
        raise NotImplementedError

    def piece_refused(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """The piece did not match its hash: its sender is banned."""
        raise NotImplementedError

    def piece_failed(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """Our own disk refused the piece; nobody is to blame."""
        raise NotImplementedError

    def piece_lost(self, piece: int, now: float) -> list[Command]:
        """A stored piece can no longer be served as it was."""
        raise NotImplementedError

    def uploaded(self, peer: PeerId, piece: int, size: int, now: float) -> list[Command]:
        """``size`` payload bytes of the piece were handed to the link."""
        raise NotImplementedError

    def upload_finished(self, peer: PeerId, piece: int, now: float) -> list[Command]:
        """An `Upload` is over: its final reply was handed to the link."""
        raise NotImplementedError

    def round_trip(self, peer: PeerId, seconds: float | None, now: float) -> list[Command]:
        """A ping of the peer was answered after ``seconds``, or lost (None)."""
        raise NotImplementedError
