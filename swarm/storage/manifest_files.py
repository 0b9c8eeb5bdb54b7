"""Manifests as a user names them (a ``.swarm`` file, an id, a ``swarm:`` link), and their files."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import trio

from swarm.content.envelope import MAX_ENVELOPE_BYTES, Envelope
from swarm.content.hints import Hints
from swarm.content.link import SwarmLink, is_link, unwrapped
from swarm.content.paths import printable
from swarm.errors import ManifestError, UsageError
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern
from swarm.origin_url import OriginUrl
from swarm.storage import aio
from swarm.storage.disk_errors import refusals

# What nobody means as a file: an id, be it a broken one.
_LIKE_AN_ID = lazy_pattern(r"b[a-z0-9]{50,70}", re.IGNORECASE)

_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class NamedContent:
    """What to fetch, and the peers, meeting points and web servers that its name brought along.

    ``linked`` if that was a link.
    """

    manifest: Envelope | ManifestId
    peers: tuple[str, ...] = ()
    linked: bool = False
    meets: tuple[str, ...] = ()
    origins: tuple[OriginUrl, ...] = ()
    name: str | None = None

    @classmethod
    def of_link(cls, link: SwarmLink) -> NamedContent:
        """What a link names."""
        return cls(link.id, link.peers, linked=True, meets=link.meets, origins=link.origins, name=link.name)

    @classmethod
    def of_envelope(cls, envelope: Envelope) -> NamedContent:
        """What a ``.swarm`` file names."""
        hints = Hints.read(envelope.peers)
        return cls(envelope, hints.peers, meets=hints.meets, origins=hints.origins)


async def find_content(text: str) -> NamedContent:
    """Find out what ``text`` names.

    Raises `UsageError` if it is none of the three, `ManifestError` for a malformed file, id or
    link, `DiskError` for a file that cannot be read.
    """
    if is_link(text):
        return NamedContent.of_link(SwarmLink.pasted(text))
    with refusals(Path(text)):
        kind = await trio.to_thread.run_sync(kind_at, text)
    if stat.S_ISREG(kind):
        envelope = await read_envelope(Path(text))
        return NamedContent.of_envelope(envelope)
    cid = unwrapped(text)
    if cid.lower().startswith(("http://", "https://")):
        raise UsageError("a web server's URL is given with --origin, beside a .swarm file, an id or a link")
    if not _LIKE_AN_ID.fullmatch(cid):
        raise UsageError(names_no_manifest(text, folder=stat.S_ISDIR(kind)))
    try:
        return NamedContent(ManifestId.parse(cid))
    except ValueError as error:
        raise ManifestError(f"{printable(cid)} is no id: {error}") from error


def kind_at(text: str) -> int:
    """What lies at a path, as `stat.S_IFMT` has it; 0 for nothing. Raises OSError if that cannot be told.

    There is nothing at what no path can be, such as a long link that has lost its first letter.
    """
    try:
        return stat.S_IFMT(Path(text).stat().st_mode)
    except ValueError:
        return 0
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise


def names_no_manifest(text: str, *, folder: bool) -> str:
    """What to say of a ``text`` that is neither a file nor a link nor an id; it may be that of a folder."""
    what = f"{printable(text)} is a folder" if folder else f"there is no file {printable(text)}"
    return f"{what}: give a .swarm file, an id or a swarm: link"


def is_remote(text: str) -> bool:
    """Whether ``text`` is a link or an id, whose manifest only peers have."""
    return is_link(text) or (_LIKE_AN_ID.fullmatch(unwrapped(text)) is not None and not Path(text).is_file())


async def inspect(path: str | Path) -> Envelope:
    """Read the ``.swarm`` file at ``path``: its manifest and its signature.

    Raises `ManifestError` for a file that is none, `DiskError` for one that cannot be read.
    """
    return await read_envelope(Path(path))


async def read_envelope(path: Path) -> Envelope:
    """Read a ``.swarm`` file; raises `ManifestError` for one that is malformed, `DiskError`."""
    with refusals(path):
        size = (await trio.Path(path).stat()).st_size
    if size > MAX_ENVELOPE_BYTES:
        raise ManifestError(f"{printable(str(path))} is too long for a manifest")
    data = await aio.read_bytes(path, MAX_ENVELOPE_BYTES)
    if not Envelope.begins(data):
        raise ManifestError(f"{printable(str(path))} is not a .swarm file")
    return await trio.to_thread.run_sync(Envelope.from_bytes, data)


async def refuse_to_overwrite(path: Path) -> Envelope | None:
    """Return the manifest in the place of a new one, if any; raises `UsageError` if it is something else."""
    with refusals(path):
        if not await trio.Path(path).exists():
            return None
        if await trio.Path(path).is_dir():
            shown = printable(str(path))
            raise UsageError(f"{shown} is a folder: choose another name for the manifest")
    try:
        return await read_envelope(path)
    except ManifestError:
        raise UsageError(
            f"{printable(str(path))} exists and is not a manifest: choose another name for the manifest"
        ) from None


async def check_place(path: Path) -> Envelope | None:
    """Find out, before any work is done for it, whether a manifest can be written to ``path``.

    Returns the one that is there now. Raises `UsageError` if something other than a manifest is there,
    `DiskError` if the disk refuses.
    """
    found = await refuse_to_overwrite(path)
    await aio.check_writable(path)
    return found


async def write_envelope(path: Path, envelope: Envelope, peers: Sequence[str] = ()) -> None:
    """Write a ``.swarm`` file whole or not at all; only another manifest is replaced.

    ``peers`` are multiaddrs with ``/p2p/<id>`` at which others get the content, the best first, or what
    `Hints.texts` makes of them and of other places. Raises `UsageError` if something else is in the way,
    `DiskError` if the disk refuses.
    """

    def encoded() -> bytes:
        return (envelope.with_peers(peers) if peers else envelope).to_bytes()

    data = await trio.to_thread.run_sync(encoded)
    if await trio.to_thread.run_sync(_holds, path, data):
        return
    await refuse_to_overwrite(path)
    await aio.write_atomic(path, data)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file has exactly this content already."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False
