"""Both ends of a connection's records, without a socket: plaintexts out of chunks, records out of parts."""

from __future__ import annotations

from swarm.mux.connection import Connection
from swarm.mux.mux_limits import NOISE_MAX_PLAINTEXT, NOISE_MAX_SEALED
from swarm.mux.records import Blocks, Opener, PlaintextSink, Sealer

_STAGING = memoryview(bytearray(NOISE_MAX_PLAINTEXT))


class Plaintexts:
    """A sink that keeps every plaintext by itself."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def room(self) -> memoryview | None:
        return None

    def placed(self, size: int) -> None:
        raise AssertionError(f"{size} bytes placed in no room")

    def receive(self, block: bytearray, size: int) -> None:
        self.found.append(bytes(block[:size]))


class Arriving:
    """Opens records that arrive in any chunks, and keeps what is left as a socket's owner does."""

    def __init__(self, opener: Opener, blocks: Blocks | None = None) -> None:
        self._opener = opener
        self._blocks = blocks or Blocks()
        self.rest = b""

    def feed(self, data: bytes, sink: PlaintextSink) -> None:
        self.rest += data
        # The rest goes first, so that an error leaves nothing to be opened twice.
        data, self.rest = self.rest, b""
        used = self._opener.open(memoryview(data), self._blocks, sink)
        self.rest = data[used:]

    def opened(self, data: bytes) -> list[bytes]:
        sink = Plaintexts()
        self.feed(data, sink)
        return sink.found


def take_all(core: Connection, most: int = NOISE_MAX_PLAINTEXT) -> bytes:
    """Everything that a connection has to send, as one plaintext."""
    taken = bytearray()
    while parts := core.take(most):
        taken += b"".join(parts)
    return bytes(taken)


def sealed(sealer: Sealer, parts: list[bytes | memoryview]) -> bytes:
    """One batch as records."""
    size = sum(map(len, parts))
    room = memoryview(
        bytearray(size + (2 * (size // NOISE_MAX_PLAINTEXT) + 1) * (NOISE_MAX_SEALED - NOISE_MAX_PLAINTEXT))
    )
    return bytes(room[: sealer.seal_parts(parts, _STAGING, room)])
