"""Turns an OSError into one line that tells the user what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from swarm.content.paths import printable
from swarm.errors import DiskError

_FULL = "the disk is full; free some space and run the same command again"
_DENIED = "permission denied; change its permissions or choose another folder"
_MANY = "too many open files; raise the limit with 'ulimit -n' and run the same command again"
_IN_THE_WAY = "something that is not a folder, or a symbolic link, is in the way; move it away"

_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EIO: "the device reports an I/O error; check the disk before you run this again",
    errno.EMFILE: _MANY,
    errno.ENFILE: _MANY,
    errno.ENAMETOOLONG: "the name is too long for this file system; choose another folder",
    errno.EFBIG: "larger than this file system or 'ulimit -f' allows; choose another folder",
    errno.ELOOP: "this is a symbolic link, which is not followed; move it away",
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: "a folder is where a file should be; move it away",
    errno.EEXIST: "already exists; move it away or choose another folder",
    errno.ENOENT: "there is no such file or folder",
    errno.ESTALE: "the network file system lost this file; mount it again",
    errno.ETXTBSY: "a running program uses this file; stop it first",
}


def disk_error(error: OSError, path: str | os.PathLike[str]) -> DiskError:
    """Convert an OSError to a `DiskError` that names ``path``."""
    if error.errno is None:
        return DiskError(f"{printable(os.fspath(path))}: {error}")
    advice = _ADVICE.get(error.errno) or os.strerror(error.errno)
    return DiskError(f"{printable(os.fspath(path))}: {advice}")


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert any OSError raised in the block to a `DiskError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error
    except UnicodeEncodeError as error:
        shown = printable(os.fspath(path))
        raise DiskError(f"{shown}: this locale cannot write the name; set PYTHONUTF8=1") from error


_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY})


@contextmanager
def optional(*also: int) -> Iterator[None]:
    """Ignore an OSError which says that the file system lacks an ability, or has a code in ``also``.

    For what a target can do without: FUSE, SMB and FAT file systems often have no sync of folders, no holes
    and no permission bits. Errors of the device are never ignored.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _UNSUPPORTED and error.errno not in also:
            raise
