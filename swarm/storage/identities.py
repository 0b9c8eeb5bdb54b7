"""Which identity a process gets: one that stays with what it shares, or one of the user's own.

The user's are ``identity``, ``identity-1``, …: the first that is free, for whatever fetches or asks. What is
shared has an identity of its own under ``shares``, with a record of what that was. Nothing else takes it, so
links stay good whatever runs meanwhile and in whichever order (docs/decisions/0010-identities.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from swarm.content.envelope import Envelope
from swarm.content.paths import printable
from swarm.content.signature import sign
from swarm.errors import DiskError, ManifestError
from swarm.lazy_dataclass import dataclass
from swarm.storage.aio import abandonable
from swarm.storage.disk_errors import refusals
from swarm.storage.home import (
    HOME_MODE,
    KEY_BYTES,
    KEY_MODE,
    StoredIdentity,
    is_unwritable,
    load_or_create,
    make_home,
    temporary_identity,
)

MAX_IDENTITIES = 1024
"""The user's identities in one home folder, and so the number of processes that can use them at once."""
MAX_SHARES = 1024
"""Records of what was shared; those used longest ago are forgotten first."""
MAX_RECORD_BYTES = 1 << 20
ENDING_SECONDS = 3.0
"""How long a share waits for the identity that it had: a process that was told to end takes up to 2 s."""
_USERS = "identity"
_SHARES = "shares"
_RECORD = ".json"
_BEFORE = "before-shares.json"
_CHOOSING = "choosing.lock"
_TEMPORARY = "this run has a temporary peer id, which ends with it"


@dataclass(frozen=True, slots=True)
class IdentityUse:
    """What an identity is wanted for.

    ``serves`` are the real paths that are shared; ``resumes`` says what a fetch goes on to seed, which
    prefers the user's identity that it had before. ``listen`` tells apart processes that do the same at
    once. ``manifests`` are where manifests of earlier runs may lie: one that was signed before there were
    identities of shares tells which one the links name.
    """

    serves: tuple[str, ...] = ()
    resumes: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    manifests: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What it is remembered by, in an order of its own."""
        return tuple(sorted(set(self.serves or self.resumes)))


@dataclass(frozen=True, slots=True)
class _UseRecord:
    """What one identity was used for last. ``identity`` is the name of its key within the home folder."""

    path: Path
    names: tuple[str, ...]
    listen: tuple[str, ...]
    identity: str
    exclusive: bool

    @classmethod
    def read(cls, path: Path) -> _UseRecord | None:
        """Read a record; None for one that is damaged: its identity is found again by its own name."""
        try:
            with path.open("rb") as file:
                fields = json.loads(file.read(MAX_RECORD_BYTES))
            names, listen, identity, exclusive = (
                fields[key] for key in ("names", "listen", "identity", "exclusive")
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(identity, str) or Path(identity).is_absolute() or ".." in Path(identity).parts:
            return None
        return cls(path, tuple(map(str, names)), tuple(map(str, listen)), identity, bool(exclusive))

    def write(self) -> None:
        fields = {
            "names": self.names,
            "listen": self.listen,
            "identity": self.identity,
            "exclusive": self.exclusive,
        }
        _write(self.path, json.dumps(fields).encode())


@asynccontextmanager
async def hold_identity(
    home: Path, use: IdentityUse | None = None, tell: Callable[[str], None] | None = None
) -> AsyncIterator[StoredIdentity]:
    """Hold an identity for the block; no other process on this machine uses it meanwhile.

    Created on first use and kept. In a home that cannot be written, whatever shares nothing gets one that is
    not kept. A share waits `ENDING_SECONDS` for another process that still has its identity. ``tell`` is
    called with one line about either. Raises `DiskError`, also for a damaged key file.
    """
    use = use or IdentityUse()
    tell = tell or _nothing
    with ExitStack() as held:
        try:
            identity = await _kept(home, use, tell, held)
        except DiskError as error:
            if not is_unwritable(error):
                raise
            if use.serves:
                raise DiskError(
                    f"{error}; what is shared needs a key that is kept, or its link ends with this process"
                ) from error
            identity = _in_unwritable_home(home, held)
            if not identity.kept:
                tell(f"{error}: {_TEMPORARY}")
        yield identity


async def _kept(home: Path, use: IdentityUse, tell: Callable[[str], None], held: ExitStack) -> StoredIdentity:
    """Lock an identity until ``held`` is left, and read its key."""
    await make_home(home)
    try:
        name, lock = await trio.to_thread.run_sync(partial(_choose, home, use, patient=True))
    except _StillHeldError as busy:
        tell(
            f"waiting up to {ENDING_SECONDS:.0f} s for another process that shares the same, in case it ends"
        )
        with trio.move_on_after(ENDING_SECONDS):
            await abandonable(_wait_for, busy.lock)
        name, lock = await trio.to_thread.run_sync(partial(_choose, home, use, patient=False))
    held.callback(os.close, lock)
    identity = await load_or_create(home / name)
    if name.startswith(_USERS):
        return identity
    # The user signs, whatever serves it: receivers trust people.
    author = await load_or_create(home / _USERS)
    return StoredIdentity(identity.private, identity.path, author.private)


def _in_unwritable_home(home: Path, held: ExitStack) -> StoredIdentity:
    """Return the user's identity if there is one that no other process holds, or else a temporary one."""
    key = home / _USERS
    lock = _lock_of(key)
    with suppress(OSError):
        # To lock a file it is enough to read it.
        fd = os.open(lock if lock.exists() else key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        held.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        private = key.read_bytes()
        if len(private) == KEY_BYTES:
            return StoredIdentity(private, key, private)
    return temporary_identity(home)


def _wait_for(lock: Path) -> None:
    """Wait until no process holds a lock."""
    fd = _open_lock(lock)
    try:
        with refusals(lock):
            fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def _nothing(_line: str) -> None:
    return


async def first_identity(home: Path) -> StoredIdentity:
    """Return the user's identity that `hold_identity` tries first, created if missing, without holding it.

    Raises `DiskError`, also for a damaged key file.
    """
    await make_home(home)
    name = await trio.to_thread.run_sync(lambda: next(_users(home, _records(home))))
    return await load_or_create(home / name)


class _StillHeldError(Exception):
    """Another process has the identity that is wanted; perhaps it is about to end."""

    def __init__(self, lock: Path) -> None:
        super().__init__(lock)
        self.lock = lock


def _choose(home: Path, use: IdentityUse, *, patient: bool) -> tuple[str, int]:
    """Lock an identity for ``use``; return its name within the home folder and the descriptor of its lock.

    If ``patient``, raises `_StillHeldError` where a share would get another identity than it had.
    """
    with _one_at_a_time(home):
        inherited = _inherited(home)
        records = _records(home)
        if not use.serves:
            return _choose_users(home, use, records)
        with refusals(home / _SHARES):
            (home / _SHARES).mkdir(HOME_MODE, exist_ok=True)
        own = [record for record in records if record.exclusive and record.names == use.names]
        if not own:
            taken = {record.identity for record in records}
            left = [name for name in inherited.names if name not in taken]
            name = _signed_with(home, left, use.manifests, inherited.until) or _overlapping(
                home, use, records
            )
            if name is not None:
                own = [_UseRecord(_place(home, use, 0), use.names, use.listen, name, True)]
        own.sort(key=lambda record: (record.listen != use.listen, len(record.path.name), record.path.name))
        for record in own:
            lock = _try_lock(home / record.identity)
            if lock is not None:
                _remember(record, use)
                return record.identity, lock
            if patient and record.listen == use.listen:
                raise _StillHeldError(_lock_of(home / record.identity))
        return _new_share(home, use, records)


def _choose_users(home: Path, use: IdentityUse, records: Sequence[_UseRecord]) -> tuple[str, int]:
    place = _place(home, use, 0)
    before = [record.identity for record in records if use.resumes and record.path == place]
    for name in (*before, *_users(home, records)):
        lock = _try_lock(home / name)
        if lock is not None:
            if use.resumes:
                with refusals(home / _SHARES):
                    (home / _SHARES).mkdir(HOME_MODE, exist_ok=True)
                _remember(_UseRecord(place, use.names, use.listen, name, False), use)
            return name, lock
    raise DiskError(f"{printable(str(home))}: all {MAX_IDENTITIES} identities are in use; stop a process")


def _new_share(home: Path, use: IdentityUse, records: Sequence[_UseRecord]) -> tuple[str, int]:
    _forget_oldest(home, records)
    taken = {record.identity for record in records}
    for number in range(MAX_IDENTITIES):
        place = _place(home, use, number)
        name = str(place.with_suffix("").relative_to(home))
        if name in taken and place.exists():
            continue
        lock = _try_lock(home / name)
        if lock is not None:
            _remember(_UseRecord(place, use.names, use.listen, name, True), use)
            return name, lock
    raise DiskError(f"{printable(str(home))}: all {MAX_IDENTITIES} identities are in use; stop a process")


def _place(home: Path, use: IdentityUse, number: int) -> Path:
    """The record of ``use``; a name that follows from it finds its identity again without the record."""
    kind = "share" if use.serves else "fetch"
    text = "\0".join((kind, *use.names)).encode("utf-8", "surrogateescape")
    digest = hashlib.sha256(text).hexdigest()[:24]
    return home / _SHARES / (digest + (f"-{number}" if number else "") + _RECORD)


def _remember(record: _UseRecord, use: IdentityUse) -> None:
    """Note the use of now; a disk that refuses this costs only that other processes do not know it."""
    with suppress(DiskError):
        if record.listen != use.listen or not record.path.exists():
            _UseRecord(record.path, record.names, use.listen, record.identity, record.exclusive).write()
        else:
            with refusals(record.path):
                os.utime(record.path)


def _records(home: Path) -> list[_UseRecord]:
    """Every readable record, the latest first."""
    with refusals(home / _SHARES):
        try:
            found = [(entry.stat().st_mtime_ns, entry.path) for entry in os.scandir(home / _SHARES)]
        except FileNotFoundError:
            return []
    paths = (Path(path) for _, path in sorted(found, reverse=True) if path.endswith(_RECORD))
    return [record for record in map(_UseRecord.read, paths) if record is not None]


def _users(home: Path, records: Iterable[_UseRecord]) -> Iterator[str]:
    """The names of the user's identities in the order in which they are tried.

    Left out are those that belong to a share, and, but for the first, those that another fetch goes on with.
    """
    shared = {record.identity for record in records if record.exclusive}
    kept = {record.identity for record in records} | set(_inherited(home).names)
    first = True
    for number in range(MAX_IDENTITIES):
        name = f"{_USERS}-{number}" if number else _USERS
        if name not in shared and (first or name not in kept):
            first = False
            yield name


@dataclass(frozen=True, slots=True)
class _Inherited:
    """The identities that were here before there were identities of shares, and until when that was."""

    names: tuple[str, ...]
    until: float


def _inherited(home: Path) -> _Inherited:
    """What an older version of the program left; noted when this version first uses the home folder."""
    note = home / _BEFORE
    try:
        fields = json.loads(note.read_bytes())
        return _Inherited(tuple(map(str, fields["identities"])), float(fields["until"]))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        return _Inherited((), 0.0)
    with refusals(home):
        names = [entry.name for entry in home.iterdir() if _is_users_key(entry)]
    found = _Inherited(tuple(sorted(names, key=lambda name: (len(name), name))), time.time())
    with suppress(DiskError):
        _write(note, json.dumps({"identities": found.names, "until": found.until}).encode())
    return found


def _is_users_key(path: Path) -> bool:
    name, _, number = path.name.partition("-")
    return name == _USERS and (number.isdigit() or path.name == _USERS)


def _signed_with(home: Path, names: Sequence[str], manifests: Sequence[Path], until: float) -> str | None:
    """Which of the identities ``names`` signed one of the manifests, before the time ``until``."""
    if not names:
        return None
    for manifest in manifests:
        try:
            if manifest.stat().st_mtime > until:
                continue
            signer = Envelope.from_bytes(manifest.read_bytes()).signer
        except (OSError, ManifestError):
            continue
        for name in names:
            with suppress(OSError, ValueError):
                key = (home / name).read_bytes()
                if len(key) == KEY_BYTES and sign(key, b"").peer_id == signer:
                    return name
    return None


def _overlapping(home: Path, use: IdentityUse, records: Iterable[_UseRecord]) -> str | None:
    """The free identity that served most of what is to be served: some of its links stay good."""
    wanted = set(use.names)
    best, most = None, 0
    for record in records:
        common = len(wanted.intersection(record.names)) if record.exclusive else 0
        if common > most and (lock := _try_lock(home / record.identity)) is not None:
            os.close(lock)
            best, most = record.identity, common
    return best


def _forget_oldest(home: Path, records: Sequence[_UseRecord]) -> None:
    """Keep the number of records bounded; an identity that is in use, or is the user's, is kept."""
    for record in records[MAX_SHARES - 1 :]:
        lock = _try_lock(home / record.identity)
        if lock is None:
            continue
        with closing(os.fdopen(lock)), suppress(OSError):
            record.path.unlink()
            others = (other.identity for other in records if other is not record)
            if record.identity.startswith(_SHARES) and record.identity not in others:
                for suffix in ("", ".port", ".lock"):
                    (home / f"{record.identity}{suffix}").unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Let no other process choose meanwhile; choosing takes milliseconds."""
    fd = _open_lock(home / _CHOOSING)
    try:
        with refusals(home):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _try_lock(key: Path) -> int | None:
    """Lock the identity with this key file; None if another process holds it."""
    path = _lock_of(key)
    fd = _open_lock(path)
    try:
        with refusals(path):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except DiskError as error:
        os.close(fd)
        if isinstance(error.__cause__, BlockingIOError):
            return None
        raise
    return fd


def _lock_of(key: Path) -> Path:
    return key.with_name(f"{key.name}.lock")


def _open_lock(path: Path) -> int:
    with refusals(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, KEY_MODE)


def _write(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all; choosing is one process at a time."""
    temporary = path.with_name(f".{path.name}.tmp")
    with refusals(path):
        temporary.write_bytes(data)
        temporary.replace(path)
