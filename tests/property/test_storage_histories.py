"""Any history of puts, syncs, crashes and damage ends with the content, and never with anything else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.content.journal import HEADER_BYTES
from swarm.storage.memory_store import MemoryStore
from swarm.storage.piece_files import DescriptorCache
from swarm.storage.scan import scan
from swarm.storage.target import Target, open_target
from swarm.storage.verification import verify
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, copy, make_tree, noise

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SIZES = st.sampled_from([0, 1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5])
NAMES = st.sampled_from(["a", "b c", "d/ü", "d/e/f", "d/e/g", "日本/h"])
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["sync", "close", "crash"]), st.just(0)),
    st.tuples(st.sampled_from(["damage data", "cut journal", "damage journal"]), st.integers(0, 10**6)),
)


class History:
    """A target that is fetched, interrupted and damaged, and a model of what must be left of it."""

    def __init__(self, folder: Path, files: dict[str, bytes], single: bool) -> None:
        if single:
            data = next(iter(files.values()))
            self.manifest = file_manifest("f", data)
        else:
            data = b"".join(files[name] for name in sorted(files, key=lambda name: name.split("/")))
            self.manifest = folder_manifest("f", files)
        self.source = MemoryStore(self.manifest, data)
        self.out = folder / "out0"
        self.written: set[int] = set()
        self.doubtful: set[int] = set()
        self.stack = AsyncExitStack()

    async def open(self) -> Target:
        target = await self.stack.enter_async_context(open_target(self.manifest, self.out))
        believed = set(target.stored)
        assert believed <= self.written
        assert self.written - self.doubtful <= believed
        for piece in believed:
            assert bytes(await target.get(piece)) == bytes(await self.source.get(piece))
        self.written, self.doubtful = believed, set()
        return target

    async def interrupt(self, crash: bool) -> None:
        """Close the target, or leave it as it is on the disk now."""
        if not crash:
            await self.stack.aclose()
            return
        left = self.out.with_name(self.out.name + "x")
        shutil.copytree(self.out, left)
        await self.stack.aclose()
        shutil.rmtree(self.out)
        self.out = left

    def damage_data(self, where: int) -> None:
        if not self.written:
            return
        piece = sorted(self.written)[where % len(self.written)]
        span = self.manifest.layout.span(piece)
        path = self.out / "f.swarm-part"
        if self.manifest.folder:
            path = path.joinpath(*self.manifest.files[span.file].path)
        with path.open("r+b") as file:
            file.seek(span.offset + where % span.length)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        self.written.discard(piece)

    def damage_journal(self, where: int, cut: bool) -> None:
        path = self.out / "f.swarm-journal"
        if not path.exists():
            return
        data = bytearray(path.read_bytes())
        # A header that is gone together with every sound piece would make the data somebody else's.
        if len(data) <= HEADER_BYTES:
            return
        place = HEADER_BYTES + where % (len(data) - HEADER_BYTES)
        if cut:
            del data[place:]
        else:
            data[place] ^= 1
        path.write_bytes(data)

    async def run(self, steps: list[tuple[str, int]]) -> None:
        target = await self.open()
        for step, number in steps:
            if step == "put" and self.manifest.piece_count:
                piece = number % self.manifest.piece_count
                await copy(self.source, target, [piece])
                self.written.add(piece)
            elif step == "sync":
                await target.sync()
            elif step != "put":
                await self.interrupt(crash=step == "crash")
                if step == "damage data":
                    self.damage_data(number)
                elif "journal" in step:
                    self.damage_journal(number, cut=step == "cut journal")
                target = await self.open()
        await copy(self.source, target)
        await target.finish()
        await self.stack.aclose()
        assert [path.name for path in self.out.iterdir()] == ["f"]
        report = await verify(self.manifest, self.out / "f")
        assert report.identical


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(NAMES, SIZES, min_size=1, max_size=5),
    single=st.booleans(),
    steps=st.lists(STEPS, max_size=14),
)
def test_any_history_ends_with_the_content(
    files: dict[str, int], single: bool, steps: list[tuple[str, int]]
) -> None:
    contents = {name: noise(size, number) for number, (name, size) in enumerate(files.items())}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        trio.run(History(Path(folder), contents, single).run, steps)


@settings(max_examples=40, deadline=None)
@given(
    files=st.dictionaries(NAMES, SIZES, min_size=1, max_size=6),
    executable=st.sets(NAMES),
    shift=st.integers(0, 3),
)
def test_a_scan_agrees_with_hashing_each_piece_alone(
    files: dict[str, int], executable: set[str], shift: int
) -> None:
    contents = {name: noise(size, number) for number, (name, size) in enumerate(files.items())}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        root = make_tree(Path(folder) / "x", contents, executable & files.keys())
        scanned = trio.run(lambda: scan(root, piece_length=PIECE << shift))
    expected = folder_manifest("x", contents, piece_length=PIECE << shift)
    stripped = [entry._replace(executable=False) for entry in scanned.manifest.files]
    assert stripped == list(expected.files)
    bits = {"/".join(entry.path) for entry in scanned.manifest.files if entry.executable}
    assert bits == executable & files.keys()


@settings(max_examples=200, deadline=None)
@given(
    limit=st.integers(1, 3),
    moves=st.lists(st.tuples(st.sampled_from(["enter", "leave", "drop"]), st.integers(0, 5)), max_size=40),
)
def test_descriptors_stay_open_while_used_and_few_otherwise(limit: int, moves: list[tuple[str, int]]) -> None:
    live: set[int] = set()
    files = DescriptorCache(live.remove, limit=limit)
    held: list[tuple[int, Callable[[], object]]] = []

    def opener() -> int:
        fd = os.open("/dev/null", os.O_RDONLY)
        live.add(fd)
        real.append(fd)
        return fd

    real: list[int] = []
    try:
        for move, number in moves:
            if move == "enter":
                use = files.use(number, opener)
                held.append((use.__enter__(), lambda use=use: use.__exit__(None, None, None)))
            elif move == "leave" and held:
                held.pop(number % len(held))[1]()
            elif move == "drop":
                files.drop(number)
            assert {fd for fd, _ in held} <= live
            assert len(live) <= limit + len(held)
        for _, leave in held:
            leave()
        files.close()
        assert not live
    finally:
        for fd in real:
            os.close(fd)
