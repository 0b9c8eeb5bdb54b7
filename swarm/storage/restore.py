"""What is on the disk of a target when a fetch begins, checked before it is believed."""

from __future__ import annotations

from swarm.content.bitfield import Bitfield
from swarm.content.fingerprints import Fingerprints
from swarm.content.journal import Header, Replay
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage.hashing import Progress, in_thread
from swarm.storage.journalfile import JournalFile
from swarm.storage.places import Places
from swarm.storage.recognise import recognise
from swarm.storage.resume import Resumption
from swarm.storage.syncing import Syncer


class Restored:
    """The stored pieces, the XXH3-128 of each, and what makes more of them durable.

    ``syncer`` is None when everything is in place already.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.stored = Bitfield(manifest.piece_count)
        self.checks = Fingerprints(manifest.piece_count)
        self.syncer: Syncer | None = None

    def keep(self, piece: int, check: bytes) -> None:
        """A piece is sound and has this XXH3-128."""
        self.checks[piece] = check
        self.stored.add(piece)


async def restore(places: Places, progress: Progress | None) -> Restored:
    """Check what has the final name, then the partial place by the journal's claims.

    ``progress`` is told checked and total bytes. Raises `DiskError` for what is not the wanted
    content; nothing is changed then.
    """
    manifest = places.manifest
    restored = Restored(manifest)
    if places.final is not None:
        steps = recognise(manifest, places.final, places.selected, places.existing, restored.keep)
        await in_thread(steps, manifest.total_length, progress)
    journal = places.journal
    if journal is None:
        if places.refused is not None and not places.existing >= places.selected:
            raise places.refused
        return restored
    header = Header(manifest.id, manifest.total_length, manifest.piece_count)
    if places.final is not None and restored.stored.full():
        await _check_owner(places, journal, header)
    else:
        await _resume(places, journal, header, restored, progress)
    return restored


async def _resume(
    places: Places, journal: JournalFile, header: Header, restored: Restored, progress: Progress | None
) -> None:
    """Check the partial place; what is sound there beyond the journal's claims is claimed next."""
    manifest = places.manifest
    said = await journal.replay(header)
    syncer = Syncer(places, journal, header, restored.stored, begun=said.header is not None)
    unclaimed: list[int] = []

    def keep_and_claim(piece: int, check: bytes) -> None:
        restored.keep(piece, check)
        if piece not in said.fingerprints:
            unclaimed.append(piece)

    if places.partial is not None:
        resumption = Resumption(manifest, places.partial, said.fingerprints, keep_and_claim)
        await in_thread(resumption.steps(places.existing), manifest.total_length, progress)
        _refuse_foreign(places, said, resumption)
    if said.header is not None:
        journal.cut()
    for piece in unclaimed:
        span = manifest.layout.span(piece)
        syncer.add(piece, restored.checks[piece], span.file, span.length)
        if manifest.folder:
            # Whoever made the folders above it may have been killed before syncing them.
            path = manifest.files[span.file].path
            for depth in range(len(path)):
                syncer.changed(path[:depth])
    restored.syncer = syncer


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
