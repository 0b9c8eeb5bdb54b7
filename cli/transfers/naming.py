"""What a command line of ``swarm fetch`` names: contents, and peers to ask, told apart by their form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from cli.options import PeerType
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
    empty lines and those that begin with ``#`` say nothing. Raises click.UsageError.
    """
    contents: dict[str, None] = {}
    peers: list[str] = []
    for text in (*arguments, *(line for path in lists for line in _lines(path))):
        if _is_multiaddr(text):
            peers.append(PeerType().convert(text, None, None))
        else:
            contents.setdefault(text)
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
    return PeerType.unwrapped(text).startswith("/") and not Path(text).exists()


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
