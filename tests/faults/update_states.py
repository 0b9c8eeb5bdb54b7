"""An update of a folder, every power cut in it, and what the next run makes of what is left.

python -m tests.faults.update_states STATES SEED

At every moment the old or the new version has the final name, whole; no byte of the user's files is lost; the
next run completes. Without `renameat2` there is one moment at which the old version has another name.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from swarm.content.manifest import Manifest
from swarm.storage.file_identity import NOBODY, Checks, FileIdentities, FileIdentity
from swarm.storage.hash_cache import Remembered
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.crash_model import RecordingLayer, State, crashes
from tests.support.storage import PIECE, copy, make_tree, noise

V1 = {
    "a/big": noise(2 * PIECE, 41),
    "a/gone": noise(90, 42),
    "b": noise(700, 43),
    "cfg": b"colour = red",
    "d/x": noise(60, 44),
}
V2 = {
    "a/big": V1["a/big"][:PIECE] + noise(PIECE, 45),
    "b": V1["b"],
    "cfg": b"colour = blue",
    "d": b"a file where a folder was",
    "e/new": noise(50, 46),
}
USERS = {"cfg": b"mine", "d/notes": b"notes in a folder that goes", "saves/1": b"saved", "a/gone": b"edited"}
"""Edited and extra files of the user."""
KEPT = {"cfg.swarm-kept": "cfg", "d.swarm-kept/notes": "d/notes", "saves/1": "saves/1", "a/gone": "a/gone"}
OLD, NEW = folder_manifest("x", V1), folder_manifest("x", V2)
OLD_FILE, NEW_FILE = noise(3 * PIECE, 47), noise(2 * PIECE + 5, 48)


@dataclass(frozen=True)
class Case:
    """An update; ``exchanges``: two names can change places; ``known``: the old manifest is remembered."""

    name: str
    exchanges: bool = True
    known: bool = True
    links: bool = True
    users: Mapping[str, bytes] | None = None


CASES = [
    Case("folder"),
    Case("folder, files of the user", users=USERS),
    Case("folder, no exchange", exchanges=False, users=USERS),
    Case("folder, no links", links=False, users=USERS),
    Case("folder, not remembered", known=False, users=USERS),
]


class CaseLayer(RecordingLayer):
    """Records, and lacks what the case lacks."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def exchange(self, source: int, name: str, target: int, new_name: str) -> None:
        if not self.case.exchanges:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().exchange(source, name, target, new_name)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        if not self.case.links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        super().link(source, name, target, new_name)


def recall(manifest: Manifest, files: Mapping[str, bytes]) -> Callable[[Path], Remembered | None]:
    """What a hash cache would say of a folder, if the crash had kept inodes and times: by content."""

    def find(path: Path) -> Remembered | None:
        identities = []
        for entry in manifest.files:
            place = path.joinpath(*entry.path)
            same = place.is_file() and place.read_bytes() == files["/".join(entry.path)]
            identities.append(FileIdentity.of(place.lstat()) if same else NOBODY)
        return Remembered(manifest, Checks(FileIdentities(identities), bytes(16 * manifest.piece_count)))

    return find


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def ensure(holds: bool, otherwise: str) -> None:
    """Assert, also under ``python -O``."""
    if not holds:
        raise AssertionError(otherwise)


class Enumeration:
    """One case: what it begins with, and what must hold after every crash."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.out = folder / "out"
        self.old = {**V1, **(case.users or {})}
        self.options = TargetOptions(update=True, recall=recall(OLD, V1) if case.known else None)
        self.source = MemoryStore(NEW, b"".join(V2[name] for name in sorted(V2)))

    async def update(self, layer: RecordingLayer) -> None:
        """Run the update to its end."""
        async with open_target(NEW, self.out, self.options, layer=layer) as target:
            await copy(self.source, target)
            await target.finish()

    async def states(self, rng: random.Random, most: int) -> list[State]:
        """What power cuts may leave, at most so many different states."""
        make_tree(self.out / "x", self.old)
        begin, layer = State.of(self.out), CaseLayer(self.case)
        await self.update(layer)
        self.check_end()
        shutil.rmtree(self.out)
        seen: dict[int, State] = {}
        for upto in range(len(layer.log) + 1):
            for state in crashes(begin, layer.log, upto, rng, subsets=2, tears=1):
                seen.setdefault(state.key(), state)
        found = list(seen.values())
        return rng.sample(found, most) if len(found) > most else found

    async def check(self, state: State) -> None:
        """The state is sound, and the next run completes."""
        state.put_down(self.out)
        self.check_moment()
        await self.update(CaseLayer(self.case))
        self.check_end()
        shutil.rmtree(self.out)

    def check_moment(self) -> None:
        """The old or the new version is there whole, and every file of the user."""
        name = self.case.name
        final = self.out / "x"
        if not final.exists() and not self.case.exchanges:
            final = self.out / "x.swarm-old"
        found = tree(final)
        is_old = found == self.old
        is_new = all(found.get(path) == data for path, data in V2.items())
        ensure(is_old or is_new, f"{name}: neither version is whole: {sorted(found)}")
        if is_new:
            self.check_user_files(found)

    def check_user_files(self, found: Mapping[str, bytes]) -> None:
        users = self.case.users or {}
        for path, was in KEPT.items():
            if was in users:
                ensure(found.get(path) == users[was], f"{self.case.name}: {path} is lost")

    def check_end(self) -> None:
        """The new version is there, the user's files are, and nothing else."""
        name = self.case.name
        found = tree(self.out / "x")
        ensure({path.name for path in self.out.iterdir()} == {"x"}, f"{name}: something is left")
        ensure(
            all(found.get(path) == data for path, data in V2.items()), f"{name}: what was finished differs"
        )
        self.check_user_files(found)
        rest = {path: data for path, data in found.items() if path not in V2}
        if self.case.known:
            users = self.case.users or {}
            expected = {path: users[was] for path, was in KEPT.items() if was in users}
            ensure(rest == expected, f"{name}: {sorted(rest)} is there beside the new version")
        else:
            ensure(set(self.old.values()) <= set(found.values()) | {V1["a/gone"]}, f"{name}: a file is lost")


async def enumerate_updates(folder: Path, rng: random.Random, most: int) -> int:
    """Check up to ``most`` states of every case; returns how many there were."""
    count = 0
    for case in CASES:
        enumeration = Enumeration(case, folder)
        for state in await enumeration.states(rng, most):
            count += 1
            await enumeration.check(state)
    return count


async def enumerate_file(folder: Path, rng: random.Random, most: int) -> int:
    """The same for a single file, which the user has edited."""
    manifest, source = file_manifest("f", NEW_FILE), MemoryStore(file_manifest("f", NEW_FILE), NEW_FILE)
    out = folder / "out"

    async def update(layer: RecordingLayer) -> None:
        async with open_target(manifest, out, TargetOptions(update=True), layer=layer) as target:
            await copy(source, target)
            await target.finish()

    make_tree(out, {"f": OLD_FILE})
    begin, layer = State.of(out), RecordingLayer()
    await update(layer)
    shutil.rmtree(out)
    states = {
        state.key(): state
        for upto in range(len(layer.log) + 1)
        for state in crashes(begin, layer.log, upto, rng, subsets=2, tears=1)
    }
    chosen = list(states.values())
    chosen = rng.sample(chosen, most) if len(chosen) > most else chosen
    for state in chosen:
        state.put_down(out)
        found = (out / "f").read_bytes()
        ensure(found in (OLD_FILE, NEW_FILE), "file: neither version is whole")
        ensure(
            found == OLD_FILE or (out / "f.swarm-kept").read_bytes() == OLD_FILE, "file: the old one is lost"
        )
        await update(RecordingLayer())
        ensure(tree(out) == {"f": NEW_FILE, "f.swarm-kept": OLD_FILE}, f"file: {sorted(tree(out))}")
        shutil.rmtree(out)
    return len(chosen)


def main() -> None:
    """Enumerate states until they are as many as asked for."""
    states, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng, began, done = random.Random(seed), time.monotonic(), 0

    async def run() -> None:
        nonlocal done
        while done < states:
            with tempfile.TemporaryDirectory() as folder:
                done += await enumerate_updates(Path(folder), rng, states)
                done += await enumerate_file(Path(folder), rng, states)

    with suppress(KeyboardInterrupt):
        trio.run(run)
    print(f"{done} states after power cuts, all sound, in {time.monotonic() - began:.0f} s (seed {seed})")


if __name__ == "__main__":
    main()
