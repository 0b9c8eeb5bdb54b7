"""``swarm:`` links: one line that names a manifest and peers that have it.

``swarm:<cid>?name=<text>&peer=<multiaddr>&meet=<multiaddr>&origin=<URL>&…``, values percent-encoded UTF-8
(RFC 3986). Only the id is binding; the name, the peers, the meeting points and the origins are hints. Unknown
parameters are ignored, so that later versions can add some. ``swarm:<cid>,name=<text>,peer=<multiaddr>,…``
means the same and needs no quotes in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote, unquote_to_bytes

from swarm.content.paths import check_title
from swarm.errors import ManifestError, UsageError
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass, replace
from swarm.lazy_pattern import lazy_pattern
from swarm.origin_url import OriginUrl, read_origins

SCHEME = "swarm:"
SERIES_WORD = "series"
"""What stands in the place of an id in the link of a series."""
MAX_LINK_CHARS = 64 * 1024
MAX_LINK_PEERS = 32
MAX_LINK_MEETS = 8
MAX_ADDRESS_BYTES = 512
"""Characters of one multiaddr."""

# Need no escape in a query (RFC 3986, section 3.4), and mean nothing to a shell or to whatever finds links in
# a text. A comma separates parameters in the form without "?" and "&".
_SAFE = "/:@"
_ADDRESS = lazy_pattern(f"/[!-~]{{1,{MAX_ADDRESS_BYTES - 1}}}", re.ASCII)
_LINK = lazy_pattern(r"[!-~]+", re.ASCII)
_WITH_SLASHES = "swarm://"
_BARE_SEPARATOR = ","
_SPACE = lazy_pattern(r"[\s\u200b-\u200f\u2060\ufeff]+")
_WRAPPINGS = "<>\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"
_AFTER = ".,;!"
_BAD_ESCAPE = lazy_pattern(r"%(?![0-9A-Fa-f]{2})", re.ASCII)


Addresses: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwarmLink:
    """A manifest id, multiaddrs of peers that have it, the content's name, and web servers that have it.

    Whoever has the text of a link has the secrets of its origins. Addresses are checked for their form
    only. Raises ManifestError for a name that a manifest cannot have, a malformed address, and more than
    `MAX_LINK_PEERS` peers.
    """

    id: ManifestId
    peers: tuple[str, ...] = ()
    name: str | None = None
    meets: tuple[str, ...] = ()
    """Meeting points where those peers can be found, too."""
    origins: tuple[OriginUrl, ...] = ()
    """Web servers that have the content."""

    def __post_init__(self) -> None:
        check_addresses(self.peers, self.meets)
        if self.name is not None:
            check_title(self.name)

    def __str__(self) -> str:
        return self._written("?", "&")

    def bare(self) -> str:
        """The form that a shell takes as one word without quotes."""
        return self._written(_BARE_SEPARATOR, _BARE_SEPARATOR)

    def _written(self, first: str, other: str) -> str:
        parameters = [("peer", peer) for peer in self.peers]
        parameters += [("meet", meet) for meet in self.meets]
        if self.name is not None:
            parameters.insert(0, ("name", self.name))
        parameters += [("origin", origin.revealed()) for origin in self.origins]
        query = other.join(f"{key}={quoted_value(value)}" for key, value in parameters)
        return f"{SCHEME}{self.id}{first if query else ''}{query}"

    def shown(self) -> str:
        """The link as it may be told to anybody: without the origins that have secrets."""
        return str(replace(self, origins=tuple(each for each in self.origins if not each.has_secrets)))

    @classmethod
    def pasted(cls, text: str) -> SwarmLink:
        """Parse a link as people paste it.

        Ignores white space, also within (a mail program wraps lines), and quotes, angle brackets and
        punctuation around. Accepts ``swarm://`` and ``&amp;``. Raises ManifestError for any other text.
        """
        return cls.parse(tidied(text))

    @classmethod
    def parse(cls, text: str) -> SwarmLink:
        """Parse a link; raises ManifestError for any other text."""
        cid, given = split_link(text, "a swarm link looks like swarm:<id>?name=…&peer=…")
        if cid.partition("/")[0].lower() == SERIES_WORD:
            raise ManifestError("this is the link of a series, not of one content")
        if len(given["name"]) > 1:
            raise ManifestError("a swarm link can have only one name")
        name = given["name"][0] if given["name"] else None
        peers, meets, urls = hints_of(given)
        return cls(_parse_id(cid), peers, name, meets, urls)


def split_link(text: str, form: str) -> tuple[str, dict[str, list[str]]]:
    """What a link names, and its parameters; raises ManifestError, with ``form``, for what is no link."""
    if len(text) > MAX_LINK_CHARS:
        raise ManifestError(f"a swarm link can have at most {MAX_LINK_CHARS} characters, not {len(text)}")
    if not _LINK.fullmatch(text) or text[: len(SCHEME)].lower() != SCHEME:
        raise ManifestError(form)
    body = text[len(SCHEME) :]
    named, mark, query = body.partition("?")
    separator = "&"
    if not mark:
        named, _, query = body.partition(_BARE_SEPARATOR)
        separator = _BARE_SEPARATOR
    given: dict[str, list[str]] = {"peer": [], "meet": [], "name": [], "origin": []}
    for key, value in _parameters(query, separator):
        if key in given:
            given[key].append(value)
    return named, given


def hints_of(given: Mapping[str, Sequence[str]]) -> tuple[Addresses, Addresses, tuple[OriginUrl, ...]]:
    """The peers, meeting points and origins among a link's parameters, each once; raises ManifestError."""
    try:
        urls = read_origins(given["origin"])
    except UsageError as error:
        raise ManifestError(f"the swarm link cannot be used: {error}") from None
    peers, meets = (tuple(dict.fromkeys(given[key])) for key in ("peer", "meet"))
    return peers, meets, urls


def check_addresses(peers: Addresses, meets: Addresses) -> None:
    """Raise ManifestError for too many addresses in a link, and for one that is no multiaddr."""
    if len(peers) > MAX_LINK_PEERS:
        raise ManifestError(f"a swarm link can have at most {MAX_LINK_PEERS} peers, not {len(peers)}")
    if len(meets) > MAX_LINK_MEETS:
        raise ManifestError(
            f"a swarm link can have at most {MAX_LINK_MEETS} meeting points, not {len(meets)}"
        )
    for peer in (*peers, *meets):
        if not _ADDRESS.fullmatch(peer):
            raise ManifestError(f"a peer in a swarm link must be a multiaddr, not {peer[:80]!a}")


def tidied(text: str) -> str:
    """A link as people paste it, in the form that is parsed."""
    text = unwrapped(text).replace("&amp;", "&")
    if text[: len(_WITH_SLASHES)].lower() == _WITH_SLASHES:
        return SCHEME + text[len(_WITH_SLASHES) :]
    return text


def quoted_value(value: str) -> str:
    """``value`` as a parameter of a link."""
    # RFC 3986 leaves the tilde alone, shells do not everywhere.
    return quote(value, safe=_SAFE).replace("~", "%7E")


def _parse_id(text: str) -> ManifestId:
    try:
        return ManifestId.parse(text)
    except ValueError as error:
        raise ManifestError(f"the id in the swarm link is malformed: {error}") from error


def unwrapped(text: str) -> str:
    """``text`` without white space, and without the quotes, brackets and punctuation around it."""
    before, text = "", _SPACE.sub("", text)
    while text != before:
        before, text = text, text.strip(_WRAPPINGS).rstrip(_AFTER)
    return text


def is_link(text: str) -> bool:
    """Whether ``text`` is meant as a link, perhaps a broken one."""
    return unwrapped(text)[: len(SCHEME)].lower() == SCHEME


def decoded(value: str, what: str) -> str:
    """Undo percent escapes; raises ManifestError for malformed ones and for what is not UTF-8."""
    if _BAD_ESCAPE.search(value):
        raise ManifestError("a swarm link has a malformed percent escape")
    try:
        return unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"the {what[:20]!a} of the swarm link is not UTF-8") from error


def _parameters(query: str, separator: str) -> Iterator[tuple[str, str]]:
    for parameter in query.split(separator) if query else ():
        key, _, value = parameter.partition("=")
        yield key, decoded(value, key)
