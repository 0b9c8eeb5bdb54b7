"""One manifest put together from parts that several peers send, all of whom gave the same outline of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio
from blake3 import blake3

from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.content.signature import Signature
from swarm.content.times import FileTimes
from swarm.errors import DiskError, ManifestError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.protocol.outline import Outline
from swarm.storage.kept_parts import KeptParts

STALLED_SECONDS: Final = 3.0
"""How long a part is awaited from one peer before another one that has nothing else to do is asked, too."""

MAX_ASSEMBLIES: Final = 4
"""Different outlines of one manifest that are followed at the same time: all but one of them are false."""

_NAME_CHARS: Final = 16


class Assembly:
    """The parts of one outline. Every peer that gave it may be asked for any of them.

    ``advanced`` is called whenever a part is verified. Everything in it belongs to the peers that claim the
    outline: when their parts do not make up the manifest, all of them lied, and `envelope` says so.
    """

    def __init__(
        self, manifest: ManifestId, outline: Outline, folder: Path | None, advanced: Callable[[], None]
    ) -> None:
        self._manifest = manifest
        self._outline = outline
        self._folder = folder
        self._advanced = advanced
        self._kept: KeptParts | None = None
        self._lock = trio.Lock()
        self._missing: set[int] = set(range(outline.parts))
        self._asked: Counter[int] = Counter()
        self._workers = 0
        self._changed = trio.Event()
        self._times: bytes | None = None
        self._outcome: Envelope | RemoteError | ManifestError | None = None
        self.claimants: set[PeerId] = set()
        """The peers that gave this outline."""

    async def open(self) -> None:
        """Take the parts that an earlier run left; once."""
        async with self._lock:
            if self._kept is None:
                self._kept = await trio.to_thread.run_sync(self._resume)

    def _resume(self) -> KeptParts:
        outline = self._outline
        kept = KeptParts(
            self._folder if outline.parts > 1 else None,
            f"{self._manifest}-{blake3(outline.hashes).hexdigest()[:_NAME_CHARS]}",
        )
        if kept.path is not None:
            self._missing = {
                part
                for part in range(outline.parts)
                if not outline.matches(part, kept.read(*outline.span(part)))
            }
        return kept

    async def next_part(self) -> int | None:
        """The next part to ask a peer for, or None; waits while others are asked for the last ones."""
        while self._missing:
            unasked = min((part for part in self._missing if not self._asked[part]), default=None)
            if unasked is not None:
                return unasked
            with trio.move_on_after(STALLED_SECONDS) as waiting:
                await self._changed.wait()
            if waiting.cancelled_caught and self._missing:
                return min(self._missing, key=lambda part: (self._asked[part], part))
        return None

    @contextmanager
    def claimed_by(self, peer: PeerId) -> Iterator[None]:
        """While the peer, which gave the outline, is asked for parts."""
        self.claimants.add(peer)
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1

    @property
    def is_worked_on(self) -> bool:
        """Whether any peer is asked for parts."""
        return self._workers > 0

    @contextmanager
    def asking(self, part: int) -> Iterator[None]:
        """While a peer is asked for the part."""
        self._asked[part] += 1
        try:
            yield
        finally:
            self._asked[part] -= 1
            self._wake()

    async def put(self, part: int, data: bytes) -> None:
        """Store a part; raises RemoteError when it is not what the outline promises, DiskError."""
        if not self._outline.matches(part, data):
            raise RemoteError("a part of a manifest does not match its outline")
        async with self._lock:
            if part in self._missing and self._kept is not None:
                try:
                    await trio.to_thread.run_sync(self._kept.write, self._outline.span(part)[0], data)
                except OSError as error:
                    raise DiskError(f"a part of the manifest cannot be kept: {error.strerror}") from error
                self._missing.discard(part)
        self._advanced()
        self._wake()

    def lacks_times(self, outline: Outline) -> bool:
        """Whether the peer that gave ``outline`` may be asked for the times of the files."""
        return self._times is None and outline.times > 0

    def put_times(self, times: bytes) -> None:
        """The times that a peer says the files have."""
        if self._times is None:
            self._times = times

    async def envelope(self, signature: Signature | None) -> Envelope:
        """The manifest, once all parts are there, with the signature that one of the peers gave.

        Raises RemoteError when the outline was false, which is the fault of all who gave it, ForgedEnvelope
        when the signature is wrong, which is the fault of who gave that, and ManifestError when the manifest
        of this id is not valid, whoever gives it.
        """
        async with self._lock:
            if self._outcome is None:
                self._outcome = await self._finish()
            if not isinstance(self._outcome, Envelope):
                raise self._outcome
            found = self._outcome
            if signature is None:
                return found
            return await trio.to_thread.run_sync(lambda: replace(found, signature=signature))

    async def _finish(self) -> Envelope | RemoteError | ManifestError:
        if self._kept is None:
            raise RuntimeError("an assembly is opened first")
        try:
            return await trio.to_thread.run_sync(self._joined, self._kept)
        except (RemoteError, ManifestError) as error:
            return error
        except OSError as error:
            raise DiskError(f"the parts of the manifest cannot be read: {error.strerror}") from error

    def _joined(self, kept: KeptParts) -> Envelope:
        encoded = kept.read(0, self._outline.size)
        kept.remove()
        if blake3(encoded).digest() != self._manifest.digest:
            raise RemoteError("the outline of a manifest was false")
        manifest = Manifest.decode(encoded)
        return Envelope(manifest, None, (), self._usable_times(manifest))

    def _usable_times(self, manifest: Manifest) -> FileTimes | None:
        try:
            times = FileTimes(self._times or b"")
        except ManifestError:
            return None
        return times if self._times and len(times) == len(manifest.files) else None

    async def aclose(self) -> None:
        """Leave what is here for a later run."""
        if self._kept is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._kept.close)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
