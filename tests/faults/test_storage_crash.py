"""What a crash, a failing disk or a meddling user leaves, and what a resumed fetch believes of it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from swarm.content.journal import HEADER_BYTES
from swarm.errors import DiskError
from swarm.storage.file_layer import PosixLayer
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import SAVE_SECONDS, open_target
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, FaultyLayer, copy, descriptors, flip, names, noise

DATA = noise(9 * PIECE + 77)
MANIFEST = file_manifest("f", DATA)
FILES = {"a/b": noise(3 * PIECE, 1), "a/c": noise(5, 2), "d": noise(2 * PIECE + 1, 3), "empty": b""}
FOLDER = folder_manifest("x", FILES)
FOLDER_DATA = b"".join(FILES[name] for name in sorted(FILES))


def seed() -> MemoryStore:
    return MemoryStore(MANIFEST, DATA)


async def interrupted(out: Path, batches: list[list[int]], unsynced: list[int]) -> Path:
    """A folder as a killed fetch left it: ``batches`` are claimed, ``unsynced`` only written."""
    live = out.with_name("live")
    async with open_target(MANIFEST, live) as target:
        for batch in batches:
            await copy(seed(), target, batch)
            await target.sync()
        await copy(seed(), target, unsynced)
        shutil.copytree(live, out)
    shutil.rmtree(live)
    return out


async def resumed(out: Path) -> list[int]:
    """The pieces that a resumed fetch believes; each is read and compared."""
    async with open_target(MANIFEST, out) as target:
        believed = list(target.stored)
        assert target.resumed_pieces == len(believed)
        for piece in believed:
            assert bytes(await target.get(piece)) == DATA[piece * PIECE : (piece + 1) * PIECE]
        return believed


async def completes(out: Path) -> int:
    """Fetch the rest; returns how many pieces that took."""
    async with open_target(MANIFEST, out) as target:
        lacking = list(target.stored.missing())
        await copy(seed(), target, lacking)
        await target.finish()
    assert (out / "f").read_bytes() == DATA
    assert names(out) == {"f"}
    return len(lacking)


async def test_what_was_written_is_found_claimed_or_not(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3], [9]], [5, 7])
    assert await resumed(out) == [0, 3, 5, 7, 9]
    (out / "f.swarm-part").rename(out / "aside")
    (out / "aside").rename(out / "f.swarm-part")
    assert await completes(out) == 5


async def test_what_was_found_beyond_the_claims_is_claimed_next(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0]], [5])
    before = (out / "f.swarm-journal").stat().st_size
    await resumed(out)
    claimed = (out / "f.swarm-journal").stat().st_size
    assert claimed > before
    await resumed(out)
    assert (out / "f.swarm-journal").stat().st_size == claimed


async def test_the_journal_may_end_at_any_byte(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3], [9], [1, 2]], [])
    journal = (out / "f.swarm-journal").read_bytes()
    for length in range(len(journal)):
        (out / "f.swarm-journal").write_bytes(journal[:length])
        assert await resumed(out) == [0, 1, 2, 3, 9], length
    assert await completes(out) == 5


async def test_any_byte_of_the_journal_may_be_wrong(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3], [9]], [])
    journal = (out / "f.swarm-journal").read_bytes()
    mark = len(b"swarm-journal\0")
    for place in range(mark, len(journal)):
        damaged = bytearray(journal)
        damaged[place] ^= 1 << place % 8
        (out / "f.swarm-journal").write_bytes(damaged)
        assert await resumed(out) == [0, 3, 9], place
    assert await completes(out) == 7


async def test_records_after_a_torn_one_are_reached_again(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3], [9]], [])
    journal = (out / "f.swarm-journal").read_bytes()
    (out / "f.swarm-journal").write_bytes(journal[:-1])
    async with open_target(MANIFEST, out) as target:
        await copy(seed(), target, [4])
    # Without what was written: only claims count.
    with (out / "f.swarm-part").open("r+b") as file:
        file.seek(9 * PIECE)
        file.write(bytes(77))
    assert await resumed(out) == [0, 3, 4]


@pytest.mark.parametrize("piece", [0, 3, 9])
async def test_a_flipped_byte_costs_its_piece_only(tmp_path: Path, piece: int) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3, 4, 9]], [])
    flip(out / "f.swarm-part", piece * PIECE + 70)
    assert await resumed(out) == [other for other in (0, 3, 4, 9) if other != piece]
    assert await completes(out) == 7


async def test_without_its_journal_a_partial_file_is_checked_and_kept(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3, 4, 9]], [])
    (out / "f.swarm-journal").unlink()
    flip(out / "f.swarm-part", 3 * PIECE)
    assert await resumed(out) == [0, 4, 9]
    assert await completes(out) == 7


async def test_without_its_partial_file_a_journal_proves_nothing(tmp_path: Path) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3]], [])
    (out / "f.swarm-part").unlink()
    assert await resumed(out) == []
    assert await completes(out) == 10


@pytest.mark.parametrize(("length", "left"), [(0, []), (PIECE * 4 - 1, [0]), (PIECE * 40, [0, 3, 9])])
async def test_a_partial_file_of_another_length_is_mended(
    tmp_path: Path, length: int, left: list[int]
) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3, 9]], [])
    os.truncate(out / "f.swarm-part", length)
    assert await resumed(out) == left
    assert await completes(out) == 10 - len(left)


async def test_a_folder_resumes_file_by_file(tmp_path: Path) -> None:
    source = MemoryStore(FOLDER, FOLDER_DATA)
    out = tmp_path / "out"
    async with open_target(FOLDER, out) as target:
        await copy(source, target, [0, 3, 6])
    async with open_target(FOLDER, out) as target:
        assert list(target.stored) == [0, 3, 6]
        await copy(source, target)
        await target.finish()
    assert {name: (out / "x" / name).read_bytes() for name in FILES} == FILES


async def test_an_interrupted_move_into_a_folder_is_resumed(tmp_path: Path) -> None:
    source = MemoryStore(FOLDER, FOLDER_DATA)
    out = tmp_path / "out"
    (out / "x").mkdir(parents=True)
    async with open_target(FOLDER, out) as target:
        await copy(source, target)
    (out / "x" / "a").mkdir()
    (out / "x.swarm-part" / "a" / "b").rename(out / "x" / "a" / "b")
    async with open_target(FOLDER, out) as target:
        assert target.complete
        await target.finish()
    assert names(out) == {"x"}
    assert {name: (out / "x" / name).read_bytes() for name in FILES} == FILES


async def test_a_move_by_link_that_was_interrupted_is_completed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with open_target(MANIFEST, out) as target:
        await copy(seed(), target)
    os.link(out / "f.swarm-part", out / "f")
    async with open_target(MANIFEST, out) as target:
        assert target.complete
        await target.finish()
    assert names(out) == {"f"}


def other_journal(out: Path) -> None:
    os.replace(out / "g.swarm-journal", out / "f.swarm-journal")


def users_journal(out: Path) -> None:
    (out / "f.swarm-journal").write_bytes(b"Dear diary, today I went to the sea and saw a swarm of gulls" * 9)


def users_part(out: Path) -> None:
    (out / "f.swarm-journal").unlink()
    (out / "f.swarm-part").write_bytes(noise(len(DATA), 5))


@pytest.mark.parametrize(
    ("meddle", "complaint"),
    [
        (other_journal, "other content with this name"),
        (users_journal, "not a swarm journal"),
        (users_part, "already exists with other content"),
    ],
)
async def test_what_is_not_ours_is_refused_and_kept(
    tmp_path: Path, meddle: Callable[[Path], None], complaint: str
) -> None:
    out = await interrupted(tmp_path / "out", [[0, 3]], [])
    async with open_target(file_manifest("g", DATA), out) as target:
        await copy(MemoryStore(target.manifest, DATA), target, [1])
    meddle(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    held = descriptors()
    with pytest.raises(DiskError, match=complaint):
        async with open_target(MANIFEST, out):
            pass
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert descriptors() == held


class Recorder(PosixLayer):
    """The real operations, and their order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self.log.append(f"write {self._name(fd)}")
        return super().write(fd, data, offset)

    def sync_data(self, fd: int) -> None:
        super().sync_data(fd)
        self.log.append(f"sync {self._name(fd)}")

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.log.append(f"sync {self._name(fd)}")

    def move(self, source: int, name: str, target: int, new_name: str) -> None:
        self.log.append(f"move {name} {new_name}")
        super().move(source, name, target, new_name)

    def remove(self, folder: int, name: str) -> None:
        self.log.append(f"remove {name}")
        super().remove(folder, name)

    @staticmethod
    def _name(fd: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{fd}")).name


async def test_the_order_on_the_disk_is_data_then_claim_then_name(tmp_path: Path) -> None:
    layer = Recorder()
    async with open_target(MANIFEST, tmp_path / "out", layer=layer) as target:
        await copy(seed(), target, [0, 1, 1])
        await target.sync()
        await copy(seed(), target)
        await target.finish()
    header = ["write f.swarm-journal", "sync f.swarm-journal"]
    claim = ["sync f.swarm-part", *header]
    assert layer.log == [
        *header,
        "sync out",
        *["write f.swarm-part"] * 2,
        claim[0],
        "sync out",
        *claim[1:],
        *["write f.swarm-part"] * 8,
        *claim,
        "sync f.swarm-part",
        "sync out",
        "move f.swarm-part f",
        "sync out",
        "remove f.swarm-journal",
    ]


@pytest.mark.parametrize("operation", ["sync_data", "sync"])
async def test_a_failed_sync_voids_its_batch_and_all_after(tmp_path: Path, operation: str) -> None:
    out = tmp_path / "out"
    layer = FaultyLayer(operation, error=errno.EIO)
    layer.broken = False
    async with open_target(MANIFEST, out, layer=layer) as target:
        await copy(seed(), target, [0])
        await target.sync()
        claimed = (out / "f.swarm-journal").read_bytes()
        await copy(seed(), target, [1, 2])
        layer.broken = True
        if operation == "sync":
            # Folders are synced for new entries only.
            layer.sync_data = layer.sync  # type: ignore[method-assign]
        with pytest.raises(DiskError, match=r"f\.swarm-part: the device reports an I/O error"):
            await target.sync()
        assert list(target.stored) == [0]
        layer.broken = False
        with pytest.raises(DiskError, match="I/O error"):
            await copy(seed(), target, [3])
        with pytest.raises(DiskError, match="I/O error"):
            await target.sync()
        assert list(target.stored) == [0]
    assert (out / "f.swarm-journal").read_bytes() == claimed


async def test_the_syncer_task_ends_with_the_disks_refusal(tmp_path: Path) -> None:
    layer = FaultyLayer("sync_data", error=errno.EIO)
    layer.broken = False
    with pytest.RaisesGroup(pytest.RaisesExc(DiskError, match="I/O error")):
        async with (
            open_target(MANIFEST, tmp_path / "out", layer=layer) as target,
            trio.open_nursery() as nursery,
        ):
            await copy(seed(), target, [0])
            layer.broken = True
            nursery.start_soon(target.run_syncer)


async def test_what_only_the_page_cache_holds_is_not_believed(tmp_path: Path) -> None:
    class LyingCache(PosixLayer):
        """The disk refused piece 5 in an earlier run, which the page cache does not know."""

        dropped = False

        def forget_cache(self, fd: int, offset: int, size: int) -> None:
            self.dropped = self.dropped or offset == 5 * PIECE

        def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
            got = super().read_into(fd, buffer, offset, cached=cached)
            if self.dropped and offset == 5 * PIECE:
                buffer[:] = bytes(len(buffer))
            return got

    out = await interrupted(tmp_path / "out", [[0]], [5, 6])
    async with open_target(MANIFEST, out, layer=LyingCache()) as target:
        assert list(target.stored) == [0, 6]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_journal_that_cannot_grow_claims_nothing_new(tmp_path: Path, whole: bool) -> None:
    class Full(PosixLayer):
        full = False

        def write(self, fd: int, data: memoryview, offset: int) -> int:
            if not self.full or not os.readlink(f"/proc/self/fd/{fd}").endswith("journal"):
                return super().write(fd, data, offset)
            if not whole and len(data) > 30:
                return super().write(fd, data[:30], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out, layer = tmp_path / "out", Full()
    async with open_target(MANIFEST, out, layer=layer) as target:
        await copy(seed(), target, [0])
        await target.sync()
        layer.full = True
        await copy(seed(), target, [1])
        with pytest.raises(DiskError, match=r"f\.swarm-journal: the disk is full"):
            await target.sync()
        assert list(target.stored) == [0]
    assert await resumed(out) == [0, 1]


@pytest.mark.parametrize("operation", ["write", "open", "resize", "make_folder"])
async def test_a_put_that_the_disk_refuses_stores_nothing_and_can_be_repeated(
    tmp_path: Path, operation: str
) -> None:
    layer = FaultyLayer(operation, error=errno.ENOSPC)
    layer.broken = False
    source = MemoryStore(FOLDER, FOLDER_DATA)
    held = descriptors()
    async with open_target(FOLDER, tmp_path / "out", layer=layer) as target:
        layer.broken = True
        if operation == "resize":
            # The journal's own start is not what is tested here.
            layer.resize = lambda fd, size: layer.write(fd, memoryview(b""), 0) if size else None  # type: ignore
            layer.write = layer.breaking("write", errno.ENOSPC)  # type: ignore
        with pytest.raises(DiskError, match="disk is full"):
            await copy(source, target, [0])
        assert not target.stored.count
        layer.broken = False
        layer.resize = PosixLayer().resize  # type: ignore[method-assign]
        await copy(source, target)
        await target.finish()
        assert {name: (tmp_path / "out" / "x" / name).read_bytes() for name in FILES} == FILES
    assert descriptors() == held


async def test_a_disk_that_hangs_does_not_hold_the_process(tmp_path: Path) -> None:
    hang = threading.Event()

    class Hanging(PosixLayer):
        hangs = False

        def sync_data(self, fd: int) -> None:
            if self.hangs:
                hang.wait()
            super().sync_data(fd)

    out, layer = tmp_path / "out", Hanging()
    with trio.CancelScope() as scope:
        async with open_target(MANIFEST, out, layer=layer) as target:
            await copy(seed(), target, [0])
            await target.sync()
            await copy(seed(), target, [1])
            layer.hangs = True
            started = trio.current_time()
            scope.deadline = started + 0.2
            await target.sync()
    assert SAVE_SECONDS < trio.current_time() - started < SAVE_SECONDS + 10
    hang.set()
    assert await resumed(out) == [0, 1]


async def test_a_cancelled_sync_loses_no_claim(tmp_path: Path) -> None:
    go = threading.Event()

    class Slow(PosixLayer):
        slow = False

        def sync_data(self, fd: int) -> None:
            if self.slow:
                go.wait()
            super().sync_data(fd)

    out, layer = tmp_path / "out", Slow()
    async with open_target(MANIFEST, out, layer=layer) as target:
        await copy(seed(), target, [0])
        await target.sync()
        await copy(seed(), target, [1])
        layer.slow = True
        with trio.move_on_after(0.05):
            await target.sync()
        go.set()
        assert list(target.stored) == [0, 1]
        await copy(seed(), target, [2])
        await target.sync()
        assert (out / "f.swarm-journal").stat().st_size >= HEADER_BYTES + 3 * 20
        shutil.copytree(out, tmp_path / "crashed")
    with (tmp_path / "crashed" / "f.swarm-part").open("r+b") as file:
        file.seek(PIECE)
        file.write(b"rot")
    assert await resumed(tmp_path / "crashed") == [0, 2]


async def test_an_abandoned_sync_claims_nothing(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    class Waits(Recorder):
        waits = False

        def sync_data(self, fd: int) -> None:
            if self.waits:
                self.waits = False
                begun.set()
                go.wait()
            super().sync_data(fd)

    layer = Waits()
    async with open_target(MANIFEST, tmp_path / "out", layer=layer) as target:
        await copy(seed(), target, [0])
        await target.sync()
        await copy(seed(), target, [1])
        layer.waits = True
        layer.log.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.sync)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
        go.set()
        await target.sync()
        claim = ["write f.swarm-journal", "sync f.swarm-journal"]
        assert layer.log == [*["sync f.swarm-part"] * 2, *claim]


async def test_an_error_that_only_an_abandoned_sync_was_told_is_not_forgotten(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    class ReportsOnce(PosixLayer):
        errors = 0

        def sync_data(self, fd: int) -> None:
            if self.errors and not go.is_set():
                begun.set()
                go.wait()
                self.errors -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync_data(fd)

    layer = ReportsOnce()
    async with open_target(MANIFEST, tmp_path / "out", layer=layer) as target:
        await copy(seed(), target, [0])
        await target.sync()
        await copy(seed(), target, [1])
        layer.errors = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(target.sync)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
        go.set()
        with pytest.raises(DiskError, match="I/O error"):
            await target.sync()
        assert list(target.stored) == [0]


LARGE = noise(400 * PIECE, 8)
LARGE_MANIFEST = file_manifest("large", LARGE)
FETCH = """
import sys, trio
from pathlib import Path
from swarm.storage.memory_store import MemoryStore
from swarm.storage.target import open_target
from tests.faults.test_storage_crash import LARGE, LARGE_MANIFEST
async def main():
    store = MemoryStore(LARGE_MANIFEST, LARGE)
    async with open_target(LARGE_MANIFEST, Path(sys.argv[1])) as target, trio.open_nursery() as nursery:
        for number, piece in enumerate(target.stored.missing()):
            await target.put(piece, await store.get(piece))
            print(piece, flush=True)
            if number % int(sys.argv[2]) == 0:
                nursery.start_soon(target.sync)
        print("all", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


async def killed(out: Path, wanted: int, sync_every: int) -> set[int]:
    """Fetch in another process, kill it after ``wanted`` pieces; returns what it had written.

    It may have been faster than its killer, and have written all.
    """
    command = [sys.executable, "-c", FETCH, str(out), str(sync_every)]
    text = b""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            lambda task_status: trio.run_process(command, stdout=-1, check=False, task_status=task_status)
        )
        async for more in process.stdout:
            text += more
            if text.count(b"\n") >= wanted or text.endswith(b"all\n"):
                process.send_signal(signal.SIGKILL)
    lines = text[: text.rfind(b"\n") + 1].split()
    return {int(line) for line in lines if line != b"all"}


@pytest.mark.parametrize("number", range(3))
async def test_after_a_kill_everything_that_was_written_is_resumed(tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    out = tmp_path / "out"
    written: set[int] = set()
    for _ in range(2):
        written |= await killed(out, rng.randint(1, 100), rng.randint(1, 20))
    async with open_target(LARGE_MANIFEST, out) as target:
        assert written
        assert written <= set(target.stored)
        await copy(MemoryStore(LARGE_MANIFEST, LARGE), target)
        await target.finish()
    assert (out / "large").read_bytes() == LARGE
