"""Where the content of a ``.swarm`` file is to be had: peers, meeting points and web servers in one list.

The list is the field ``peers`` of the envelope. A meeting point is ``/meet`` and its multiaddr, a web server
is ``/origin/`` and its URL: versions before leave such an address out with a warning, and use the peers.
"""

from __future__ import annotations

from collections.abc import Sequence

from swarm.content.link import MAX_ADDRESS_BYTES, MAX_LINK_MEETS, MAX_LINK_PEERS
from swarm.content.paths import quoted
from swarm.errors import UsageError
from swarm.lazy_dataclass import dataclass
from swarm.origin_url import MAX_ORIGINS, OriginUrl

_MEET = "/meet"
_ORIGIN = "/origin/"


@dataclass(frozen=True, slots=True)
class Hints:
    """Peers and meeting points (multiaddrs with ``/p2p/<id>``), and web servers."""

    peers: tuple[str, ...] = ()
    meets: tuple[str, ...] = ()
    origins: tuple[OriginUrl, ...] = ()

    @classmethod
    def read(cls, texts: Sequence[str]) -> Hints:
        """Sort the texts; what is malformed is left among the peers, where it is told to be of no use."""
        peers: list[str] = []
        meets: dict[str, None] = {}
        origins: dict[OriginUrl, None] = {}
        for text in texts:
            origin = _origin(text) if text.startswith(_ORIGIN) else None
            if origin is not None and len(origins) < MAX_ORIGINS:
                origins[origin] = None
            elif text.startswith(f"{_MEET}/") and len(meets) < MAX_LINK_MEETS:
                meets[text.removeprefix(_MEET)] = None
            else:
                peers.append(text)
        return cls(tuple(peers), tuple(meets), tuple(origins))

    def texts(self) -> tuple[str, ...]:
        """The list, of at most `MAX_LINK_PEERS`: of the peers the first that there is room for.

        Web servers with secrets are left out, as in links that are shown, and those with long URLs.
        """
        origins = (f"{_ORIGIN}{each.revealed()}" for each in self.origins if not each.has_secrets)
        others = (*(_MEET + each for each in self.meets), *origins)
        fitting = [each for each in others if len(each) <= MAX_ADDRESS_BYTES][: MAX_LINK_PEERS - 1]
        return (*self.peers[: MAX_LINK_PEERS - len(fitting)], *fitting)


def shown_hint(text: str) -> str:
    """One of the texts, for a message: a stranger may have written it, and a web server's URL has secrets."""
    return f"'{_ORIGIN}…'" if text.startswith(_ORIGIN) else quoted(text)


def _origin(text: str) -> OriginUrl | None:
    try:
        return OriginUrl(text.removeprefix(_ORIGIN))
    except UsageError:
        return None
