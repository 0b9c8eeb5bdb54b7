"""The folder of a user's state, the keys in it, and the port of each. `identities` says who gets which."""

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.lazy_dataclass import dataclass
from swarm.storage import aio
from swarm.storage.disk_errors import disk_error, optional
from swarm.storage.home_folder import HOME_VARIABLE

KEY_BYTES = 32
KEY_FILE_LIMIT = 4096
"""Bytes read of a key file: enough to report the length of a wrong one."""
KEY_MODE = 0o600
HOME_MODE = 0o700
MAX_PORT = 65535
PORT_FILE_LIMIT = 5
"""Bytes of a file that holds a port."""
_UNWRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """A private Ed25519 key (its 32-byte seed), the file it is stored in, and the key that signs for it."""

    private: bytes
    path: Path
    signing: bytes
    kept: bool = True
    """Whether it is the same the next time; one that is not has no file either."""

    def __repr__(self) -> str:
        return f"<Identity {self.path}>"


async def make_home(home: Path) -> None:
    """Create the folder of a user's state unless it exists; raises `DiskError`."""
    try:
        await aio.make_folder(home, HOME_MODE)
    except DiskError as error:
        raise DiskError(
            f"{error} (this is where swarm keeps its keys; {HOME_VARIABLE} names another place)"
        ) from error


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
    if port and identity.kept and await remembered_port(identity) != port:
        with suppress(DiskError):
            await aio.write_atomic(_port_file(identity), b"%d" % port, KEY_MODE)


def _port_file(identity: StoredIdentity) -> Path:
    return identity.path.with_name(f"{identity.path.name}.port")


async def load_or_create(path: Path) -> StoredIdentity:
    """Read a key file, made if it is missing; raises `DiskError`, also for a damaged one."""
    if not await trio.to_thread.run_sync(_keep_private, path):
        await aio.write_once(path, _new_key(), KEY_MODE)
    private = await aio.read_bytes(path, KEY_FILE_LIMIT)
    if len(private) != KEY_BYTES:
        raise DiskError(
            f"{printable(str(path))}: a key has {KEY_BYTES} bytes, but this file has {len(private)}; "
            "restore it, or remove it to get a new identity"
        )
    return StoredIdentity(private, path, private)


def temporary_identity(home: Path) -> StoredIdentity:
    """Make an identity that nothing keeps, for a ``home`` that cannot be written."""
    key = _new_key()
    return StoredIdentity(key, home / "temporary", key, kept=False)


def is_unwritable(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, says that a home is read-only, full or not ours."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return True
        error = error.__cause__
    return False


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


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
