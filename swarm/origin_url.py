"""Where a web server has the content: an ``http`` or ``https`` URL whose secrets are never shown. Pure.

Userinfo and query are secrets. `str`, `repr` and every error show the rest of the URL alone, so that what
is logged, told or raised cannot carry them; `OriginUrl.revealed` is the one way to the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from swarm.errors import UsageError
from swarm.lazy_pattern import lazy_pattern

MAX_URL_CHARS = 4096
MAX_ORIGINS = 16
"""Origins of one transfer, and of a link."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = lazy_pattern(r"[!-~]+", re.ASCII)
# Of a name each label has 63 characters at most: others cannot be asked for (RFC 1035, section 2.3.4).
_NAME = r"(?=.{1,253}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"
_HOST = lazy_pattern(_NAME + r"|(?=[^:]*:)[0-9A-Fa-f:.]{2,45}", re.ASCII)
# What may stand in a path besides letters, digits and "-._~" (RFC 3986, section 3.3).
_SAFE = "!$&'()*+,;=:@"
_KEPT = "/%" + _SAFE + "[]|^"


class OriginUrl:
    """One ``http`` or ``https`` URL; raises UsageError, which does not repeat it, for any other text.

    Equal if the whole texts are. A fragment is dropped.
    """

    __slots__ = ("_authority", "_path", "_query", "_userinfo", "host", "port", "scheme")

    def __init__(self, text: str) -> None:
        text = text.strip()
        if len(text) > MAX_URL_CHARS:
            raise UsageError(f"the URL of an origin has at most {MAX_URL_CHARS} characters")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise UsageError("the URL of an origin is malformed") from None
        self.scheme = parts.scheme.lower()
        if self.scheme not in DEFAULT_PORTS:
            raise UsageError("an origin is an http:// or https:// URL")
        self.host = (parts.hostname or "").lower()
        try:
            self.host = self.host if self.host.isascii() else self.host.encode("idna").decode("ascii")
        except UnicodeError:
            self.host = ""
        if not _HOST.fullmatch(self.host):
            raise UsageError("the URL of an origin names no host")
        self.port = DEFAULT_PORTS[self.scheme] if port is None else port
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self._authority = shown if self.port == DEFAULT_PORTS[self.scheme] else f"{shown}:{self.port}"
        self._userinfo = parts.netloc.rpartition("@")[0]
        self._path = quote(parts.path or "/", safe=_KEPT)
        self._query = quote(parts.query, safe=_KEPT + "?")

    @property
    def authority(self) -> str:
        """The host, with its port unless it is the scheme's own; what the Host header names."""
        return self._authority

    @property
    def path(self) -> str:
        """The path alone."""
        return self._path

    @property
    def target(self) -> str:
        """What a request names: the path with the query. A secret."""
        return f"{self._path}?{self._query}" if self._query else self._path

    @property
    def authorization(self) -> str | None:
        """The value of the header that the userinfo stands for. A secret."""
        if not self._userinfo:
            return None
        import base64

        user, _, password = self._userinfo.partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        return "Basic " + base64.b64encode(pair).decode("ascii")

    @property
    def has_secrets(self) -> bool:
        """Whether there is something that must not be shown."""
        return bool(self._userinfo or self._query)

    @property
    def is_folder(self) -> bool:
        """Whether names are appended to it: its path ends in a slash."""
        return self._path.endswith("/")

    def revealed(self) -> str:
        """The whole URL, secrets and all."""
        user = f"{self._userinfo}@" if self._userinfo else ""
        return f"{self.scheme}://{user}{self._authority}{self.target}"

    def below(self, names: Sequence[str]) -> OriginUrl:
        """The URL of a file: ``names`` percent-encoded behind a folder's path; any other URL is the file."""
        if not self.is_folder:
            return self
        return self._with(self._path + "/".join(quote(name, safe=_SAFE) for name in names))

    def require_folder(self) -> None:
        """Raise UsageError unless names can be appended."""
        if not self.is_folder:
            raise UsageError(f"the URL of a shared folder's origin ends in /: {self}/")

    def beside(self, suffix: str) -> OriginUrl:
        """The URL with ``suffix`` at the end of its path."""
        return self._with(self._path + quote(suffix, safe=_SAFE))

    def moved(self, location: str) -> OriginUrl:
        """Where a redirect leads; the userinfo stays with its host. Raises UsageError if that is not safe."""
        if len(location) > MAX_URL_CHARS or not _URL.fullmatch(location):
            raise UsageError("it redirects to a malformed URL")
        bare = f"{self.scheme}://{self._authority}{self.target}"
        try:
            new = OriginUrl(urljoin(bare, location))
        except ValueError as error:
            raise UsageError("it redirects to a malformed URL") from error
        except UsageError as error:
            raise UsageError(f"it redirects to somewhere else: {error}") from error
        if self.scheme == "https" and new.scheme != "https":
            raise UsageError("it redirects from https to http")
        if new.same_server(self) and not new._userinfo:
            new._userinfo = self._userinfo
        return new

    def same_server(self, other: OriginUrl) -> bool:
        """Whether one connection serves both."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def _with(self, path: str) -> OriginUrl:
        new = object.__new__(OriginUrl)
        new.scheme, new.host, new.port = self.scheme, self.host, self.port
        new._authority, new._userinfo, new._query = self._authority, self._userinfo, self._query
        new._path = path
        return new

    def __str__(self) -> str:
        return f"{self.scheme}://{self._authority}{self._path}"

    def __repr__(self) -> str:
        return f"OriginUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OriginUrl) and self.revealed() == other.revealed()

    def __hash__(self) -> int:
        return hash(self.revealed())


def read_origins(texts: Sequence[str | OriginUrl]) -> tuple[OriginUrl, ...]:
    """The URLs, each once; raises UsageError for a malformed one and for more than `MAX_ORIGINS`."""
    urls = tuple(dict.fromkeys(each if isinstance(each, OriginUrl) else OriginUrl(each) for each in texts))
    if len(urls) > MAX_ORIGINS:
        raise UsageError(f"a transfer has at most {MAX_ORIGINS} origins, not {len(urls)}")
    return urls
