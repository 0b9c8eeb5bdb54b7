"""The part of a node that publishes releases and looks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from swarm.config import NodeOptions, TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.link import MAX_LINK_MEETS, MAX_LINK_PEERS
from swarm.content.release import ReleaseRecord, Series
from swarm.content.series_link import SeriesLink
from swarm.lazy_dataclass import replace
from swarm.net.addresses import of_others, parse_peer_address
from swarm.node.opening import ContentOpener, FetchRequest, look_up, release_search
from swarm.node.release_content import check_title, named_release
from swarm.node.releases import Releases, ReleaseSearch
from swarm.node.updating import PatchDesk
from swarm.origin_url import OriginUrl
from swarm.storage.home_folder import swarm_home
from swarm.transfer.transfer import Transfer

if TYPE_CHECKING:
    from swarm.node.node import Node
    from swarm.node.publishing import PublishedRelease

WAITS_FOR_PEER: Final = "waiting for a peer: "
"""How the line begins that says why no answer comes."""
DEFAULT_KEEP: Final = 3
"""Earlier releases from which a publisher offers patches."""


Hear = Callable[[str], None]


class NodeReleases:
    """What `Node` can do with releases; the node fills in the attributes."""

    _options: NodeOptions
    _opener: ContentOpener
    _releases: Releases
    _patches: PatchDesk

    @property
    def addresses(self) -> tuple[str, ...]:
        """The dialable multiaddrs of this node, with ``/p2p/<id>``."""
        raise NotImplementedError

    async def release(
        self,
        name: str,
        path: str | Path,
        *,
        previous: Sequence[str | Path] = (),
        keep: int = DEFAULT_KEEP,
        options: TransferOptions | None = None,
    ) -> PublishedRelease:
        """Publish the file or folder ``path`` as the next release of the series ``name``, and seed it.

        Returns when the patches are made, from the ``previous`` versions and from the last ``keep`` releases
        that still stand unchanged. The same content again is the same release. docs/updates.md has the rules.
        Raises UsageError, ManifestError, DiskError, Locked if another process publishes the series.
        """
        from swarm.node.publishing import PublishRequest, publish

        options = options or TransferOptions()
        home = self._options.home or swarm_home()
        request = PublishRequest(name, Path(path), tuple(map(Path, previous)), keep, options)
        return await publish(cast("Node", self), self._opener, home, request)

    async def newest_release(
        self, link: str | SeriesLink, *, options: TransferOptions | None = None, hear: Hear | None = None
    ) -> ReleaseRecord:
        """Return the newest release of a series that this node hears of; nothing is fetched.

        Of the options, ``peers``, ``patience`` and those of origins count. ``hear`` is called with a line for
        each answer that is refused, and if no answer comes at first. Raises UsageError, ManifestError
        for what must be refused, NoPeerReachable, Incomplete when nobody knows of a release.
        """
        return (await self._releases.newest(self._search(link, options, hear))).record

    async def next_release(
        self,
        link: str | SeriesLink,
        after: int,
        *,
        options: TransferOptions | None = None,
        hear: Hear | None = None,
    ) -> ReleaseRecord:
        """Wait, for as long as it takes, for a release above number ``after``; as `newest_release`."""
        return (await self._releases.after(self._search(link, options, hear), after)).record

    async def release_manifest(
        self, link: SeriesLink, record: ReleaseRecord, *, options: TransferOptions
    ) -> Envelope:
        """Ask for the manifest of a release while the ``patience`` lasts; raises what `Node.inspect` does."""
        content = named_release(link, record.manifest, record.origins)
        request = FetchRequest.read(content, Path(), self._peers_of(options), options)
        envelope = await look_up(self._opener, request)
        check_title(link, envelope.manifest, options)
        return envelope

    async def passed_on(self, transfer: Transfer) -> None:
        """Wait until an update that is complete has passed its patch on to who needs it, or long enough.

        Returns at once for other transfers. docs/updates.md has the rule.
        """
        news = self._patches.passing.get(transfer.number)
        if news is not None:
            await news.passed_on()

    def known_release(self, series: Series) -> ReleaseRecord | None:
        """The newest release of a series that this node serves the record of; None if there is none."""
        release = self._releases.offered(series.id)
        return None if release is None else release.record

    def series_link(self, series: Series, origins: Sequence[OriginUrl] = ()) -> SeriesLink:
        """The link of a series with those of this node's addresses that others can reach."""
        peers = of_others(self.addresses)[:MAX_LINK_PEERS]
        return SeriesLink(series, peers, self._options.meet[:MAX_LINK_MEETS], tuple(origins))

    def _search(
        self, link: str | SeriesLink, options: TransferOptions | None, hear: Hear | None
    ) -> ReleaseSearch:
        link = SeriesLink.pasted(link) if isinstance(link, str) else link
        options = options or TransferOptions()
        request = FetchRequest(link, Path(), self._peers_of(options), frozenset(), options)
        search = release_search(self._opener, request, link, None)
        if hear is None:
            return search
        return replace(search, warn=hear, awaiting=lambda reason, _: hear(f"{WAITS_FOR_PEER}{reason}"))

    def _peers_of(self, options: TransferOptions) -> tuple[str, ...]:
        return tuple(str(parse_peer_address(text)) for text in options.peers)
