"""Getting a manifest by its id from whoever of the named peers has it."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from swarm.content.envelope import Envelope
from swarm.errors import Incomplete, LinkClosed, NoPeerReachable, RemoteError, UsageError
from swarm.ids import ManifestId, PeerId
from swarm.net.addresses import PeerAddress, by_peer
from swarm.net.host import Host
from swarm.node.catalogue import MANIFEST_PROTOCOL, ask_manifest


async def find_manifest(host: Host, manifest: ManifestId, peers: Sequence[PeerAddress]) -> Envelope:
    """Ask all ``peers`` side by side; the first right answer is taken.

    Raises UsageError without peers, NoPeerReachable when none could be asked, Incomplete when those
    asked do not have it.
    """
    if not peers:
        raise UsageError("an id alone names no peer to ask: add at least one peer")
    found: list[Envelope] = []
    failures: list[str] = []
    strangers: list[str] = []
    async with trio.open_nursery() as nursery:

        async def ask(peer: PeerId, where: Sequence[str]) -> None:
            try:
                answer = await _ask(host, manifest, peer, where)
            except NoPeerReachable as error:
                failures.append(str(error))
                return
            except (LinkClosed, RemoteError) as error:
                strangers.append(str(error))
                return
            if answer is None:
                strangers.append(f"{peer} does not have it")
                return
            found.append(answer)
            nursery.cancel_scope.cancel()

        for peer, where in by_peer(peers).items():
            nursery.start_soon(ask, peer, where)
    if found:
        return found[0]
    if strangers:
        raise Incomplete(f"no peer that was asked gave the manifest {manifest}: {strangers[-1]}")
    raise NoPeerReachable(f"no peer could be reached: {failures[-1]}; check the addresses")


async def _ask(host: Host, manifest: ManifestId, peer: PeerId, where: Sequence[str]) -> Envelope | None:
    await host.connect(peer, where)
    link = await host.open_link(peer, MANIFEST_PROTOCOL)
    try:
        return await ask_manifest(link, manifest)
    finally:
        await link.reset()
