"""The folder of a user's state, and the identity keys in it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.storage import aio
from swarm.storage.disk_errors import disk_error, optional, refusals

HOME_VARIABLE = "SWARM_HOME"
KEY_BYTES = 32
KEY_FILE_LIMIT = 4096
"""Bytes read of a key file: enough to report the length of a wrong one."""
KEY_MODE = 0o600
HOME_MODE = 0o700
MAX_IDENTITIES = 1024
"""Identities in one home folder, and so the number of processes that can use it at the same time."""
MAX_PORT = 65535
PORT_FILE_LIMIT = 5
"""Bytes of a file that holds a port."""
_IDENTITY = "identity"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """A private Ed25519 key (its 32-byte seed) and the file that it is stored in."""

    private: bytes
    path: Path

    def __repr__(self) -> str:
        return f"<Identity {self.path}>"


def swarm_home() -> Path:
    """Return ``$SWARM_HOME`` if set, otherwise the platform's folder for user data."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("swarm", appauthor=False))


@asynccontextmanager
async def hold_identity(home: Path) -> AsyncIterator[StoredIdentity]:
    """Hold an identity for the block; no other process on this machine uses it meanwhile.

    The first process takes ``identity``, the next ``identity-1`` and so on. Each is created on first use
    and kept. Raises `DiskError`, also for a damaged key file.
    """
    await aio.make_folder(home, HOME_MODE)
    name, lock = await trio.to_thread.run_sync(_lock_free, home)
    try:
        yield await _load_or_create(home / name)
    finally:
        os.close(lock)


async def first_identity(home: Path) -> StoredIdentity:
    """Return the identity that `hold_identity` tries first, created if missing, without holding it.

    Raises `DiskError`, also for a damaged key file.
    """
    await aio.make_folder(home, HOME_MODE)
    return await _load_or_create(home / _IDENTITY)


async def remembered_port(identity: StoredIdentity) -> int:
    """Return the port that this identity listened on last, or 0 if that is not known.

    A link names a port. It would not survive a restart on another one.
    """
    try:
        text = await aio.read_bytes(_port_file(identity), PORT_FILE_LIMIT)
    except DiskError:
        return 0
    return int(text) if text.isdigit() and int(text) <= MAX_PORT else 0


async def remember_port(identity: StoredIdentity, port: int) -> None:
    """Note the port that this identity listens on; a disk that refuses this costs nothing more."""
    if port and await remembered_port(identity) != port:
        with suppress(DiskError):
            await aio.write_atomic(_port_file(identity), b"%d" % port, KEY_MODE)


def _port_file(identity: StoredIdentity) -> Path:
    return identity.path.with_name(f"{identity.path.name}.port")


def _lock_free(home: Path) -> tuple[str, int]:
    """Lock the first free identity; return its name and the descriptor that holds the lock."""
    for number in range(MAX_IDENTITIES):
        name = f"{_IDENTITY}-{number}" if number else _IDENTITY
        path = home / f"{name}.lock"
        with refusals(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            except BaseException:
                os.close(fd)
                raise
        return name, fd
    raise DiskError(f"{printable(str(home))}: all {MAX_IDENTITIES} identities are in use; stop a process")


async def _load_or_create(path: Path) -> StoredIdentity:
    if not await trio.to_thread.run_sync(_keep_private, path):
        key = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        await aio.write_once(path, key, KEY_MODE)
    private = await aio.read_bytes(path, KEY_FILE_LIMIT)
    if len(private) != KEY_BYTES:
        raise DiskError(
            f"{printable(str(path))}: a key has {KEY_BYTES} bytes, but this file has {len(private)}; "
            "restore it, or remove it to get a new identity"
        )
    return StoredIdentity(private, path)


def _keep_private(path: Path) -> bool:
    """Restrict a key file to its owner; return False if there is no file."""
    try:
        about = path.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_mode & _OTHERS:
            # FAT and SMB have no such bits.
            with optional(errno.EPERM):
                path.chmod(KEY_MODE)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise disk_error(error, path) from error
    return True
