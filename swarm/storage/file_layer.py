"""The file operations that storage is built on.

`FileLayer` declares each operation that reads or changes a target, its journal or its folders. `PosixLayer`
performs them. Tests pass other layers to `open_target`, for example one that records the operations to
enumerate the states in which a crash can leave the disk.

Names are relative to a folder's descriptor, and symbolic links are never followed. Every method raises
OSError; callers convert it to `DiskError`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
from collections.abc import Callable
from functools import cache
from typing import Protocol

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_FICLONE = 0x40049409
_RANGE_WRITE = 2
# syncfs reports write-back errors since Linux 5.8; before that, its success proves nothing.
_SYNCFS_REPORTS_SINCE = (5, 8)
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EMLINK}
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class FileLayer(Protocol):
    """Operations on files by descriptor, and on names relative to a folder's descriptor."""

    def open(self, folder: int, name: str, flags: int, mode: int = 0o666) -> int:
        """Open without following a symbolic link."""

    def duplicate(self, fd: int) -> int:
        """A second descriptor of the same open file, which reports the same write-back errors."""

    def close(self, fd: int) -> None:
        """Close a descriptor that `open` or `duplicate` returned."""

    def make_folder(self, folder: int, name: str) -> None:
        """Create a folder."""

    def make_link(self, folder: int, name: str, target: str) -> None:
        """Create a symbolic link; raises FileExistsError if the name exists."""

    def stat(self, folder: int, name: str) -> os.stat_result:
        """Stat a name without following a symbolic link."""

    def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
        """Read once at ``offset``; with ``cached``, raise BlockingIOError instead of waiting for the disk."""

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write once at ``offset``; return the number of bytes written."""

    def resize(self, fd: int, size: int) -> None:
        """Truncate or extend a file; the extension is a hole."""

    def set_mode(self, fd: int, mode: int) -> None:
        """Set the permission bits."""

    def sync_data(self, fd: int) -> None:
        """Sync the file's data, and the metadata needed to read it, to the disk."""

    def begin_sync(self, fd: int) -> None:
        """Let the disk begin to write the file's data, so that a later sync waits less; promises nothing."""

    def sync(self, fd: int) -> None:
        """Sync a file with its attributes, or a folder's entries, to the disk."""

    def sync_all(self, fd: int) -> bool:
        """Sync the whole file system of ``fd``; return False where the system cannot report its errors."""

    def forget_cache(self, fd: int, offset: int, size: int) -> None:
        """Drop this range from the page cache, as far as the system allows."""

    def next_data(self, fd: int, offset: int) -> int | None:
        """Return the first position from ``offset`` on that is not in a hole; None if there is none."""

    def move(self, source: int, name: str, target: int, new_name: str) -> None:
        """Rename without replacing anything; raises FileExistsError if the new name exists."""

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        """Rename a file; a file that has the new name is replaced, in one step."""

    def exchange(self, source: int, name: str, target: int, new_name: str) -> None:
        """Let two names change places in one step; both exist."""

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """Give a file a second name; raises FileExistsError if the new name exists."""

    def clone(self, source: int, target: int) -> None:
        """Let one open file have the content of another, with which it shares its blocks."""

    def remove(self, folder: int, name: str) -> None:
        """Remove a file's name."""

    def remove_folder(self, folder: int, name: str) -> None:
        """Remove an empty folder."""

    def stream(self, fd: int) -> io.FileIO:
        """A raw file object for reading ``fd``; closing ``fd`` stays up to the caller."""


class PosixLayer:
    """The operations performed by the operating system."""

    def open(self, folder: int, name: str, flags: int, mode: int = 0o666) -> int:
        """Open without following a symbolic link."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)

    def duplicate(self, fd: int) -> int:
        """A second descriptor of the same open file, which reports the same write-back errors."""
        return os.dup(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor that `open` or `duplicate` returned."""
        os.close(fd)

    def make_folder(self, folder: int, name: str) -> None:
        """Create a folder."""
        os.mkdir(name, dir_fd=folder)

    def make_link(self, folder: int, name: str, target: str) -> None:
        """Create a symbolic link; raises FileExistsError if the name exists."""
        os.symlink(target, name, dir_fd=folder)

    def stat(self, folder: int, name: str) -> os.stat_result:
        """Stat a name without following a symbolic link."""
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
        """Read once at ``offset``; with ``cached``, raise BlockingIOError instead of waiting for the disk."""
        if not cached or not _NOWAIT:
            return os.preadv(fd, [buffer], offset)
        try:
            return os.preadv(fd, [buffer], offset, _NOWAIT)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            return os.preadv(fd, [buffer], offset)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write once at ``offset``; return the number of bytes written."""
        return os.pwrite(fd, data, offset)

    def resize(self, fd: int, size: int) -> None:
        """Truncate or extend a file; the extension is a hole."""
        os.ftruncate(fd, size)

    def set_mode(self, fd: int, mode: int) -> None:
        """Set the permission bits."""
        os.fchmod(fd, mode)

    def sync_data(self, fd: int) -> None:
        """Sync the file's data, and the metadata needed to read it, to the disk."""
        os.fdatasync(fd)

    def begin_sync(self, fd: int) -> None:
        """Let the disk begin to write the file's data, so that a later sync waits less; promises nothing."""
        whole = ctypes.c_int64(0)
        try:
            _libc_call("sync_file_range", ctypes.c_int(fd), whole, whole, ctypes.c_uint(_RANGE_WRITE))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise

    def sync(self, fd: int) -> None:
        """Sync a file with its attributes, or a folder's entries, to the disk."""
        os.fsync(fd)

    def sync_all(self, fd: int) -> bool:
        """Sync the whole file system of ``fd``; return False where the system cannot report its errors."""
        if not _syncfs_reports():
            return False
        _libc_call("syncfs", ctypes.c_int(fd))
        return True

    def forget_cache(self, fd: int, offset: int, size: int) -> None:
        """Drop this range from the page cache, as far as the system allows."""
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)

    def next_data(self, fd: int, offset: int) -> int | None:
        """Return the first position from ``offset`` on that is not in a hole; None if there is none."""
        try:
            return os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return None

    def move(self, source: int, name: str, target: int, new_name: str) -> None:
        """Rename without replacing anything; raises FileExistsError if the new name exists."""
        try:
            _rename(source, name, target, new_name, _RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _rename_checked(source, name, target, new_name)

    def replace(self, source: int, name: str, target: int, new_name: str) -> None:
        """Rename a file; a file that has the new name is replaced, in one step."""
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)

    def exchange(self, source: int, name: str, target: int, new_name: str) -> None:
        """Let two names change places in one step; both exist."""
        _rename(source, name, target, new_name, _RENAME_EXCHANGE)

    def link(self, source: int, name: str, target: int, new_name: str) -> None:
        """Give a file a second name; raises FileExistsError if the new name exists."""
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def clone(self, source: int, target: int) -> None:
        """Let one open file have the content of another, with which it shares its blocks."""
        fcntl.ioctl(target, _FICLONE, source)

    def remove(self, folder: int, name: str) -> None:
        """Remove a file's name."""
        os.unlink(name, dir_fd=folder)

    def remove_folder(self, folder: int, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=folder)

    def stream(self, fd: int) -> io.FileIO:
        """A raw file object for reading ``fd``; closing ``fd`` stays up to the caller."""
        return io.FileIO(fd, "r", closefd=False)


_Argument = ctypes.c_int | ctypes.c_char_p | ctypes.c_uint | ctypes.c_int64


@cache
def _libc_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, None if it has none of that name. To find one takes longer than a call."""
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    return function


def _libc_call(name: str, *arguments: _Argument) -> None:
    function = _libc_function(name)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _syncfs_reports() -> bool:
    if os.uname().sysname != "Linux":
        return False
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= _SYNCFS_REPORTS_SINCE


def _rename(source: int, name: str, target: int, new_name: str, flags: int) -> None:
    _libc_call(
        "renameat2",
        ctypes.c_int(source),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_int(target),
        ctypes.c_char_p(os.fsencode(new_name)),
        ctypes.c_uint(flags),
    )


def _rename_checked(source: int, name: str, target: int, new_name: str) -> None:
    """Move on a file system without an exclusive rename: by a hard link, or else check and rename.

    Another program may create the name between the check and the rename. For a folder, the system still
    refuses to replace anything but an empty one.
    """
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        os.unlink(name, dir_fd=source)
        return
    try:
        os.stat(new_name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


POSIX = PosixLayer()


WRITE_BYTES = 256 * 1024
"""The most bytes written in one call. Fewer calls are faster, but Linux allocates page cache in blocks as
large as the call, and the host of a virtual machine is more likely to have reclaimed larger ones:
docs/performance.md."""


def read_at(layer: FileLayer, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
    """Fill ``buffer`` from the file at ``offset``; return the bytes read, fewer only at the end of the file.

    With ``cached``, raises BlockingIOError as soon as a byte is not in the page cache.
    """
    done, size = 0, len(buffer)
    while done < size:
        got = layer.read_into(fd, buffer[done:], offset + done, cached=cached)
        if got == 0:
            break
        done += got
    return done


def write_at(layer: FileLayer, fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; raises OSError if the system writes only a part of it."""
    while data:
        taken = layer.write(fd, data[:WRITE_BYTES], offset)
        if taken == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, offset = data[taken:], offset + taken
