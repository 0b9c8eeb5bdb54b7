"""One transfer of the daemon in memory: what is kept of it, and what runs of it now."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

import trio

from swarm.daemon.seeding_rules import SeedingCounts, SeedingRule
from swarm.daemon.transfer_registry import KeptTransfer
from swarm.daemon.wishes import series_of
from swarm.errors import SwarmError
from swarm.events import BytesReceived, Event, PeerConnected, PeersAwaited
from swarm.ids import TransferId
from swarm.node.node_releases import WAITS_FOR_PEER
from swarm.observe.tally import TransferSnapshot, TransferTally
from swarm.transfer.transfer import Transfer

MAX_FOUND: Final = 1024
"""Peers of one transfer of which it is remembered what named them."""
MAX_NOTES: Final = 8
"""Warnings of one transfer that are remembered."""


class KeptEntry:
    """``kept`` is as the registry has it; the keeper alone changes anything here."""

    def __init__(self, kept: KeptTransfer, now: float) -> None:
        self.kept = kept
        self.series = series_of(kept)
        """The series that is followed; None for any other transfer."""
        self.series_text = None if self.series is None else self.series.shown()
        self.lock = trio.Lock()
        """Held while a command changes the transfer."""
        self.transfer: Transfer | None = None
        """What runs; None while it waits, is paused since the start, or has failed."""
        self.tally = TransferTally(TransferId(0), now)
        self.error = ""
        """Why the last attempt ended; empty while one is under way."""
        self.exit_code = 0
        """What a command ends with for that error."""
        self.final = False
        """Whether that error is one which another attempt does not mend."""
        self.notes: deque[str] = deque(maxlen=MAX_NOTES)
        self.awaited = ""
        """Why there is no peer to fetch from; empty as soon as there is one."""
        self.found_by: dict[str, str] = {}
        """What named each peer first: one word."""
        self.manifest_noted = trio.Event()
        """Set when the first manifest of what runs is kept, so that the next start needs no peer for it."""
        self.anew = False
        """Whether another attempt follows at once when the one that runs has ended."""
        self.scope = trio.CancelScope()
        """Around the task that runs it."""
        self.link = ""
        """A link to the content, and what it was made of: making it takes most of the time of an answer."""
        self.link_made_of: tuple[str, str, tuple[str, ...], bool] = ("", "", (), False)
        self.received_before = 0
        self.sent_before = 0
        self.sent, self.copies = kept.counted_sent, kept.counted_copies
        """What counts for the rule of seeding: bytes, and peers that became complete."""
        self._seeded = kept.counted_seconds
        self._seeds_since: float | None = None
        self._go = trio.Event()

    def begin(self, transfer: Transfer, now: float) -> None:
        """An attempt begins; what the one before it moved stays counted."""
        before = self.tally.snapshot(now)
        self.received_before += before.received
        self.sent_before += before.sent
        self.transfer, self.tally = transfer, TransferTally(transfer.number, now)
        self.error, self.awaited, self.final = "", "", False

    def ended(self, failure: BaseException, *, final: bool) -> None:
        """The attempt has ended."""
        self.transfer, self.awaited = None, ""
        self.error, self.final = str(failure) or type(failure).__name__, final
        self.exit_code = failure.exit_code if isinstance(failure, SwarmError) else 1

    def forget_attempt(self) -> None:
        """The attempt was stopped so that another one follows."""
        self.transfer, self.anew = None, False

    def seed(self, now: float) -> None:
        """Seeding begins, unless it goes on already."""
        if self._seeds_since is None:
            self._seeds_since = now

    def rest(self, now: float) -> None:
        """Seeding ends for now."""
        if self._seeds_since is not None:
            self._seeded += now - self._seeds_since
            self._seeds_since = None

    def count_anew(self, now: float) -> None:
        """Forget what was given so far."""
        self.sent = self.copies = 0
        self._seeded = 0.0
        if self._seeds_since is not None:
            self._seeds_since = now

    def counts(self, now: float) -> SeedingCounts:
        """What was given so far."""
        since = 0.0 if self._seeds_since is None else now - self._seeds_since
        return SeedingCounts(self.sent, self.copies, self._seeded + since)

    @property
    def remarks(self) -> list[str]:
        """The warnings that are remembered, and last what it waits for now."""
        waits = self.awaited and not self.kept.paused
        return [*self.notes, self.awaited] if waits else list(self.notes)

    @property
    def rule(self) -> SeedingRule:
        """Its own rule of seeding."""
        return SeedingRule(self.kept.ratio, self.kept.copies, self.kept.seconds)

    @property
    def size(self) -> int:
        """Bytes that are shared, or wanted of what is fetched."""
        transfer = self.transfer
        return transfer.size if transfer is not None and transfer.is_open else self.kept.size

    @property
    def seeds(self) -> bool:
        """Whether it is seeded now."""
        return self._seeds_since is not None

    def found(self, peer: str, provenance: str) -> None:
        """A peer was named; of too many the oldest are forgotten."""
        if len(self.found_by) >= MAX_FOUND:
            del self.found_by[next(iter(self.found_by))]
        self.found_by.setdefault(peer, provenance)

    def note(self, line: str) -> None:
        """Remember a warning; what it waits for holds only until that is there."""
        if line.startswith(WAITS_FOR_PEER):
            self.awaited = line
        else:
            self.notes.append(line)

    def note_awaited(self, event: Event) -> None:
        """Note whether the event says that there is no peer to fetch from, or that there is one."""
        match event:
            case PeersAwaited(reason=reason):
                self.awaited = f"{WAITS_FOR_PEER}{reason}"
            case PeerConnected() | BytesReceived():
                self.awaited = ""

    def go(self) -> None:
        """Let an attempt begin that waits for its time, or for the end of a pause."""
        self._go.set()

    async def told_to_go(self) -> None:
        """Wait for `go`."""
        await self._go.wait()
        self._go = trio.Event()

    async def unpaused(self) -> None:
        """Wait until the transfer is not paused; a series that was seeded enough still takes releases."""
        while self.kept.paused and not (self.series is not None and self.kept.finished):
            await self.told_to_go()

    def state(self, snapshot: TransferSnapshot) -> str:
        """One word: what the transfer is busy with, or why with nothing."""
        share = self.kept.kind == "share"
        # What runs may be the release before, and a fetch is complete once that is kept.
        complete = snapshot.complete and self.kept.complete
        cases = (
            (bool(self.kept.finished), "finished"),
            (self.kept.paused, "paused"),
            (self.final, "failed"),
            (bool(self.error), "waiting"),
            (snapshot.hashing or (share and snapshot.manifest is None), "hashing"),
            (self.transfer is None or not self.transfer.is_open, "opening"),
            (share or complete, "seeding"),
        )
        return next((word for applies, word in cases if applies), "fetching")

    @property
    def tally_name(self) -> str:
        """The name in the manifest; empty while that is not known."""
        transfer = self.transfer
        return transfer.manifest.name if transfer is not None and transfer.is_open else ""

    @property
    def manifest(self) -> str:
        """The id of the manifest; empty while that is not known.

        A transfer is open a moment before its manifest is kept, and is known from then on: that of a share
        may have changed. That of a series may be the next one already, while the one before still runs.
        """
        transfer = self.transfer
        known = str(transfer.id) if transfer is not None and transfer.is_open else ""
        return known if known and self.kept.kind == "share" else self.kept.manifest or known

    @property
    def path(self) -> Path | None:
        """Where the content lies; None for a fetch that is not complete."""
        if self.kept.kind == "share":
            return Path(self.kept.content)
        if self.transfer is not None:
            return self.transfer.path
        if self.kept.complete:
            return Path(self.kept.output) / (self.kept.rename or self.kept.name)
        return None
