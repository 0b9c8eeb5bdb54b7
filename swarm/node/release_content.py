"""A release of a series as content that is fetched: where it is asked for, and under which name it stands."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.manifest import Manifest
from swarm.content.paths import printable
from swarm.content.series_link import SeriesLink
from swarm.errors import ManifestError
from swarm.ids import ManifestId
from swarm.lazy_dataclass import dataclass
from swarm.origin_url import MAX_ORIGINS, OriginUrl
from swarm.storage.manifest_files import NamedContent


@dataclass(frozen=True, slots=True)
class KnownRelease:
    """A release of a series whose manifest is known: it is opened without asking anybody for either."""

    link: SeriesLink
    envelope: Envelope


def named_release(
    link: SeriesLink, manifest: Envelope | ManifestId, origins: Sequence[OriginUrl]
) -> NamedContent:
    """A release as content: with what the link of its series names, and the ``origins`` of its record."""
    return NamedContent(
        manifest,
        link.peers,
        linked=True,
        meets=link.meets,
        origins=tuple(dict.fromkeys((*link.origins, *origins)))[:MAX_ORIGINS],
        name=link.series.name,
    )


def check_title(content: SeriesLink | KnownRelease, manifest: Manifest, options: TransferOptions) -> None:
    """Raise ManifestError for a release that is not called as its series, unless the user gives a name.

    Each release takes the place of the one before. A publisher who could name another place would have what
    the user shares there replaced.
    """
    series = (content.link if isinstance(content, KnownRelease) else content).series
    if options.name is None and manifest.name != series.title_of(None if manifest.folder else manifest.name):
        raise ManifestError(
            f"the release of {series.name} is called {printable(manifest.name)}, and would be put in another "
            "place than the one before: refused; with a final name of yours (--name) it can be had"
        )
