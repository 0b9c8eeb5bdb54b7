"""Who may ask the daemon over TCP: nobody whom a web page sent, and only who has the token. Pure.

Any page that a browser shows can send requests to 127.0.0.1. The name in ``Host`` is that of this machine, or
the page has made a name of its own lead here (DNS rebinding). ``Origin``, which a browser sends and a page
cannot forge, is this daemon's own. And the token is in a file that only its user can read.
"""

from __future__ import annotations

import hmac
from typing import Final

from swarm.daemon.file_ranges import PATH, file_key
from swarm.daemon.http_messages import BadRequest, HttpRequest

OPEN_PATHS: Final = frozenset({"/", "/page.js", "/page.css", "/favicon.ico"})
"""What holds no secret and takes no token: the page asks for it."""
_BEARER: Final = "bearer "
_STRANGERS: Final = frozenset({"cross-site", "same-site"})


class TcpAccess:
    """The rules of one TCP port on loopback."""

    def __init__(self, port: int, token: str) -> None:
        names = ("127.0.0.1", "localhost", "[::1]")
        self._hosts = frozenset(f"{name}:{port}" for name in names)
        if port == 80:
            self._hosts |= frozenset(names)
        self._origins = frozenset(f"http://{host}" for host in self._hosts)
        self._token = token.encode("ascii")

    def _opens_file(self, request: HttpRequest) -> bool:
        found = PATH.fullmatch(request.path)
        if found is None or request.method not in {"GET", "HEAD"}:
            return False
        key = file_key(self._token.decode("ascii"), found[1], int(found[2]))
        return hmac.compare_digest(request.query.get("key", "").encode("utf-8", "replace"), key.encode())

    def check(self, request: HttpRequest) -> None:
        """Raise `BadRequest`: 403 for a wrong Host or Origin, 401 without the token."""
        headers = request.headers
        if headers.get("host", "").lower() not in self._hosts:
            raise BadRequest(403, "the Host is not this machine's own")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            raise BadRequest(403, "no other web site may ask this daemon")
        if request.path in OPEN_PATHS:
            return
        if headers.get("sec-fetch-site", "").lower() in _STRANGERS:
            raise BadRequest(403, "no other web site may ask this daemon")
        if self._opens_file(request):
            return
        given = headers.get("authorization", "")
        token = given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self._token):
            # Not where that is: this may be anybody on this machine.
            raise BadRequest(
                401,
                "the token is missing or wrong: it is in the file that 'swarm daemon' names beside its page",
            )
