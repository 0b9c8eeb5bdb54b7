"""What is known before a fetch begins: room, and whether the file system takes the names and sizes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.content.paths import MAX_NAME_BYTES, PART_SUFFIX, printable, temporary_names
from swarm.errors import DiskError
from swarm.sizes import format_size
from swarm.storage.disk_errors import disk_error, optional, refusals
from swarm.storage.folder import Folder

BLOCK_BYTES = 512
"""The unit of ``st_blocks`` (POSIX)."""
PROBE_NAME = ".swarm-probe"
"""A folder that exists for a moment, in which names are tried."""
PROBED_TOGETHER = 60
"""Characters in one name that is tried: at most 240 bytes."""
FAT_FILE_BYTES = 2**32
"""The least size that no file on FAT has; every other file system in use takes far more."""


def check_space(folder: Path, needed: int, *, what: str) -> None:
    """Raise `DiskError` if fewer than ``needed`` bytes are free where ``folder`` is or would be created.

    A file system that does not say how much is free has room.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    with refusals(place), optional():
        about = os.statvfs(place)
        free = about.f_bavail * about.f_frsize
        # Some network and FUSE file systems report a size of 0.
        if about.f_blocks and needed > free:
            raise DiskError(
                f"{printable(what)} needs {format_size(needed)}, {format_size(needed - free)} more than is "
                f"free in {printable(str(place))}: free some space or choose another folder"
            )


def check_room(manifest: Manifest, output_dir: Path, selected: frozenset[int], name: str) -> None:
    """Raise `DiskError` if the missing part of the selected files does not fit into ``output_dir``.

    Nothing is written, and only sizes are read: a file of the right size counts as the right one.
    """
    needed = sum(manifest.layout.file_length(file) for file in selected)
    try:
        check_space(output_dir, needed, what=name)
    except DiskError:
        check_space(output_dir, needed - _on_disk(manifest, output_dir, selected, name), what=name)


def _on_disk(manifest: Manifest, output_dir: Path, selected: frozenset[int], name: str) -> int:
    """Return the bytes that are allocated already, by files under the final and the partial name."""
    total = 0
    for place in (output_dir / each for each in (name, *temporary_names(name, PART_SUFFIX))):
        for entry in (manifest.files[file] for file in selected):
            try:
                about = os.lstat(place.joinpath(*entry.path) if manifest.folder else place)
            except OSError:
                continue
            if stat.S_ISREG(about.st_mode):
                final = place.name == name
                total += min(about.st_size if final else allocated(about), entry.length)
    return total


def allocated(about: os.stat_result) -> int:
    """Return the bytes that a file takes on the disk; its size where the file system does not say."""
    return about.st_blocks * BLOCK_BYTES or about.st_size


def check_rest(
    manifest: Manifest,
    part: Path,
    rest: Sequence[int],
    stored: PieceSet,
    *,
    what: str,
    shared: int = 0,
) -> None:
    """Raise `DiskError` if the files ``rest`` do not fit, now that it is known which pieces are stored.

    ``part`` is the path of the partial file or folder, ``what`` says for whom the room is needed. ``shared``
    bytes take no room, because their blocks are shared with files that are here.
    """
    needed = sum(manifest.layout.file_length(file) for file in rest) - shared
    try:
        check_space(part.parent, needed, what=what)
    except DiskError:
        for file in rest:
            pieces = manifest.layout.pieces_of(file)
            here = sum(manifest.layout.length(piece) for piece in pieces if piece in stored)
            entry = manifest.files[file]
            with suppress(OSError):
                about = part.joinpath(*(entry.path if manifest.folder else ())).lstat()
                here = max(here, min(about.st_blocks * BLOCK_BYTES, entry.length))
            needed -= here
        check_space(part.parent, needed, what=what)


def is_short_enough(folder: Folder, name: str) -> bool:
    """Whether the file system of ``folder`` takes a name of this length; nothing is created."""
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        return False
    try:
        folder.layer.stat(folder.fd, name)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def check_lengths(folder: Folder, manifest: Manifest, selected: frozenset[int], name: str) -> None:
    """Raise `DiskError` if a name is too long for the file system of ``folder``; nothing is created."""
    if not is_short_enough(folder, name):
        raise disk_error(OSError(errno.ENAMETOOLONG, ""), folder.path / name)
    if not manifest.folder:
        return
    most_characters = most_bytes = ""
    size = 0
    for file in selected:
        for part in manifest.path(file):
            if len(part) > len(most_characters):
                most_characters = part
            if not part.isascii() and len(part.encode("utf-8")) > size:
                most_bytes, size = part, len(part.encode("utf-8"))
    if all(is_short_enough(folder, part) for part in (most_characters, most_bytes) if part):
        return
    _refuse(manifest, selected, "too long for this file system", lambda part: is_short_enough(folder, part))


def check_characters(folder: Folder, manifest: Manifest, selected: frozenset[int], name: str) -> None:
    """Raise `DiskError` if the file system of ``folder`` refuses characters or sizes of selected files.

    FAT and SMB may be mounted with a character set in which some names cannot be written, and FAT has no file
    of 4 GiB. This creates files in a folder of its own, and removes them.
    """
    names = [name]
    if manifest.folder:
        names = [part for file in selected for part in manifest.path(file) if not part.isascii()]
    unusual = sorted(set().union(*names) - set(map(chr, range(128))))
    largest = max((manifest.layout.file_length(file) for file in selected), default=0)
    if not unusual and largest < FAT_FILE_BYTES:
        return
    with _probing(folder) as probe:
        if probe is None:
            return
        groups = [unusual[at : at + PROBED_TOGETHER] for at in range(0, len(unusual), PROBED_TOGETHER)]
        if not all(_takes(probe, "".join(group)) for group in groups):
            bad = {character for character in unusual if not _takes(probe, character)}
            listed = ", ".join(f"U+{ord(character):04X}" for character in sorted(bad)[:5])
            why = f"this file system refuses characters of the name ({listed})"
            if not manifest.folder:
                shown = printable(str(folder.path / name))
                raise DiskError(f"{shown}: {why}; choose another folder or --name")
            _refuse(manifest, selected, why, lambda part: not bad & set(part))
        if largest >= FAT_FILE_BYTES and not _takes(probe, "size", FAT_FILE_BYTES):
            file = next(file for file in selected if manifest.layout.file_length(file) == largest)
            path = folder.path.joinpath(name, *(manifest.path(file) if manifest.folder else ()))
            raise disk_error(OSError(errno.EFBIG, ""), path)


def _refuse(manifest: Manifest, selected: frozenset[int], why: str, takes: Callable[[str], bool]) -> None:
    """Raise `DiskError` naming the first file with a name that is not taken, and how many there are."""
    judged = {part: takes(part) for part in {part for file in selected for part in manifest.path(file)}}
    bad = [file for file in sorted(selected) if not all(judged[part] for part in manifest.path(file))]
    if bad:
        shown = printable("/".join(manifest.files[bad[0]].path))
        others = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise DiskError(f"{shown}{others}: {why}; choose another folder, or leave it out with --only '!NAME'")


@contextmanager
def _probing(folder: Folder) -> Iterator[Folder | None]:
    """Hold a folder to try names in; None if there can be none."""
    layer = folder.layer
    try:
        with suppress(FileExistsError):
            layer.make_folder(folder.fd, PROBE_NAME)
        probe = folder.subfolder(PROBE_NAME)
    except OSError:
        yield None
        return
    try:
        yield probe
    finally:
        probe.close()
        with suppress(OSError):
            layer.remove_folder(folder.fd, PROBE_NAME)


def _takes(probe: Folder, name: str, size: int = 0) -> bool:
    """Whether a file of this name and size can be created; other trouble is found out by writing."""
    layer = probe.layer
    try:
        fd = layer.open(probe.fd, f"n{name}", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        return error.errno not in {errno.EINVAL, errno.EILSEQ, errno.ENOENT, errno.ENAMETOOLONG}
    try:
        if size:
            layer.resize(fd, size)
    except OSError as error:
        return error.errno != errno.EFBIG
    finally:
        layer.close(fd)
        with suppress(OSError):
            layer.remove(probe.fd, f"n{name}")
    return True
