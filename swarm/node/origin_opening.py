"""Origins of a transfer as `swarm.node.opening` needs them; imported only where there are some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from swarm.config import TransferOptions
from swarm.content.envelope import Envelope
from swarm.content.release import Series, SignedRelease
from swarm.errors import Incomplete, SwarmError
from swarm.ids import ManifestId, SourceId
from swarm.origin_url import OriginUrl
from swarm.sources.origin_manifest import ManifestFault, manifest_of, release_of
from swarm.sources.origin_source import OriginSettings, OriginSource

AGAIN_SECONDS = 4.0
"""How soon an origin that did not give the manifest is asked again."""


def settings_of(options: TransferOptions, connections: trio.CapacityLimiter) -> OriginSettings:
    """What all origins of a transfer have in common."""
    return OriginSettings(connections, options.origin_ca, options.origin_public_only)


def origin_sources(urls: Sequence[OriginUrl], settings: OriginSettings) -> tuple[OriginSource, ...]:
    """One source for each URL."""
    taken: tuple[SourceId, ...] = ()
    sources: list[OriginSource] = []
    for url in urls:
        sources.append(OriginSource(url, settings, taken))
        taken = (*taken, sources[-1].id)
    return tuple(sources)


def release_asks(
    urls: Sequence[OriginUrl], series: Series, settings: OriginSettings
) -> tuple[Callable[[], Awaitable[SignedRelease]], ...]:
    """One function for each URL, which asks it for the newest release record of a series.

    They raise Incomplete when it gives none, ManifestError when what it gives must be refused.
    """
    return tuple(partial(_ask_for_release, url, series, settings) for url in urls)


async def _ask_for_release(url: OriginUrl, series: Series, settings: OriginSettings) -> SignedRelease:
    try:
        return await release_of(url, series, settings)
    except ManifestFault as fault:
        raise Incomplete(f"origin {url}: {fault}") from None


async def obtain_from_origins(
    urls: Sequence[OriginUrl],
    name: str | None,
    manifest: ManifestId,
    settings: OriginSettings,
    patience: float,
    otherwise: Callable[[], Awaitable[Envelope]] | None,
) -> Envelope:
    """The manifest from whoever gives it first: an origin, or ``otherwise``, which asks peers.

    Raises what ``otherwise`` raises, or Incomplete without it, once the origins had their ``patience``; with
    0 each is asked once.
    """
    search = _OriginSearch(manifest, name, settings, once=not patience)
    failure: SwarmError | None = None
    async with trio.open_nursery() as nursery:
        if patience:
            nursery.cancel_scope.deadline = trio.current_time() + patience
        for url in urls:
            nursery.start_soon(search.ask, url, nursery.cancel_scope)
        if otherwise is not None:
            try:
                search.found = await otherwise()
            except SwarmError as error:
                failure = error
            if search.found is not None:
                nursery.cancel_scope.cancel()
    if search.found is not None:
        return search.found
    reason = "; ".join(f"origin {url}: {why}" for url, why in search.reasons.items())
    if failure is not None:
        raise type(failure)(f"{failure}; {reason}") if reason else failure
    raise Incomplete(f"the manifest could not be had: {reason or 'nobody answered in time'}")


class _OriginSearch:
    def __init__(
        self, manifest: ManifestId, name: str | None, settings: OriginSettings, *, once: bool
    ) -> None:
        self._manifest = manifest
        self._name = name
        self._settings = settings
        self._once = once
        self.found: Envelope | None = None
        self.reasons: dict[OriginUrl, str] = {}

    async def ask(self, url: OriginUrl, scope: trio.CancelScope) -> None:
        """Ask one origin, again and again unless once will do, until the scope ends."""
        while True:
            try:
                self.found = await manifest_of(url, self._name, self._manifest, self._settings)
            except ManifestFault as fault:
                self.reasons[url] = str(fault)
            else:
                scope.cancel()
                return
            if self._once:
                return
            await trio.sleep(AGAIN_SECONDS)
