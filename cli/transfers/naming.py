"""What a command line of ``swarm fetch`` names: contents, and peers to ask, told apart by their form."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from cli.options import PeerType, names_a_peer
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern

COMMENT = "#"

_ORIGIN = lazy_pattern(r"origin=[^&,\s]*", re.IGNORECASE)
_SECRETS = lazy_pattern(r"(?<=://)[^/]*@|\?.*")


@dataclass(frozen=True, slots=True)
class Named:
    """``contents`` are ``.swarm`` files, ids and links, ``peers`` multiaddrs; each once, in order."""

    contents: tuple[str, ...]
    peers: tuple[str, ...]


def read_names(arguments: Sequence[str], lists: Iterable[Path]) -> Named:
    """Tell the contents and the peers among ``arguments`` and the lines of the files ``lists``.

    A multiaddr begins with ``/`` and is no file; everything else is a content. ``-`` is stdin. In a list
    empty lines and those that begin with ``#`` say nothing. Raises click.UsageError, also for an argument
    that cannot be a content; what a list names is looked at in its turn.
    """
    contents: dict[str, None] = {}
    peers: list[str] = []
    for text in (*arguments, *(line for path in lists for line in _lines(path))):
        if _is_multiaddr(text):
            peers.append(PeerType().convert(text, None, None))
        else:
            contents.setdefault(text)
    for text in arguments:
        if text in contents:
            _check_content(text, others=len(contents) > 1)
    if not contents:
        raise click.UsageError("nothing to fetch: give a .swarm file, an id or a swarm: link (or a list, -i)")
    return Named(tuple(contents), tuple(peers))


def shown(content: str) -> str:
    """What the user gave, as it may be told and kept: without what is secret in the URLs of origins."""
    from swarm.content.link import SwarmLink, is_link
    from swarm.content.series_link import SeriesLink, is_series_link
    from swarm.errors import ManifestError

    if "://" in content and not is_link(content):
        return _SECRETS.sub("", content)
    if "origin=" not in content or not is_link(content):
        return content
    try:
        return (SeriesLink if is_series_link(content) else SwarmLink).pasted(content).shown()
    except ManifestError:
        return _ORIGIN.sub("origin=", content)


def _is_multiaddr(text: str) -> bool:
    from swarm.endpoint import IP_KINDS, NAME_KINDS, ZONE

    bare = PeerType.unwrapped(text)
    kind = bare[1:].partition("/")[0]
    meant = names_a_peer(bare) or (bare[:1] == "/" and kind in {*IP_KINDS, *NAME_KINDS, ZONE, "p2p", "ipfs"})
    return meant and not Path(text).exists()


def _check_content(text: str, *, others: bool) -> None:
    """Raise click.UsageError for what is no content, and may be meant as the folder for ``others``."""
    from cli.transfers.sharing import SUFFIX
    from swarm.content.paths import printable
    from swarm.storage.manifest_files import is_remote, kind_at, names_no_manifest

    try:
        if is_remote(text) or "://" in text or stat.S_ISREG(kind := kind_at(text)):
            return
    except OSError:
        # What cannot be looked at is told in its turn.
        return
    is_folder = stat.S_ISDIR(kind)
    why = names_no_manifest(text, folder=is_folder)
    into = is_folder or (others and Path(text).suffix != SUFFIX)
    raise click.UsageError(f"{why}; to fetch into a folder: -o {printable(text)}" if into else why)


def _lines(path: Path) -> Iterator[str]:
    try:
        # Paths may be any bytes.
        with click.open_file(str(path), errors="surrogateescape", encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise click.UsageError(f"cannot read the list {path}: {error.strerror}") from error
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith(COMMENT):
            yield line
