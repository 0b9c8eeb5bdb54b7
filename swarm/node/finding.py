"""Getting a manifest by its id from whoever of the named peers has it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from swarm.content.envelope import Envelope
from swarm.errors import Incomplete, LinkClosed, ManifestError, NoPeerReachable, RemoteError, UsageError
from swarm.ids import ManifestId, PeerId
from swarm.net.addresses import PeerAddress, by_peer
from swarm.net.host import Host
from swarm.node.catalogue import MANIFEST_PROTOCOL, ask_manifest


async def obtain(
    host: Host, what: Envelope | ManifestId, peers: Sequence[PeerAddress], trusted: Collection[PeerId]
) -> Envelope:
    """What is to be fetched, asked for if only its id is known, and signed by one of ``trusted`` if any.

    Raises what `find_manifest` does.
    """
    if isinstance(what, ManifestId):
        return await find_manifest(host, what, peers, trusted)
    if trusted:
        what.require_signer(trusted)
    return what


async def find_manifest(
    host: Host, manifest: ManifestId, peers: Sequence[PeerAddress], trusted: Collection[PeerId] = ()
) -> Envelope:
    """Ask all ``peers`` side by side; the first right answer is taken.

    With ``trusted`` it must be signed by one of them. Raises UsageError without peers,
    NoPeerReachable when none could be asked, Incomplete when those asked do not have it,
    ManifestError when those that have it have no signature of the trusted.
    """
    if not peers:
        raise UsageError("an id alone names no peer to ask: add at least one peer")
    search = _Search(manifest, frozenset(trusted))
    async with trio.open_nursery() as nursery:

        async def ask(peer: PeerId, where: Sequence[str]) -> None:
            await search.ask(host, peer, where)
            if search.found is not None:
                nursery.cancel_scope.cancel()

        for peer, where in by_peer(peers).items():
            nursery.start_soon(ask, peer, where)
    return search.result()


class _Search:
    """What became of asking each peer, the most telling kind of failure first."""

    def __init__(self, manifest: ManifestId, trusted: frozenset[PeerId]) -> None:
        self._manifest = manifest
        self._trusted = trusted
        self._untrusted: list[ManifestError] = []
        self._refusals: list[str] = []
        self._unreachable: list[str] = []
        self.found: Envelope | None = None

    async def ask(self, host: Host, peer: PeerId, where: Sequence[str]) -> None:
        """Ask one peer; sets ``found`` if it has what is wanted."""
        try:
            answer = await _ask(host, self._manifest, peer, where)
            if answer is not None and self._trusted:
                answer.require_signer(self._trusted)
        except NoPeerReachable as error:
            self._unreachable.append(str(error))
        except (LinkClosed, RemoteError) as error:
            self._refusals.append(str(error))
        except ManifestError as error:
            # The signature is not part of the id: another peer may have a better one.
            self._untrusted.append(error)
        else:
            self.found = answer or self.found
            if answer is None:
                self._refusals.append(f"{peer} does not have it or does not serve you")

    def result(self) -> Envelope:
        """The manifest; raises what says why there is none."""
        if self.found is not None:
            return self.found
        if self._untrusted:
            raise self._untrusted[0]
        if self._refusals:
            raise Incomplete(
                f"no peer that was asked gave the manifest {self._manifest}: {self._refusals[-1]}"
            )
        raise NoPeerReachable(f"no peer could be reached: {self._unreachable[-1]}; check the addresses")


async def _ask(host: Host, manifest: ManifestId, peer: PeerId, where: Sequence[str]) -> Envelope | None:
    await host.connect(peer, where)
    link = await host.open_link(peer, MANIFEST_PROTOCOL)
    try:
        return await ask_manifest(link, manifest)
    finally:
        await link.reset()
