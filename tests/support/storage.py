"""Files to share and targets to fill, for tests of storage."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from swarm.content.manifest import Manifest
from swarm.ports import Store
from swarm.storage.file_layer import PosixLayer
from swarm.storage.scan import Scanned

PIECE = 16 * 1024
"""The least piece length: small contents have several pieces."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no two pieces share."""
    return random.Random(seed).randbytes(size)


def make_tree(root: Path, files: Mapping[str, bytes], executable: Iterable[str] = ()) -> Path:
    """Write files below ``root``, creating folders."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in executable:
        (root / name).chmod(0o755)
    return root


def read_tree(root: Path) -> dict[str, tuple[bytes, bool]]:
    """Content and owner's executable bit of every file below ``root``."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), bool(path.stat().st_mode & 0o100))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


async def copy(source: Store, target: Store, pieces: Iterable[int] | None = None) -> None:
    """Put ``pieces`` (all that the target lacks) of one store into another."""
    for piece in list(target.stored.missing()) if pieces is None else pieces:
        await target.put(piece, await source.get(piece))


def flip(path: Path, offset: int) -> None:
    """Flip a bit as rot does: the time stamps stay."""
    about = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def offset_of(manifest: Manifest, piece: int) -> int:
    """Where a piece begins in its file."""
    return manifest.layout.span(piece).offset


class FaultyLayer(PosixLayer):
    """The real operations, of which the named ones raise an OSError while ``broken`` is set."""

    def __init__(self, *operations: str, error: int) -> None:
        self.broken = True
        self.calls: list[str] = []
        for name in operations:
            setattr(self, name, self.breaking(name, error))

    def breaking(self, name: str, error: int) -> object:
        real = getattr(PosixLayer, name)

        def operation(*arguments: object, **named: object) -> object:
            self.calls.append(name)
            if self.broken:
                raise OSError(error, os.strerror(error))
            return real(self, *arguments, **named)

        return operation


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


__all__ = [
    "PIECE",
    "FaultyLayer",
    "Scanned",
    "copy",
    "descriptors",
    "flip",
    "make_tree",
    "names",
    "noise",
    "offset_of",
    "read_tree",
]
