"""Updates of a real folder that are killed at any moment: start-up is paid once.

python -m tests.faults.update_kills KILLS [SEED [FOLDER]]

A child updates a folder with the real target, hash cache and reuse, and gets SIGKILL a random moment later.
The old or the new version must stand whole then, with every file of the user; the next child goes on until it
is done. Prints one line; the exit code is 1 after the first thing that is wrong.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import trio

from swarm.bits import PieceSet
from swarm.storage.file_layer import POSIX, PosixLayer
from swarm.storage.hash_cache import HashCache
from swarm.storage.memory_store import MemoryStore
from swarm.storage.reuse import find_reusable
from swarm.storage.scan import scan
from swarm.storage.target import TargetOptions, open_target
from tests.faults.kill_worker import forked
from tests.support.contents import folder_manifest
from tests.support.storage import PIECE, make_tree, noise

V1 = {f"{number % 7}/{number:03}": noise(3000 + 97 * number, number) for number in range(120)}
V1 |= {"pack": noise(90 * PIECE, 1), "settings": b"volume = 3"}
V2 = {name: data for name, data in V1.items() if not name.endswith(("4", "7"))}
V2 |= {f"8/{number:03}": noise(4000 + 31 * number, 500 + number) for number in range(30)}
V2 |= {
    "pack": V1["pack"][: 40 * PIECE] + noise(9 * PIECE, 2) + V1["pack"][49 * PIECE :],
    "settings": b"volume = 5",
}
USERS = {"settings": b"volume = 11", "saves/1": b"saved", "4/004": b"edited, and gone in the new version"}
KEPT = {"settings.swarm-kept": USERS["settings"], "saves/1": USERS["saves/1"], "4/004": USERS["4/004"]}
NEW = folder_manifest("x", V2)
SOURCE = MemoryStore(NEW, b"".join(V2[name] for name in sorted(V2)))


class NoExchange(PosixLayer):
    """A file system on which names cannot change places."""

    def exchange(self, source: int, name: str, target: int, new_name: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class KilledUpdate:
    """One installation, updated in spite of kills until it is complete."""

    def __init__(self, folder: Path, rng: random.Random, *, exchanges: bool) -> None:
        self.out, self.exchanges, self.rng = folder / "out", exchanges, rng
        self.layer = POSIX if exchanges else NoExchange()
        self.cache = HashCache(folder / "home")
        self.path = self.out / "x"
        self.old = V1 | USERS
        make_tree(self.path, V1)
        for each in self.path.rglob("*"):
            os.utime(each, (1_600_000_000, 1_600_000_000))
        trio.run(self.remember)
        make_tree(self.path, USERS)

    async def remember(self) -> None:
        scanned = await scan(self.path, piece_length=PIECE)
        self.cache.keep(self.path, scanned.manifest, scanned.checks)

    async def update(self) -> None:
        """Take what is here, put the rest, and finish."""
        order = random.Random(self.rng.random())
        options = TargetOptions(update=True, recall=self.cache.find)
        async with (
            open_target(NEW, self.out, options, layer=self.layer) as target,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(target.run_syncer)
            found = find_reusable(
                NEW, PieceSet.all(NEW.piece_count), target.bases, self.cache.find, verify=False
            )
            reusable = list(found.pieces - target.stored)
            for start in range(0, len(reusable), 16):
                await target.take(reusable[start : start + 16], found)
            found.close()
            missing = list(target.stored.missing())
            order.shuffle(missing)
            for piece in missing:
                await target.put(piece, await SOURCE.get(piece))
            await target.finish(None, self.cache.keep)
            nursery.cancel_scope.cancel()

    def kill_once(self, most: float) -> None:
        """Update, and kill that after a random time of up to ``most`` seconds."""
        pid = forked(self.update)
        time.sleep(self.rng.random() * most)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.check()

    def finish(self) -> None:
        """Let the update complete, and compare all that is there."""
        _, status = os.waitpid(forked(self.update), 0)
        if status:
            raise SystemExit(1)
        found, expected = read(self.path), V2 | KEPT
        names = sorted(path.name for path in self.out.iterdir())
        if found != expected or names != ["x"]:
            wrong = _differing(found, expected)
            raise AssertionError(f"the update left {names}; these are not as they should be: {wrong}")

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return (self.path / "8").exists() and len(list(self.out.iterdir())) == 1

    def check(self) -> None:
        """The old or the new version is there whole, and every file of the user."""
        final = self.path
        if not final.exists() and not self.exchanges:
            final = self.out / "x.swarm-old"
        found = read(final)
        is_new = all(found.get(name) == data for name, data in (V2 | KEPT).items())
        if found != self.old and not is_new:
            names = sorted(path.name for path in self.out.iterdir())
            raise AssertionError(
                f"neither version is whole beside {names}: not of the old one {_differing(found, self.old)}, "
                f"not of the new one {_differing(found, V2 | KEPT)}"
            )


def _differing(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def read(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def main() -> int:
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv) > 3 else None) as folder:
        print(killed(Path(folder), kills, random.Random(seed)))
    return 0


def killed(folder: Path, kills: int, rng: random.Random) -> str:
    """Kill updates so many times; returns a line about it."""
    done = rounds = swapped = 0
    most = 0.0
    while done < kills:
        current = KilledUpdate(folder, rng, exchanges=rounds % 3 != 2)
        began = time.perf_counter()
        if not most:
            # The time of an update that nobody kills.
            current.finish()
            most = 1.1 * (time.perf_counter() - began)
        else:
            while done < kills and not current.is_done():
                current.kill_once(most)
                done += 1
                swapped += (current.path / "8").exists() and not current.is_done()
            current.finish()
        rounds += 1
        shutil.rmtree(folder / "out")
        shutil.rmtree(folder / "home")
    return (
        f"{done:,} kills in {rounds} updates, {swapped} of them between the swap and the end: the old or the "
        "new version stood whole, each update was completed, no file of the user is lost"
    )


if __name__ == "__main__":
    sys.exit(main())
