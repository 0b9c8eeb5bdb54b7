"""Chooses which events a person is told of, so that lines about pieces never fill a log."""

from __future__ import annotations

from collections.abc import Iterator

from cli.quantities import counted
from cli.render.lines import detail, notice, short
from swarm.content.paths import printable
from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    ManifestReady,
    PeerComplete,
    PieceLost,
    PieceRequested,
    PieceStored,
    PieceWasted,
    RoundTrip,
    TransferEnded,
)
from swarm.ids import TransferId
from swarm.lazy_pattern import lazy_pattern

ALL_PIECES = 2
"""From this ``verbose`` on every piece gets its line."""
AGAIN_SECONDS = 30.0
"""With less, a source's requests and round trips get a line at most so often."""
LOST_SECONDS = 5.0
"""Lost pieces are counted for so long after the first of them was named."""
QUIET = frozenset({BytesReceived, BytesSent, PieceRequested, PieceStored})
"""Events that come by the thousand, and of which nobody is told unless ``verbose``."""
_NUMBER = lazy_pattern(r"[0-9.,]+")


class Narrator:
    """Turns events into lines; ``t`` is seconds since the command started."""

    def __init__(self, verbose: int) -> None:
        self._verbose = verbose
        self._told: dict[tuple[type[Event], str], tuple[str, float]] = {}
        self._names: dict[TransferId, str] = {}
        self._lost = 0
        self._lost_at: float | None = None

    def tell(self, event: Event, t: float) -> Iterator[str]:
        """Yield the lines that ``event`` is worth now."""
        if self._lost:
            yield from self.overdue(t)
        if type(event) in QUIET and not self._verbose:
            return
        if isinstance(event, PieceLost):
            yield from self._lose(event, t)
            return
        text = self._completion(event) or notice(event)
        if text is None and self._verbose and self._is_news(event, t):
            text = detail(event)
        if text:
            yield text

    def overdue(self, t: float, *, last: bool = False) -> Iterator[str]:
        """Yield what was counted instead of told, once it is time, or because the command ends."""
        if self._lost and self._lost_at is not None and (last or t >= self._lost_at + LOST_SECONDS):
            yield f"warning: {counted(self._lost, 'more piece')} changed on the disk, not served any more"
            self._lost, self._lost_at = 0, t

    def _completion(self, event: Event) -> str | None:
        """Say of which content a peer has all: one process may share several."""
        match event:
            case ManifestReady(transfer=transfer, name=name):
                self._names[transfer] = name
            case TransferEnded(transfer=transfer):
                self._names.pop(transfer, None)
            case PeerComplete(transfer=transfer, peer=peer, fetched=True) if transfer in self._names:
                return f"complete: {short(peer)} has all of {printable(self._names[transfer])}"
        return None

    def _lose(self, event: PieceLost, t: float) -> Iterator[str]:
        if self._lost_at is None or t >= self._lost_at + LOST_SECONDS:
            self._lost_at = t
            yield f"warning: piece {event.piece} changed on the disk and is not served any more"
        else:
            self._lost += 1

    def _is_news(self, event: Event, t: float) -> bool:
        key: tuple[type[Event], str]
        if self._verbose >= ALL_PIECES:
            return True
        match event:
            case PieceRequested(source=source, why=why):
                # Another reason is news, the same one with other figures is not.
                key, words = (PieceRequested, str(source)), _NUMBER.sub("", why)
            case RoundTrip(peer=peer):
                key, words = (RoundTrip, str(peer)), ""
            case PieceWasted():
                return False
            case _:
                return True
        before, at = self._told.get(key, (None, t))
        if before is not None and (t < at + AGAIN_SECONDS or words == before):
            return False
        self._told[key] = words, t
        return True
