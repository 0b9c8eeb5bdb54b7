"""Keeps transfers going: what the registry has runs in the node, and what a command changes is kept first.

A transfer has one task as long as it is kept. It opens the transfer, waits for its end, and tries again later
where time may help: no peer is there, the pieces are incomplete, the disk refuses, another process has the
target.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from swarm import events
from swarm.content.envelope import Envelope
from swarm.content.paths import printable
from swarm.content.series_link import SeriesLink
from swarm.daemon.change_log import ChangeLog
from swarm.daemon.event_ring import EventRing, first_of_a_run
from swarm.daemon.kept_entry import KeptEntry
from swarm.daemon.rule_keeper import RuleKeeper
from swarm.daemon.seeding_rules import SeedingRule
from swarm.daemon.series_follower import SeriesFollower
from swarm.daemon.transfer_registry import KeptTransfer, TransferRegistry, transfer_id
from swarm.daemon.wishes import (
    FurtherOptions,
    Wishes,
    check_limits,
    check_text,
    find_named,
    named_again,
    options_of,
    piece_size_of,
    series_of,
)
from swarm.errors import DiskError, Incomplete, Locked, NoPeerReachable, SwarmError, UsageError
from swarm.ids import SourceId, TransferId
from swarm.lazy_dataclass import replace
from swarm.node import Node
from swarm.node.release_content import KnownRelease
from swarm.storage.manifest_files import NamedContent
from swarm.transfer.transfer import Transfer

MAX_TRANSFERS: Final = 10_000
OPENED_AT_ONCE: Final = 8
"""Transfers whose files are looked at or hashed at the same time; the others wait for their turn."""
FIRST_RETRY_SECONDS: Final = 5.0
LAST_RETRY_SECONDS: Final = 300.0
LOOP_SECONDS: Final = 5.0
"""Between two measurements of how late the event loop is."""
SOURCE_KINDS: Final = ("peer", "origin")
LEAST_ID_CHARS: Final = 4
"""Characters of an id that name a transfer."""
_MENDED_BY_TIME: Final = (NoPeerReachable, Incomplete, DiskError, Locked)


def source_kind(source: SourceId) -> str:
    """What a source that sends bytes is: a peer or a web server."""
    return "origin" if ":" in source else "peer"


class NotKept(UsageError):
    """There is no such transfer, or there are several."""


class AlreadyKept(UsageError):
    """The content is transferred already, to another place."""


class TransferKeeper:
    """The transfers of a daemon; ``tell`` is called with one line about each that fails for good.

    Commands return once what they change is kept. They raise `DiskError` if it cannot be, and then nothing
    has changed.
    """

    def __init__(
        self,
        node: Node,
        registry: TransferRegistry,
        changes: ChangeLog,
        nursery: trio.Nursery,
        tell: Callable[[str], None],
    ) -> None:
        self.node = node
        self.changes = changes
        self.ring = EventRing(first_of_a_run())
        self.began = trio.current_time()
        self.private_origins = False
        """Whether web servers may have addresses that are not public."""
        self.completed: Callable[[KeptEntry], None] = lambda _entry: None
        """Called for each fetch that is complete for the first time, once that is kept."""
        self.received = self.sent = self.refused = self.banned = 0
        """Bytes of all transfers since the daemon started, pieces that were false, sources banned for it."""
        self.received_from: Counter[str] = Counter()
        """The received bytes by the kind of source, one of `SOURCE_KINDS`."""
        self.reused = self.patched = 0
        """Bytes of pieces that fetches took from files on this machine, and made with patches."""
        self._registry = registry
        self._nursery = nursery
        self.tell = tell
        self.rules = RuleKeeper(self, registry)
        self._follower = SeriesFollower(self)
        self._entries: dict[str, KeptEntry] = {}
        self._running: dict[TransferId, KeptEntry] = {}
        self._adding = trio.Lock()
        self._turns = trio.CapacityLimiter(OPENED_AT_ONCE)
        self._flowing: set[str] = set()
        self.gave: set[str] = set()
        """Ids of those whose counts have changed; `RuleKeeper` takes them away."""
        self._news = trio.Event()
        # What follows the node hears of everything from here on.
        self._subscription = node.events()
        self._nursery.start_soon(self._follow)
        self._nursery.start_soon(self.rules.run)
        self._nursery.start_soon(self._measure_loop)
        self.loop_delay = 0.0
        """Seconds that the event loop was late by when it was measured last."""

    # --- What there is ------------------------------------------------------------------------------

    @property
    def entries(self) -> Mapping[str, KeptEntry]:
        """Every transfer, by its id."""
        return MappingProxyType(self._entries)

    def find(self, text: str) -> KeptEntry:
        """The transfer of that id, or the only one whose id or manifest begins so, or which is named so.

        Raises `NotKept`.
        """
        if not text:
            # A name that is not known yet is empty, too.
            raise NotKept("an empty text names no transfer: see swarm status")
        if text in self._entries:
            return self._entries[text]
        prefix = text.lower() if len(text) >= LEAST_ID_CHARS else None
        found = [
            entry
            for entry in self._entries.values()
            if text == (entry.kept.name or entry.tally_name)
            or (prefix and (entry.kept.id.startswith(prefix) or entry.manifest.startswith(prefix)))
        ]
        if len(found) != 1:
            shown = printable(text[:80])
            raise NotKept(
                f"no transfer is called {shown}, and no id begins so: see swarm status"
                if not found
                else f"{len(found)} transfers are called {shown}: use the id (swarm status)"
            )
        return found[0]

    @property
    def disk_delay(self) -> float:
        """Seconds that the last read or change of the registry took."""
        return self._registry.delay

    def active(self) -> list[KeptEntry]:
        """Those that moved bytes lately."""
        return [self._entries[each] for each in self._flowing if each in self._entries]

    def flowing(self) -> None:
        """Count those whose rates still fade as changed; whoever asks what has changed calls this before."""
        now = trio.current_time()
        for each in tuple(self._flowing):
            entry = self._entries.get(each)
            if entry is None:
                self._flowing.discard(each)
                continue
            self.changes.touch(each)
            snapshot = entry.tally.snapshot(now)
            if snapshot.down_rate < 1 and snapshot.up_rate < 1:
                self._flowing.discard(each)

    async def changed(self) -> None:
        """Wait until something changes."""
        await self._news.wait()

    # --- Commands -----------------------------------------------------------------------------------

    async def restore(self) -> int:
        """Begin with everything that is kept; returns how much that is."""
        await self.rules.restore()
        kept = await self._registry.all()
        for each in kept:
            self._start(each)
        return len(kept)

    async def share(self, path: str, wishes: Wishes) -> tuple[KeptEntry, bool]:
        """Share the file or folder at an absolute path; returns it, and whether it is new."""
        if not Path(path).is_absolute():
            raise UsageError(f"{printable(path)} is not an absolute path")
        try:
            # Existence is looked at in a thread: the folder may be on a server that does not answer.
            real = await trio.to_thread.run_sync(os.path.realpath, path)
            exists = await trio.Path(real).exists()
        except OSError as error:
            raise DiskError(f"{printable(path)}: {error.strerror or error}") from error
        if not exists:
            raise UsageError(f"there is no file or folder {printable(path)}")
        own = Path(path).name
        name = wishes.name or (own if own not in {"", ".."} else Path(real).name)
        if name != Path(real).name:
            # A link is shared under its own name, as by a share without a daemon.
            wishes = replace(wishes, name=name)
        kept = wishes.applied(KeptTransfer(transfer_id("share", real, "", wishes.name), "share", real))
        entry, is_new = await self._add(replace(kept, name=name), None)
        if not is_new:
            await self._omit_also(entry, wishes.further.omit)
        return entry, is_new

    async def _omit_also(self, entry: KeptEntry, paths: tuple[str, ...]) -> None:
        """Leave out at the next start what a command writes into a folder that is already shared."""
        async with entry.lock:
            further = FurtherOptions.from_text(entry.kept.options)
            if more := tuple(path for path in paths if path not in further.omit):
                further = replace(further, omit=further.omit + more)
                await self._change(entry, options=further.to_text())

    async def fetch(self, content: str | Envelope, output: str, wishes: Wishes) -> tuple[KeptEntry, bool]:
        """Fetch a link, an id, the manifest at an absolute path, or that of an envelope, into a folder.

        The link of a series is followed (`SeriesFollower`). Returns the transfer, and whether it is new.
        Raises UsageError, ManifestError; `AlreadyKept` if the content is transferred to another place.
        """
        if not Path(output).is_absolute():
            raise UsageError(f"{printable(output)} is not an absolute path")
        if isinstance(content, str) and not Path(content).is_absolute():
            check_text(content)
        found = await find_named(content)
        envelope = found.envelope
        name = wishes.name or found.name
        into = await trio.to_thread.run_sync(os.path.realpath, output)
        kept = KeptTransfer(
            transfer_id("fetch", found.identity, into, wishes.name),
            "fetch",
            found.text,
            into,
            manifest="" if found.manifest is None else found.identity,
            size=0 if envelope is None else envelope.manifest.total_length,
        )
        kept = replace(wishes.applied(kept), name=name)
        data = None if envelope is None else await trio.to_thread.run_sync(envelope.to_bytes)
        return await self._add(kept, data)

    async def pause(self, entry: KeptEntry) -> None:
        """End the transfer's sessions and open none until `resume`.

        After `finish` its rule counts anew, and a series takes no release any more.
        """
        async with entry.lock:
            if entry.kept.finished:
                entry.count_anew(trio.current_time())
            await self._change(entry, paused=True, finished="", done=self._done(entry), **self._counts(entry))
            entry.rest(trio.current_time())
            if entry.transfer is not None:
                await entry.transfer.pause()

    async def resume(self, entry: KeptEntry) -> None:
        """Go on after `pause`; a transfer that failed or waits is tried again at once.

        After `finish` its rule counts anew.
        """
        async with entry.lock:
            if entry.kept.finished:
                entry.count_anew(trio.current_time())
            await self._change(entry, paused=False, finished="", **self._counts(entry))
            if entry.transfer is not None:
                await entry.transfer.resume()
                self._seeds_perhaps(entry)
            entry.error, entry.final = "", False
            entry.go()

    async def limit(self, entry: KeptEntry, *, upload: int | None, download: int | None) -> None:
        """Set both limits of one transfer, in bytes per second; None is no limit."""
        check_limits(upload, download)
        async with entry.lock:
            await self._change(entry, upload_limit=upload, download_limit=download)
            if entry.transfer is not None:
                entry.transfer.limit(upload=upload, download=download)

    async def set_rule(self, entry: KeptEntry, rule: SeedingRule) -> None:
        """Set when one transfer has been seeded enough."""
        async with entry.lock:
            await self._change(entry, ratio=rule.ratio, copies=rule.copies, seconds=rule.seconds)

    async def finish(self, entry: KeptEntry, reason: str) -> None:
        """Seed no more until `resume`: it was enough."""
        async with entry.lock:
            if entry.kept.paused:
                return
            await self._change(
                entry, paused=True, finished=reason, done=self._done(entry), **self._counts(entry)
            )
            entry.rest(trio.current_time())
            if entry.transfer is not None:
                await entry.transfer.pause()

    async def again(self, entry: KeptEntry) -> None:
        """Begin anew with what is shared: it has changed. One that is paused stays so."""
        async with entry.lock:
            if entry.transfer is not None:
                entry.anew = True
                await entry.transfer.stop()
            else:
                entry.error, entry.final = "", False
                entry.go()

    async def remove(self, entry: KeptEntry) -> None:
        """Forget the transfer; what it fetched or shares stays where it is."""
        async with entry.lock:
            await self._registry.remove(entry.kept.id)
            self._entries.pop(entry.kept.id, None)
            self.changes.remove(entry.kept.id)
            self.tell_news()
            entry.scope.cancel()
            if entry.transfer is not None:
                await entry.transfer.stop()

    async def _add(self, kept: KeptTransfer, envelope: bytes | None) -> tuple[KeptEntry, bool]:
        async with self._adding:
            if kept.id in self._entries:
                return self._entries[kept.id], False
            if len(self._entries) >= MAX_TRANSFERS:
                raise UsageError(f"a daemon has at most {MAX_TRANSFERS} transfers: remove some first")
            other = self.holder_of(kept.manifest, series_of(kept))
            if other is not None:
                place = printable(other.kept.output or other.kept.content)
                raise AlreadyKept(f"transfer {other.kept.id} has that content already, at {place}")
            await self._registry.add(kept, envelope)
            return self._start(kept), True

    def holder_of(self, manifest: str, link: SeriesLink | None = None) -> KeptEntry | None:
        """The transfer that has the content of that id, or follows that series, if there is one."""
        for entry in self._entries.values():
            if manifest and entry.kept.manifest == manifest:
                return entry
            if link is not None and entry.series is not None and entry.series.series == link.series:
                return entry
        return None

    async def take_release(self, entry: KeptEntry, number: int, envelope: Envelope) -> None:
        """Keep that a transfer is at another release of its series; its rule of seeding counts anew."""
        manifest = envelope.manifest
        data = await trio.to_thread.run_sync(envelope.to_bytes)
        async with entry.lock:
            entry.count_anew(trio.current_time())
            columns: dict[str, object] = {
                "release": number,
                "manifest": str(manifest.id),
                "name": entry.kept.rename or manifest.name,
                "size": manifest.total_length,
                "done": 0,
                "complete": False,
                "paused": entry.kept.paused and not entry.kept.finished,
                "finished": "",
                **self._counts(entry),
            }
            await self._registry.change(entry.kept.id, columns, data)
            entry.kept = replace(entry.kept, **columns)  # type: ignore[arg-type]
        self._touch(entry)

    async def _change(self, entry: KeptEntry, **columns: object) -> None:
        await self._registry.change(entry.kept.id, columns)
        entry.kept = replace(entry.kept, **columns)  # type: ignore[arg-type]
        self._touch(entry)

    def _touch(self, entry: KeptEntry) -> None:
        if entry.kept.id in self._entries:
            self.changes.touch(entry.kept.id)
            self.tell_news()

    def note(self, entry: KeptEntry, line: str) -> None:
        """Remember a warning of a transfer, or why it waits."""
        entry.note(line)
        self._touch(entry)

    def tell_news(self) -> None:
        """Wake whoever waits in `changed`."""
        if self._news.statistics().tasks_waiting:
            self._news.set()
            self._news = trio.Event()

    def _done(self, entry: KeptEntry) -> int:
        have = entry.tally.snapshot(trio.current_time()).have_size
        return have if entry.transfer is not None else entry.kept.done

    def _counts(self, entry: KeptEntry) -> dict[str, float]:
        counts = entry.counts(trio.current_time())
        return {
            "counted_sent": counts.sent,
            "counted_copies": counts.copies,
            "counted_seconds": counts.seconds,
        }

    def _seeds_perhaps(self, entry: KeptEntry) -> None:
        """Seeding begins, if what the transfer has is complete."""
        transfer = entry.transfer
        if transfer is None or entry.kept.paused or not transfer.is_open:
            return
        if entry.kept.kind == "share" or transfer.path is not None:
            entry.seed(trio.current_time())

    # --- The task of each transfer ------------------------------------------------------------------

    def _start(self, kept: KeptTransfer) -> KeptEntry:
        entry = self._entries[kept.id] = KeptEntry(kept, trio.current_time())
        self._touch(entry)
        self._nursery.start_soon(self._run, entry)
        return entry

    async def _run(self, entry: KeptEntry) -> None:
        with entry.scope:
            seconds = FIRST_RETRY_SECONDS
            while True:
                await entry.unpaused()
                began = trio.current_time()
                failure = await self._attempt(entry)
                if failure is None:
                    if not entry.anew:
                        return
                    entry.forget_attempt()
                    continue
                if trio.current_time() - began > LAST_RETRY_SECONDS:
                    seconds = FIRST_RETRY_SECONDS
                final = not isinstance(failure, _MENDED_BY_TIME)
                entry.ended(failure, final=final)
                self._touch(entry)
                self.tell(f"{printable(entry.kept.name or entry.kept.id)}: {entry.error}")
                with trio.move_on_after(float("inf") if final else seconds):
                    await entry.told_to_go()
                seconds = min(2 * seconds, LAST_RETRY_SECONDS)

    async def _attempt(self, entry: KeptEntry) -> BaseException | None:
        """Run the transfer until it ends; returns what it failed with."""
        try:
            if entry.series is not None:
                await self._follower.begin(entry, entry.series)
            async with self._turns:
                transfer = await self._begin(entry)
                if entry.kept.kind == "share":
                    await transfer.has_opened()
        except SwarmError as error:
            return error
        try:
            if await transfer.has_opened():
                self._touch(entry)
                await self._note_manifest(entry, transfer.envelope)
                self._seeds_perhaps(entry)
        finally:
            entry.manifest_noted.set()
        if entry.series is not None:
            await self._follower.until_ended(entry, entry.series, transfer)
        await transfer.ended()
        entry.rest(trio.current_time())
        return transfer.failure

    async def _begin(self, entry: KeptEntry) -> Transfer:
        content = await self._content(entry)
        # Whoever removed it meanwhile found nothing to stop, and the end of a thread is no checkpoint.
        await trio.lowlevel.checkpoint_if_cancelled()
        kept = entry.kept
        options = options_of(kept, private_origins=self.private_origins)
        if kept.kind == "share":
            length = piece_size_of(kept)
            name = kept.rename or None
            transfer = self.node.begin_share(kept.content, name=name, piece_length=length, options=options)
        else:
            transfer = self.node.fetch(content, into=kept.output, options=options)
        # No checkpoint since it began: none of its events has been taken yet.
        entry.begin(transfer, trio.current_time())
        self._running[transfer.number] = entry
        self._touch(entry)
        if entry.kept.paused:
            await transfer.pause()
        return transfer

    async def _content(self, entry: KeptEntry) -> str | NamedContent | KnownRelease:
        """What is shared or fetched: the manifest, if that is kept."""
        kept = entry.kept
        data = await self._registry.envelope(kept.id) if kept.kind == "fetch" else None
        if data is None:
            return kept.content
        envelope = await trio.to_thread.run_sync(Envelope.from_bytes, data)
        return named_again(kept, envelope) if entry.series is None else KnownRelease(entry.series, envelope)

    async def _note_manifest(self, entry: KeptEntry, envelope: Envelope) -> None:
        """Keep what is known now, so that the next start needs no peer; nothing if that is kept already."""
        manifest = envelope.manifest
        kept = entry.kept
        # A size that is not known yet is 0, as that of empty content.
        if kept.size and kept.manifest == str(manifest.id) and kept.size == manifest.total_length:
            return
        data = await trio.to_thread.run_sync(envelope.to_bytes) if kept.kind == "fetch" else None
        columns = {
            "manifest": str(manifest.id),
            "name": kept.name or manifest.name,
            "size": manifest.total_length,
        }
        async with entry.lock:
            try:
                await self._registry.change(kept.id, columns, data)
            except DiskError as error:
                # The transfer goes on; only its next start has to ask for the manifest again.
                self.tell(str(error))
            entry.kept = replace(entry.kept, **columns)  # type: ignore[arg-type]
        self._touch(entry)

    async def _measure_loop(self) -> None:
        while True:
            due = trio.current_time() + LOOP_SECONDS
            await trio.sleep_until(due)
            self.loop_delay = trio.current_time() - due

    # --- Events -------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        with self._subscription:
            async for event in self._subscription:
                self._take(event, trio.current_time())

    def _take(self, event: events.Event, now: float) -> None:
        self.ring.put(event, now - self.began)
        if isinstance(event, events.RoundTrip):
            for each in self._running.values():
                each.tally.add(event, now)
        elif isinstance(event, events.TransferEvent | events.Warned):
            entry = None if event.transfer is None else self._running.get(event.transfer)
            if entry is not None:
                entry.tally.add(event, now)
                entry.note_awaited(event)
                self._count(event)
                self._follow_up(entry, event)
                self._touch(entry)

    def _count(self, event: events.Event) -> None:
        match event:
            case events.BytesReceived(size=size):
                self.received += size
                self.received_from[source_kind(event.source)] += size
            case events.BytesSent(size=size):
                self.sent += size
            case events.PieceRefused():
                self.refused += 1
            case events.SourceBanned():
                self.banned += 1
            case events.TransferComplete(bytes_reused=reused, bytes_patched=patched):
                self.reused += reused
                self.patched += patched

    def _follow_up(self, entry: KeptEntry, event: events.TransferEvent | events.Warned) -> None:
        match event:
            case events.BytesReceived():
                self._flowing.add(entry.kept.id)
            case events.BytesSent(size=size):
                self._flowing.add(entry.kept.id)
                self.gave.add(entry.kept.id)
                entry.sent += size
            case events.PeerComplete(fetched=True):
                self.gave.add(entry.kept.id)
                entry.copies += 1
            case events.TransferComplete(size=size):
                self._seeds_perhaps(entry)
                self._nursery.start_soon(self._note_complete, entry, str(event.manifest), size)
            case events.PeerFound(peer=peer, provenance=provenance):
                entry.found(peer, provenance)
            case events.SourceFailed(source=source, reason=reason):
                entry.notes.append(f"{source}: {reason}")
            case events.Warned(message=message):
                entry.notes.append(message)
            case events.TransferEnded():
                del self._running[event.transfer]

    async def _note_complete(self, entry: KeptEntry, manifest: str, size: int) -> None:
        # Nothing is told to be complete of which the next start would not have the manifest.
        await entry.manifest_noted.wait()
        async with entry.lock:
            # One that follows a series may be at the next release by now.
            if entry.kept.complete or (entry.series is not None and entry.kept.manifest != manifest):
                return
            try:
                await self._change(entry, complete=True, done=size)
            except DiskError as error:
                # It is complete, though the next start has to find that out again.
                entry.kept = replace(entry.kept, complete=True, done=size)
                self._touch(entry)
                self.tell(str(error))
                return
        if entry.kept.kind == "fetch":
            self.completed(entry)
