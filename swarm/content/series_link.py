"""``swarm:series/…`` links: one line that names a series and peers that know its newest release.

``swarm:series/<key>/<name>?peer=<multiaddr>&meet=<multiaddr>&origin=<URL>&…``, values percent-encoded UTF-8.
The key is the publisher's peer id. Only the key and the name are binding; the rest are hints. The form
``swarm:series/<key>/<name>,peer=…,meet=…`` means the same and needs no quotes in a shell. Specified in
docs/updates.md.
"""

from __future__ import annotations

from urllib.parse import quote

from swarm.content.link import (
    SCHEME,
    SERIES_WORD,
    check_addresses,
    decoded,
    hints_of,
    is_link,
    quoted_value,
    split_link,
    tidied,
)
from swarm.content.release import Series
from swarm.content.signature import parse_signer, public_of
from swarm.errors import ManifestError
from swarm.lazy_dataclass import dataclass, replace
from swarm.origin_url import OriginUrl

_FORM = "the link of a series looks like swarm:series/<key>/<name>?peer=…"
_PARTS = 3


@dataclass(frozen=True, slots=True)
class SeriesLink:
    """A series, multiaddrs of peers that know of it, meeting points, and web servers that have its record.

    Whoever has the text of a link has the secrets of its origins. Raises ManifestError for a malformed
    address and for too many of them.
    """

    series: Series
    peers: tuple[str, ...] = ()
    meets: tuple[str, ...] = ()
    origins: tuple[OriginUrl, ...] = ()

    def __post_init__(self) -> None:
        check_addresses(self.peers, self.meets)

    def __str__(self) -> str:
        return self._written("?", "&")

    def bare(self) -> str:
        """The form that a shell takes as one word without quotes."""
        return self._written(",", ",")

    def shown(self) -> str:
        """The link as it may be told to anybody: without the origins that have secrets."""
        return str(replace(self, origins=tuple(each for each in self.origins if not each.has_secrets)))

    def _written(self, first: str, other: str) -> str:
        parameters = [("peer", peer) for peer in self.peers]
        parameters += [("meet", meet) for meet in self.meets]
        parameters += [("origin", origin.revealed()) for origin in self.origins]
        query = other.join(f"{key}={quoted_value(value)}" for key, value in parameters)
        name = quote(self.series.name, safe="").replace("~", "%7E")
        return f"{SCHEME}{SERIES_WORD}/{self.series.key}/{name}{first if query else ''}{query}"

    @classmethod
    def pasted(cls, text: str) -> SeriesLink:
        """Parse a link as people paste it, as `SwarmLink.pasted` does; raises ManifestError."""
        return cls.parse(tidied(text))

    @classmethod
    def parse(cls, text: str) -> SeriesLink:
        """Parse a link; raises ManifestError for any other text."""
        named, given = split_link(text, _FORM)
        parts = named.split("/")
        if len(parts) != _PARTS or parts[0].lower() != SERIES_WORD:
            raise ManifestError(_FORM)
        try:
            public = public_of(parse_signer(parts[1]))
        except ValueError as error:
            raise ManifestError(f"the key in the link of the series is malformed: {error}") from error
        return cls(Series(public, decoded(parts[2], "name")), *hints_of(given))


def is_series_link(text: str) -> bool:
    """Whether ``text`` is meant as the link of a series, perhaps a broken one."""
    return is_link(text) and tidied(text)[len(SCHEME) :].lower().startswith(f"{SERIES_WORD}/")
