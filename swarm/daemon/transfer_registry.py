"""The transfers that a daemon has, kept in a small database in the user's folder.

Each change is one transaction of SQLite in WAL mode with full synchronisation: whatever ends the process or
the machine, it happened or it did not. An id follows from what is transferred, and is the primary key, so a
request that is made again cannot double a transfer. Source: docs/decisions/0016-daemon.md.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio
from blake3 import blake3

from swarm.content.paths import printable
from swarm.errors import DiskError
from swarm.lazy_dataclass import dataclass

T = TypeVar("T")

FILE: Final = "daemon.sqlite"
SCHEMA: Final = 3
ID_CHARS: Final = 16
FILE_MODE: Final = 0o600
BUSY_SECONDS: Final = 5.0

_COLUMNS: Final = (
    "id", "kind", "content", "output", "name", "manifest", "size", "done", "complete", "paused",
    "upload_limit", "download_limit", "rename", "only", "peers", "sequential", "added",
    "options", "ratio", "copies", "seconds", "finished", "counted_sent", "counted_copies", "counted_seconds",
    "release",
)  # fmt: skip
_FIRST: Final = """
CREATE TABLE transfers (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL, output TEXT NOT NULL, name TEXT NOT NULL,
    manifest TEXT NOT NULL, size INTEGER NOT NULL, done INTEGER NOT NULL, complete INTEGER NOT NULL,
    paused INTEGER NOT NULL, upload_limit INTEGER, download_limit INTEGER, rename TEXT NOT NULL,
    only TEXT NOT NULL, peers TEXT NOT NULL, sequential INTEGER NOT NULL, added REAL NOT NULL
) STRICT;
CREATE TABLE manifests (
    transfer TEXT PRIMARY KEY REFERENCES transfers (id) ON DELETE CASCADE, envelope BLOB NOT NULL
) STRICT;
CREATE TABLE limits (one INTEGER PRIMARY KEY CHECK (one = 1), upload INTEGER, download INTEGER) STRICT;
"""
_RULES: Final = """
ALTER TABLE transfers ADD COLUMN options TEXT NOT NULL DEFAULT '';
ALTER TABLE transfers ADD COLUMN ratio REAL;
ALTER TABLE transfers ADD COLUMN copies INTEGER;
ALTER TABLE transfers ADD COLUMN seconds REAL;
ALTER TABLE transfers ADD COLUMN finished TEXT NOT NULL DEFAULT '';
ALTER TABLE transfers ADD COLUMN counted_sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN counted_copies INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transfers ADD COLUMN counted_seconds REAL NOT NULL DEFAULT 0;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE watched (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) STRICT;
"""
_SERIES: Final = """
ALTER TABLE transfers ADD COLUMN release INTEGER NOT NULL DEFAULT 0;
"""
_STEPS: Final = (_FIRST, _RULES, _SERIES)
"""What makes each version of the database of the one before it."""


@dataclass(frozen=True, slots=True)
class KeptTransfer:
    """One transfer as it is kept: sizes in bytes, limits in bytes per second, ``added`` by the wall clock.

    ``content`` is the absolute path of a share; of a fetch it is a link or an id. If it is the link of a
    series, ``release`` is the number of the release that ``manifest`` belongs to, 0 until there is one.
    ``output`` is the folder of a fetch, empty for a share. ``manifest`` and ``name`` are empty until they are
    known; ``rename`` is the name that the user chose, or empty. ``only`` and ``peers`` hold one entry in each
    line, ``options`` the further options as JSON. ``ratio``, ``copies`` and ``seconds`` are its rule of
    seeding, ``finished`` why that has ended, and what is counted for it follows.
    """

    id: str
    kind: str
    content: str
    output: str = ""
    name: str = ""
    manifest: str = ""
    size: int = 0
    done: int = 0
    complete: bool = False
    paused: bool = False
    upload_limit: int | None = None
    download_limit: int | None = None
    rename: str = ""
    only: str = ""
    peers: str = ""
    sequential: bool = False
    added: float = 0.0
    options: str = ""
    ratio: float | None = None
    copies: int | None = None
    seconds: float | None = None
    finished: str = ""
    counted_sent: int = 0
    counted_copies: int = 0
    counted_seconds: float = 0.0
    release: int = 0


def transfer_id(kind: str, content: str, output: str = "", name: str = "") -> str:
    """The id of a transfer: the same for the same thing, so that nothing is ever there twice."""
    text = "\0".join((kind, content, output, name)).encode("utf-8", "surrogateescape")
    return blake3(text).hexdigest()[:ID_CHARS]


class TransferRegistry:
    """The database; every method waits for the disk in a thread, one after the other.

    Raises `DiskError` for whatever the disk or the database refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = trio.CapacityLimiter(1)
        self.delay = 0.0
        """Seconds that the last read or change took, with its wait for others."""
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        with self._refusals():
            # SQLite gives its other files the mode of this one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            database = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise DiskError(f"{printable(str(self._path))} was made by a newer swarm: upgrade swarm")
        if version < SCHEMA:
            steps = "".join(_STEPS[version:])
            database.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA}; COMMIT;")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        shown = printable(str(self._path))
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise DiskError(f"{shown}: {error}; the list of transfers cannot be read or written") from error
        except UnicodeEncodeError as error:
            text = printable(error.object[:80])
            raise DiskError(f"{shown}: {text} is not UTF-8, and cannot be kept") from error
        except OSError as error:
            raise DiskError(f"{shown}: {error.strerror or error}") from error

    async def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            with self._refusals():
                return function(self._database)

        began = trio.current_time()
        try:
            return await trio.to_thread.run_sync(guarded, limiter=self._limiter)
        finally:
            self.delay = trio.current_time() - began

    async def all(self) -> list[KeptTransfer]:
        """Every transfer, in the order in which they were added."""
        query = f"SELECT {', '.join(_COLUMNS)} FROM transfers ORDER BY added, id"  # noqa: S608 - our names
        return await self._run(lambda database: [_kept(row) for row in database.execute(query)])

    async def add(self, kept: KeptTransfer, envelope: bytes | None = None) -> bool:
        """Keep a transfer, with its manifest if that is known; False if one of that id is kept already."""
        marks = ", ".join("?" * len(_COLUMNS))
        insert = f"INSERT INTO transfers ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608

        def write(database: sqlite3.Connection) -> bool:
            with _transaction(database):
                new = database.execute(insert, [getattr(kept, each) for each in _COLUMNS]).rowcount == 1
                if new and envelope is not None:
                    _put_envelope(database, kept.id, envelope)
                return new

        return await self._run(write)

    async def change(
        self, transfer: str, columns: Mapping[str, object], envelope: bytes | None = None
    ) -> None:
        """Change what is kept of a transfer; one that is not kept stays unknown."""
        unknown = columns.keys() - set(_COLUMNS[1:])
        if unknown:
            raise TypeError(f"there is no column {unknown}")
        update = f"UPDATE transfers SET {', '.join(f'{each} = ?' for each in columns)} WHERE id = ?"  # noqa: S608

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                known = database.execute(update, [*columns.values(), transfer]).rowcount == 1
                if known and envelope is not None:
                    _put_envelope(database, transfer, envelope)

        await self._run(write)

    async def remove(self, transfer: str) -> None:
        """Forget a transfer and its manifest."""
        await self._run(lambda database: database.execute("DELETE FROM transfers WHERE id = ?", [transfer]))

    async def envelope(self, transfer: str) -> bytes | None:
        """The manifest of a transfer with its signature, None while that is not known."""
        query = "SELECT envelope FROM manifests WHERE transfer = ?"
        row = await self._run(lambda database: database.execute(query, [transfer]).fetchone())
        return None if row is None else bytes(row[0])

    async def limits(self) -> tuple[int | None, int | None]:
        """The limits of all transfers together: upload and download."""
        query = "SELECT upload, download FROM limits"
        row = await self._run(lambda database: database.execute(query).fetchone())
        return (None, None) if row is None else (row[0], row[1])

    async def set_limits(self, upload: int | None, download: int | None) -> None:
        """Keep the limits of all transfers together."""
        put = "INSERT OR REPLACE INTO limits VALUES (1, ?, ?)"
        await self._run(lambda database: database.execute(put, [upload, download]))

    async def settings(self) -> dict[str, str]:
        """What is kept by name beside the transfers."""
        query = "SELECT name, value FROM settings"
        return await self._run(lambda database: dict(database.execute(query)))

    async def set_setting(self, name: str, value: str) -> None:
        """Keep something by its name."""
        put = "INSERT OR REPLACE INTO settings VALUES (?, ?)"
        await self._run(lambda database: database.execute(put, [name, value]))

    async def keep_counts(self, counts: Sequence[tuple[str, int, int, float]]) -> None:
        """Keep what transfers have given: for each its id, bytes, copies, seconds."""
        update = (
            "UPDATE transfers SET counted_sent = ?2, counted_copies = ?3, counted_seconds = ?4 WHERE id = ?1"
        )

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.executemany(update, counts)

        await self._run(write)

    async def watched(self) -> dict[str, str]:
        """The paths that were shared because they lay in a watched folder, and how each looked."""
        return await self._run(lambda database: dict(database.execute("SELECT path, stamp FROM watched")))

    async def set_watched(self, path: str, stamp: str | None) -> None:
        """Keep how a path looked when it was shared; None forgets it."""

        def write(database: sqlite3.Connection) -> None:
            if stamp is None:
                database.execute("DELETE FROM watched WHERE path = ?", [path])
            else:
                database.execute("INSERT OR REPLACE INTO watched VALUES (?, ?)", [path, stamp])

        await self._run(write)

    def close(self) -> None:
        """Close the database; blocks for a moment."""
        with self._refusals():
            self._database.close()


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _put_envelope(database: sqlite3.Connection, transfer: str, envelope: bytes) -> None:
    database.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?)", [transfer, envelope])


def _kept(row: tuple[object, ...]) -> KeptTransfer:
    fields = dict(zip(_COLUMNS, row, strict=True))
    for flag in ("complete", "paused", "sequential"):
        fields[flag] = bool(fields[flag])
    return KeptTransfer(**fields)  # type: ignore[arg-type]
