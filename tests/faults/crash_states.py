"""Histories of fetches, every power cut in them, and what a resumed fetch makes of what is left."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarm.content.fingerprints import fingerprint
from swarm.content.journal import replay
from swarm.content.manifest import LinkEntry, Manifest
from swarm.errors import DiskError
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import Target, TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.crash_model import Op, RecordingLayer, State, crashes, promised
from tests.support.storage import PIECE, copy, make_tree, noise

SINGLE = {"f": noise(8 * PIECE + 900)}
TREE = {
    **{f"a/{number}": noise(300 + 700 * number, number) for number in range(4)},
    "a/b/c": noise(PIECE + 1300, 7),
    "d": noise(5000, 8),
    "e/empty": b"",
    "e/f": noise(5, 9),
}


OLD = SINGLE["f"][:PIECE] + noise(3 * PIECE, 31) + SINGLE["f"][4 * PIECE :]
OLD_TREE = {
    "a/0": noise(300, 32),
    "a/b/c": TREE["a/b/c"][:PIECE],
    "d": TREE["d"],
    "e/empty": b"not empty",
}


@dataclass
class Tally:
    """What was enumerated."""

    states: int = 0


@dataclass(frozen=True)
class History:
    """A content, what lies at its final place already, and the batches in which it is fetched."""

    name: str
    manifest: Manifest
    files: Mapping[str, bytes]
    batches: tuple[tuple[int, ...], ...]
    existing: tuple[str, ...] | None = None
    old: Mapping[str, bytes] | None = None
    """Files with other content under the final name, which the fetch is to replace."""
    together: bool = False
    """Whether the pieces of a batch are put together."""
    killed: bool = False
    """Whether a first run is killed after its first batch, before anything of that is synced."""

    @property
    def data(self) -> bytes:
        return b"".join(self.files["/".join(entry.path)] for entry in self.manifest.files)

    @property
    def options(self) -> TargetOptions:
        return TargetOptions(overwrite=self.old is not None)

    def place(self, out: Path) -> Path:
        return out / self.manifest.name

    def source(self) -> MemoryStore:
        return MemoryStore(self.manifest, self.data)

    def prepare(self, out: Path) -> None:
        out.mkdir()
        if self.existing is not None:
            make_tree(self.place(out), {name: self.files[name] for name in self.existing})
        if self.old is not None:
            make_tree(self.place(out) if self.manifest.folder else out, self.old)

    async def fetch(self, layer: RecordingLayer, target: Target) -> None:
        """Fetch in batches, each synced but the last, which finishing syncs."""
        source = self.source()
        for batch in self.batches:
            await self.put(source, target, [piece for piece in batch if piece not in target.stored])
            await target.sync()
            layer.claim(frozenset(target.stored))
        await self.put(source, target, list(target.stored.missing()))
        await target.finish()
        layer.claim(frozenset(target.stored))

    async def put(self, source: MemoryStore, target: Target, pieces: Sequence[int]) -> None:
        """Put pieces, one by one or together."""
        if self.together:
            await target.put_many([(piece, await source.get(piece)) for piece in pieces])
        else:
            await copy(source, target, pieces)


FILE, FOLDER = file_manifest("f", SINGLE["f"]), folder_manifest("x", TREE)
LINKS = [LinkEntry(("a", "b", "l"), "../0"), LinkEntry(("e", "up"), ".."), LinkEntry(("l",), "none")]
EMPTY = [("a", "none"), ("g", "h", "i")]
MORE = Manifest("x", True, FOLDER.piece_length, FOLDER.files, LINKS, EMPTY)
HISTORIES = [
    History("file", FILE, SINGLE, ((0, 3, 8), (1, 2), (5, 4, 6))),
    History("folder", FOLDER, TREE, ((0, 4, 6), (2, 3, 7))),
    History("into a folder", FOLDER, TREE, ((1, 4), (3, 5)), existing=("a/0", "d")),
    History("links", MORE, TREE, ((0, 4, 6), (2, 3, 7))),
    History("links into a folder", MORE, TREE, ((1, 4), (3, 5)), existing=("a/0", "d")),
    History("killed links", MORE, TREE, ((0, 4, 6), (1, 2, 3)), killed=True),
    History("over a file", FILE, SINGLE, ((0, 3, 8), (1, 2)), old={"f": OLD}),
    History("over a longer file", FILE, SINGLE, ((0, 3, 8),), old={"f": OLD + noise(9000, 33)}, killed=True),
    History("over a beginning", FILE, SINGLE, ((8, 6), (7,)), old={"f": SINGLE["f"][: 5 * PIECE + 9]}),
    History("over files of a folder", FOLDER, TREE, ((0, 4, 6), (2, 3)), old=OLD_TREE),
    History("killed file", FILE, SINGLE, ((0, 3, 8), (1, 2)), killed=True),
    History("killed folder", FOLDER, TREE, ((0, 4, 6), (1, 2, 3)), killed=True),
    History("folder together", FOLDER, TREE, ((0, 4, 6), (2, 3, 7)), together=True),
    History("killed folder together", FOLDER, TREE, ((0, 4, 6), (1, 2, 3)), together=True, killed=True),
]


async def recorded(history: History, out: Path) -> tuple[State, list[Op]]:
    """Fetch for real into ``out``; returns what was there before and every operation."""
    begin = State.of(out)
    layer = RecordingLayer()
    if history.killed:
        with suppress(DiskError):
            async with open_target(history.manifest, out, history.options, layer=layer) as target:
                await history.put(history.source(), target, history.batches[0])
                layer.dead = True
        layer.dead = False
    async with open_target(history.manifest, out, history.options, layer=layer) as target:
        await history.fetch(layer, target)
    return begin, layer.log


def ensure(holds: bool, otherwise: str) -> None:
    """Assert, also under ``python -O``."""
    if not holds:
        raise AssertionError(otherwise)


async def check(
    history: History,
    state: State,
    must: frozenset[int],
    out: Path,
    tally: Tally,
    *,
    layer: RecordingLayer | None = None,
) -> None:
    """Resume from ``state`` in the real folder ``out``: sound, nothing promised lost, and it finishes."""
    state.put_down(out)
    tally.states += 1
    _check_old_or_new(history, out)
    await _check_claims(history, out)
    layer = layer or RecordingLayer()
    async with open_target(history.manifest, out, history.options, layer=layer) as target:
        stored = set(target.stored)
        for piece in stored:
            truth = bytes(await history.source().get(piece))
            ensure(truth in _on_disk(history, out, piece), f"{history.name}: piece {piece} is not there")
        ensure(must <= stored, f"{history.name}: {sorted(must - stored)} were promised and are lost")
        await copy(history.source(), target)
        await target.finish()
    place = history.place(out)
    if history.manifest.folder:
        found = {
            str(path.relative_to(place)): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        for link in history.manifest.links:
            target = os.readlink(place.joinpath(*link.path))
            ensure(target == link.target, f"{history.name}: a link that was finished differs")
        for empty in history.manifest.empty_folders:
            there = list(place.joinpath(*empty).iterdir())
            ensure(not there, f"{history.name}: an empty folder is not empty")
        ensure(found == history.files, f"{history.name}: what was finished differs")
    else:
        ensure(place.read_bytes() == history.files["f"], f"{history.name}: what was finished differs")
    ensure(
        {path.name for path in out.iterdir()} == {history.manifest.name}, f"{history.name}: something is left"
    )
    shutil.rmtree(out)


async def _check_claims(history: History, out: Path) -> None:
    """Whatever the journal claims is there: resuming looks again, but claims must not run ahead."""
    journal = out / (history.manifest.name + ".swarm-journal")
    claims = replay(journal.read_bytes()).fingerprints if journal.is_file() else {}
    for piece, expected in claims.items():
        found = map(fingerprint, _on_disk(history, out, piece))
        ensure(expected in found, f"{history.name}: piece {piece} is claimed before it is on the disk")


def _on_disk(history: History, out: Path, piece: int) -> list[bytes]:
    """The bytes of a piece as they lie under its final and its partial name, found without the store."""
    span = history.manifest.layout.span(piece)
    path = history.manifest.files[span.file].path
    found = []
    for name in (history.manifest.name, history.manifest.name + ".swarm-part"):
        file = out / name
        file = file.joinpath(*path) if history.manifest.folder else file
        if file.is_file():
            found.append(file.read_bytes()[span.offset : span.offset + span.length])
    return found


def _check_old_or_new(history: History, out: Path) -> None:
    """Each file that is replaced is at any moment the old one or the new one, whole."""
    for name, old in (history.old or {}).items():
        place = history.place(out) / name if history.manifest.folder else history.place(out)
        there = place.read_bytes() if place.is_file() else None
        ensure(there in (old, history.files[name]), f"{history.name}: {name} is neither the old nor the new")


async def enumerate_states(
    history: History, folder: Path, rng: random.Random, *, subsets: int, tears: int, tally: Tally, most: int
) -> None:
    """Check up to ``most`` different states of one history, spread over all its prefixes."""
    out = folder / "out"
    history.prepare(out)
    begin, log = await recorded(history, out)
    shutil.rmtree(out)
    seen: set[int] = set()
    found: list[tuple[State, frozenset[int]]] = []
    for upto in range(len(log) + 1):
        must = promised(log, upto)
        for state in crashes(begin, log, upto, rng, subsets=subsets, tears=tears):
            key = hash((state.key(), must))
            if key not in seen:
                seen.add(key)
                found.append((state, must))
    if len(found) > most:
        found = rng.sample(found, most)
    for state, must in found:
        await check(history, state, must, out, tally)
