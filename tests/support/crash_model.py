"""What a disk may hold after a power cut: the operations of a fetch, recorded, and the states they leave.

`RecordingLayer` is the real file layer that also writes down every operation. `State` applies a
part of them to an empty disk in memory. What was synced is on the disk; of the rest anything may be:
any subset, in any order (later without earlier), a write in part, by sectors, with garbage or zeros in
the rest, names without their files' data and data without its name. Nothing is assumed about one
operation making another durable but what `fdatasync` and `fsync` promise: the data of this file, the
entries of this folder.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from swarm.storage.file_layer import PosixLayer

SECTOR = 512
PAGE = 4096


@dataclass(frozen=True)
class Op:
    """One operation; ``node`` is the inode whose sync makes it durable."""

    kind: str
    node: int = 0
    name: str = ""
    child: int = 0
    source: int = 0
    old_name: str = ""
    offset: int = 0
    data: bytes = b""
    claimed: frozenset[int] = frozenset()

    @property
    def is_write(self) -> bool:
        return self.kind == "write"


class RecordingLayer(PosixLayer):
    """The real operations, and the log of them in the order in which they were done."""

    def __init__(self) -> None:
        self.log: list[Op] = []
        self.dead = False
        """Set: the process is killed, and nothing of what it would still do is done."""

    def check_alive(self) -> None:
        if self.dead:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def record(self, kind: str, node: int, **more: object) -> None:
        self.log.append(Op(kind, node, **more))  # type: ignore[arg-type]

    @staticmethod
    def node(fd: int) -> int:
        return os.fstat(fd).st_ino

    def claim(self, pieces: frozenset[int]) -> None:
        """Note that from here on these pieces are promised to survive."""
        self.record("claim", 0, claimed=pieces)

    def open(self, folder: int, name: str, flags: int, mode: int = 0o666) -> int:
        existed = True
        if flags & os.O_CREAT:
            try:
                self.stat(folder, name)
            except FileNotFoundError:
                existed = False
        fd = super().open(folder, name, flags, mode)
        if not existed:
            self.record("create", self.node(folder), name=name, child=self.node(fd))
        return fd

    def make_folder(self, folder: int, name: str) -> None:
        self.check_alive()
        super().make_folder(folder, name)
        self.record("mkdir", self.node(folder), name=name, child=self.stat(folder, name).st_ino)

    def make_link(self, folder: int, name: str, target: str) -> None:
        self.check_alive()
        super().make_link(folder, name, target)
        self.record(
            "link", self.node(folder), name=name, child=self.stat(folder, name).st_ino, data=target.encode()
        )

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self.check_alive()
        taken = super().write(fd, data, offset)
        self.record("write", self.node(fd), offset=offset, data=bytes(data[:taken]))
        return taken

    def resize(self, fd: int, size: int) -> None:
        self.check_alive()
        super().resize(fd, size)
        self.record("resize", self.node(fd), offset=size)

    def sync_data(self, fd: int) -> None:
        self.check_alive()
        super().sync_data(fd)
        self.record("sync", self.node(fd))

    def sync(self, fd: int) -> None:
        self.check_alive()
        super().sync(fd)
        self.record("sync", self.node(fd))

    def sync_all(self, fd: int) -> bool:
        self.check_alive()
        done = super().sync_all(fd)
        if done:
            self.record("sync all", 0)
        return done

    def move(self, source: int, name: str, target: int, new_name: str) -> None:
        self.check_alive()
        child = self.stat(source, name).st_ino
        super().move(source, name, target, new_name)
        self.record(
            "move", self.node(target), name=new_name, child=child, source=self.node(source), old_name=name
        )

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        self.check_alive()
        child = self.stat(source, name).st_ino
        super().replace(source, name, target, new_name)
        self.record(
            "move", self.node(target), name=new_name, child=child, source=self.node(source), old_name=name
        )

    def exchange(self, source: int, name: str, target: int, new_name: str) -> None:
        self.check_alive()
        super().exchange(source, name, target, new_name)
        self.record("exchange", self.node(target), name=new_name, source=self.node(source), old_name=name)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        self.check_alive()
        super().link(source, name, target, new_name)
        self.record("name", self.node(target), name=new_name, child=self.stat(target, new_name).st_ino)

    def remove(self, folder: int, name: str) -> None:
        self.check_alive()
        child = self.stat(folder, name).st_ino
        super().remove(folder, name)
        self.record("remove", self.node(folder), name=name, child=child)

    def remove_folder(self, folder: int, name: str) -> None:
        self.check_alive()
        child = self.stat(folder, name).st_ino
        super().remove_folder(folder, name)
        self.record("remove", self.node(folder), name=name, child=child)


@dataclass
class State:
    """A disk in memory: folders, files and links by inode; ``root`` is the output folder."""

    root: int
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytearray] = field(default_factory=dict)
    links: dict[int, bytes] = field(default_factory=dict)
    """The target of each symbolic link."""

    @classmethod
    def of(cls, path: Path) -> State:
        """What is below a real folder now, all of it durable."""
        state = cls(path.stat().st_ino)
        for folder, folders, files in os.walk(path):
            here = Path(folder)
            state.folders[here.stat().st_ino] = {
                name: (here / name).lstat().st_ino for name in (*folders, *files)
            }
            for name in (*folders, *files):
                if (here / name).is_symlink():
                    state.links[(here / name).lstat().st_ino] = os.readlink(os.fsencode(here / name))
            for name in files:
                if (here / name).is_symlink():
                    continue
                state.files[(here / name).stat().st_ino] = bytearray((here / name).read_bytes())
        return state

    def copy(self) -> State:
        folders = {node: dict(entries) for node, entries in self.folders.items()}
        files = {node: bytearray(data) for node, data in self.files.items()}
        return State(self.root, folders, files, dict(self.links))

    def apply(self, op: Op) -> None:
        match op.kind:
            case "create":
                self._folder(op.node)[op.name] = op.child
                self.files.setdefault(op.child, bytearray())
            case "mkdir":
                self._folder(op.node)[op.name] = op.child
                self._folder(op.child)
            case "link":
                self._folder(op.node)[op.name] = op.child
                self.links[op.child] = op.data
            case "write":
                self.write(op.node, op.offset, op.data)
            case "resize":
                data = self.files.setdefault(op.node, bytearray())
                del data[op.offset :]
                data.extend(bytes(op.offset - len(data)))
            case "move":
                if self._folder(op.source).get(op.old_name) == op.child:
                    del self._folder(op.source)[op.old_name]
                self._folder(op.node)[op.name] = op.child
            case "exchange":
                here, there = self._folder(op.source), self._folder(op.node)
                if op.old_name in here and op.name in there:
                    here[op.old_name], there[op.name] = there[op.name], here[op.old_name]
            case "name":
                self._folder(op.node)[op.name] = op.child
            case "remove":
                if self._folder(op.node).get(op.name) == op.child:
                    del self._folder(op.node)[op.name]

    def write(self, node: int, offset: int, new: bytes) -> None:
        data = self.files.setdefault(node, bytearray())
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(new)] = new

    def _folder(self, node: int) -> dict[str, int]:
        return self.folders.setdefault(node, {})

    def put_down(self, path: Path) -> None:
        """Make the real folder ``path`` hold this state; what is only zeros is a hole."""
        path.mkdir()
        self._put(self.root, path)

    def _put(self, node: int, path: Path) -> None:
        for name, child in self.folders.get(node, {}).items():
            if child in self.folders:
                (path / name).mkdir()
                self._put(child, path / name)
                continue
            if child in self.links:
                os.symlink(self.links[child], os.fsencode(path / name))
                continue
            data = self.files.get(child, bytearray())
            with (path / name).open("wb", buffering=0) as file:
                os.truncate(file.fileno(), len(data))
                for at in range(0, len(data), PAGE):
                    if any(page := data[at : at + PAGE]):
                        os.pwrite(file.fileno(), page, at)

    def key(self) -> int:
        """The same for states that look the same."""
        return hash(self._looks(self.root))

    def _looks(self, node: int) -> tuple[object, ...]:
        return tuple(
            (
                name,
                self._looks(child)
                if child in self.folders
                else self.links.get(child) or (bytes(self.files.get(child, b"")),),
            )
            for name, child in sorted(self.folders.get(node, {}).items())
        )


def pending(log: list[Op], upto: int) -> tuple[list[int], list[int]]:
    """The indices of the first ``upto`` operations that are on the disk, and of those that may be."""
    synced: set[int] = set()
    everything = False
    durable, doubtful = [], []
    for index in range(upto - 1, -1, -1):
        op = log[index]
        if op.kind == "sync":
            synced.add(op.node)
        elif op.kind == "sync all":
            everything = True
        elif op.kind != "claim":
            (durable if everything or op.node in synced else doubtful).append(index)
    return durable[::-1], doubtful[::-1]


def promised(log: list[Op], upto: int) -> frozenset[int]:
    """The pieces that a power cut after ``upto`` operations must not cost."""
    claims = [op.claimed for op in log[:upto] if op.kind == "claim"]
    return claims[-1] if claims else frozenset()


def crashes(
    begin: State, log: list[Op], upto: int, rng: random.Random, *, subsets: int, tears: int
) -> Iterator[State]:
    """States after a power cut behind ``upto`` operations.

    None and all of the doubtful ones; each alone and all but each; ``subsets`` random subsets; of
    each subset's last write ``tears`` torn forms.
    """
    durable, doubtful = pending(log, upto)
    chosen: list[set[int]] = [set(), set(doubtful)]
    chosen += [{one} for one in doubtful]
    chosen += [set(doubtful) - {one} for one in doubtful]
    chosen += [{one for one in doubtful if rng.random() < 0.5} for _ in range(subsets if doubtful else 0)]
    for kept in chosen:
        yield _built(begin, log, sorted({*durable, *kept}), None, rng)
        writes = [index for index in kept if log[index].is_write]
        for _ in range(tears if writes else 0):
            yield _built(begin, log, sorted({*durable, *kept}), rng.choice(writes), rng)


def _built(begin: State, log: list[Op], indices: list[int], torn: int | None, rng: random.Random) -> State:
    state = begin.copy()
    for index in indices:
        if index == torn:
            _tear(state, log[index], rng)
        else:
            state.apply(log[index])
    return state


def _tear(state: State, op: Op, rng: random.Random) -> None:
    """A write of which some sectors are on the disk, and the others as before, zero or garbage."""
    first = op.offset // SECTOR
    last = (op.offset + len(op.data) - 1) // SECTOR
    how = rng.choice(("beginning", "any", "zeros", "garbage"))
    cut = rng.randint(first, last)
    for sector in range(first, last + 1):
        start = max(sector * SECTOR, op.offset)
        part = op.data[start - op.offset : (sector + 1) * SECTOR - op.offset]
        there = sector < cut if how != "any" else rng.random() < 0.5
        if there:
            state.write(op.node, start, part)
        elif how == "zeros":
            state.write(op.node, start, bytes(len(part)))
        elif how == "garbage" and sector == cut:
            state.write(op.node, start, rng.randbytes(len(part)))
