"""What one side of a session has said so far: greeting, announcements, requests, goodbye."""

from __future__ import annotations

from enum import Enum

from swarm.content.bitfield import Bitfield
from swarm.content.layout import Layout
from swarm.ids import ManifestId
from swarm.wire.messages import (
    PROTOCOL_VERSION,
    Goodbye,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    Message,
)
from swarm.wire.requests import Requests


class Phase(Enum):
    """What a side must say next."""

    HELLO = "HELLO"
    ANNOUNCEMENT = "HAVE_BITFIELD, HAVE_ALL or HAVE_NONE"
    OPEN = "anything but a second greeting"
    SILENT = "nothing after GOODBYE"


class Speaker:
    """One side; every method raises ValueError with one line for what this side may not say now."""

    __slots__ = ("announced", "farewell", "hello", "phase", "requests")

    def __init__(self, layout: Layout) -> None:
        self.phase = Phase.HELLO
        self.hello: Hello | None = None
        self.farewell: str | None = None
        self.announced = Bitfield(layout.piece_count)
        self.requests = Requests(layout)

    def greet(self, message: Message, manifest: ManifestId) -> None:
        """A message of this side while its phase is not OPEN."""
        if isinstance(message, Goodbye) and self.phase is not Phase.SILENT:
            self.leave(message)
        elif isinstance(message, Hello) and self.phase is Phase.HELLO:
            self._say_hello(message, manifest)
        elif isinstance(message, HaveBitfield | HaveAll | HaveNone) and self.phase is Phase.ANNOUNCEMENT:
            self._announce(message)
        else:
            raise ValueError(f"{type(message).__name__} where the next message is {self.phase.value}")

    def leave(self, message: Goodbye) -> None:
        """A GOODBYE."""
        self.phase = Phase.SILENT
        self.farewell = message.reason

    def have(self, pieces: tuple[int, ...]) -> None:
        """A HAVE: only pieces that were not announced or that were withdrawn since."""
        for piece in pieces:
            if not 0 <= piece < self.announced.size or not self.announced.add(piece):
                raise ValueError(f"piece {piece} is announced twice or does not exist")

    def withdraw(self, piece: int) -> None:
        """A WITHDRAW: only an announced piece."""
        if piece not in self.announced or not self.announced.remove(piece):
            raise ValueError(f"piece {piece} is withdrawn without having been announced")

    def _say_hello(self, hello: Hello, manifest: ManifestId) -> None:
        if hello.version != PROTOCOL_VERSION:
            raise ValueError(f"protocol version {hello.version} where {PROTOCOL_VERSION} is spoken")
        if hello.manifest != manifest:
            raise ValueError(f"the session is about {manifest}, not {hello.manifest}")
        if hello.pieces != self.announced.size:
            raise ValueError(f"{hello.pieces} pieces where the manifest has {self.announced.size}")
        self.hello = hello
        self.phase = Phase.ANNOUNCEMENT

    def _announce(self, message: HaveBitfield | HaveAll | HaveNone) -> None:
        if isinstance(message, HaveBitfield):
            self.announced = Bitfield.from_bytes(message.data, self.announced.size)
        elif isinstance(message, HaveAll):
            self.announced = Bitfield.all(self.announced.size)
        self.phase = Phase.OPEN
