"""Fetches into a real folder that are killed at any moment, thousands of them: start-up is paid once.

python -m tests.faults.kill_worker FOLDER KILLS SEED

This process loads everything, and forks: a child fetches with the real target, journal and syncer and
notes in shared memory every piece that `put` returned for; a random moment later it gets SIGKILL.
Another child resumes, compares and goes on with what is left. Prints one line of figures; the exit
code is 1 after the first resume that is not exact.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from swarm.content.manifest import Manifest
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import TargetOptions, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, make_tree, noise

FILE = noise(300 * PIECE + 77, 21)
TREE = {f"{number % 7}/{number:03}": noise(4000 + 97 * number, number) for number in range(150)}
OLD = {"f": FILE[: 40 * PIECE] + noise(60 * PIECE, 22) + FILE[100 * PIECE : 200 * PIECE]}
OLD_TREE = {
    f"x/{name}": noise(len(data), 23) if number % 3 else data
    for number, (name, data) in enumerate(TREE.items())
}
CONTENTS: list[tuple[Manifest, bytes, dict[str, bytes]]] = [
    (file_manifest("f", FILE), FILE, {}),
    (folder_manifest("x", TREE), b"".join(TREE[name] for name in sorted(TREE)), {}),
    (file_manifest("f", FILE), FILE, OLD),
    (folder_manifest("x", TREE), b"".join(TREE[name] for name in sorted(TREE)), OLD_TREE),
]
"""Each content, and what lies under the final name before and is to be replaced."""
LONGEST = 0.06
"""Seconds after which a fetch is killed at the latest: some of them have finished by then."""
BATCH = 128 * 1024
"""The worker's batches are small, so that kills meet syncs as often as writes."""


def forked(work: Callable[[], Awaitable[None]]) -> int:
    """Run ``work`` in a child of its own; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        trio.run(work)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Round:
    """One content, fetched in spite of kills until it is complete."""

    def __init__(
        self, folder: Path, content: tuple[Manifest, bytes, dict[str, bytes]], rng: random.Random
    ) -> None:
        manifest, data, self.old = content
        self.out = make_tree(folder / "out", self.old)
        self.options = TargetOptions(overwrite=bool(self.old))
        self.manifest = manifest
        self.source = MemoryStore(manifest, data)
        self.rng = rng
        self.written = mmap.mmap(-1, manifest.piece_count)
        self.resumed = mmap.mmap(-1, manifest.piece_count)

    async def fetch(self) -> None:
        """Put all that is missing, in random order, beside the syncer; finish."""
        order = random.Random(self.rng.random())
        async with (
            open_target(self.manifest, self.out, self.options) as target,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(target.run_syncer)
            missing = list(target.stored.missing())
            order.shuffle(missing)
            together = order.choice((1, 4))
            for number in range(0, len(missing), together):
                batch = missing[number : number + together]
                pieces = [(piece, await self.source.get(piece)) for piece in batch]
                if together == 1:
                    await target.put(*pieces[0])
                else:
                    await target.put_many(pieces)
                for piece in batch:
                    self.written[piece] = 1
                if number % 9 == 8:
                    await target.sync()
            await target.finish()
            nursery.cancel_scope.cancel()

    async def check(self) -> None:
        """What was written is there again, every byte of it, and nothing else is claimed."""
        self.check_old_or_new()
        async with open_target(self.manifest, self.out, self.options) as target:
            for piece in target.stored:
                if bytes(await target.get(piece)) != bytes(await self.source.get(piece)):
                    raise AssertionError(f"piece {piece} is stored and wrong")
                self.resumed[piece] = 1

    def check_old_or_new(self) -> None:
        """Every file that is to be replaced is the old one or the new one, whole."""
        for name, old in self.old.items():
            found = (self.out / name).read_bytes()
            new = FILE if name == "f" else TREE[name.removeprefix("x/")]
            if found not in (old, new):
                raise AssertionError(f"{name} is neither the old nor the new one")

    def kill_once(self) -> int:
        """Fetch, kill, resume; returns the bytes that were written and are not there."""
        pid = forked(self.fetch)
        time.sleep(self.rng.random() ** 2 * LONGEST)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.resumed[:] = bytes(len(self.resumed))
        _, status = os.waitpid(forked(self.check), 0)
        if status:
            raise SystemExit(1)
        lost = [piece for piece, was in enumerate(self.written[:]) if was and not self.resumed[piece]]
        self.written[:] = self.resumed[:]
        return sum(self.manifest.layout.length(piece) for piece in lost)

    @property
    def complete(self) -> bool:
        return all(self.resumed[:])


def main() -> int:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    done = rounds = worst = 0
    while done < kills:
        current = Round(folder, CONTENTS[rounds % len(CONTENTS)], rng)
        while done < kills and not current.complete:
            worst = max(worst, current.kill_once())
            done += 1
        rounds += 1
        shutil.rmtree(current.out, ignore_errors=True)
    print(f"{done:,} kills in {rounds} fetches: every resume exact, at most {worst} bytes lost by one")
    return 1 if worst else 0


if __name__ == "__main__":
    # Unlike a fetch of a file of gigabytes these have to meet many syncs.
    from swarm.storage import syncer

    syncer.BATCH_BYTES = BATCH
    sys.exit(main())
