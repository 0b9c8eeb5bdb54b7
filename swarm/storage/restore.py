"""What is on the disk of a target when a fetch begins, checked before it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.content.bitfield import Bitfield
from swarm.content.fingerprints import Fingerprints
from swarm.content.journal import Header, Replay
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.hashing import Progress, in_thread
from swarm.storage.journalfile import JournalFile
from swarm.storage.places import Places
from swarm.storage.recognise import recognise
from swarm.storage.resume import Resumption
from swarm.storage.syncing import Syncer


@dataclass(frozen=True, slots=True)
class Restored:
    """The stored pieces, the XXH3-128 of each, and what makes more of them durable.

    ``syncer`` is None when everything is in place already.
    """

    stored: Bitfield
    checks: Fingerprints
    syncer: Syncer | None


async def restore(places: Places, progress: Progress | None) -> Restored:
    """Check what has the final name, then the partial place by the journal's claims.

    ``progress`` is told checked and total bytes. Raises `DiskError` for what is not the wanted
    content; nothing is changed then.
    """
    manifest = places.manifest
    stored, checks = Bitfield(manifest.piece_count), Fingerprints(manifest.piece_count)

    def keep(piece: int, check: bytes) -> None:
        checks[piece] = check
        stored.add(piece)

    if places.final is not None:
        await in_thread(
            recognise(manifest, places.final, places.existing, keep), manifest.total_length, progress
        )
    journal = places.journal
    if journal is None:
        if stored.full() or places.refused is None:
            return Restored(stored, checks, None)
        raise places.refused
    header = Header(manifest.id, manifest.total_length, manifest.piece_count)
    if stored.full() and places.final is not None:
        await _check_owner(places, journal, header)
        return Restored(stored, checks, None)
    said = await journal.replay(header)
    if places.partial is not None:
        resumption = Resumption(manifest, places.partial, said.fingerprints, keep)
        await in_thread(resumption.steps(places.existing), manifest.total_length, progress)
        _refuse_foreign(places, said, resumption)
    if said.header is not None:
        journal.cut()
    return Restored(stored, checks, _syncer(places, journal, header, said, Restored(stored, checks, None)))


async def _check_owner(places: Places, journal: JournalFile, header: Header) -> None:
    """Leave a journal alone that is not of a fetch of what is in place."""
    try:
        await journal.replay(header)
    except DiskError:
        places.leave_journal()


def _refuse_foreign(places: Places, said: Replay, resumption: Resumption) -> None:
    """Data without a journal that holds not one wanted piece is not ours to write over."""
    if said.header is None and resumption.foreign and not resumption.kept:
        shown = printable(str(places.output.path / places.part_name))
        raise DiskError(f"{shown}: exists and holds nothing of this; move it away or choose another --output")


def _syncer(places: Places, journal: JournalFile, header: Header, said: Replay, restored: Restored) -> Syncer:
    """A syncer whose first batch is what was found beyond the journal's claims."""
    syncer = Syncer(places, journal, header, restored.stored, begun=said.header is not None)
    for piece in restored.stored:
        span = places.manifest.layout.span(piece)
        if piece not in said.fingerprints and span.file not in places.existing:
            syncer.add(piece, restored.checks[piece], span.file, span.length)
    return syncer
