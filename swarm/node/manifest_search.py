"""Finding the manifest of an id: peers are asked side by side, again and again until one has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

import trio

from swarm.content.envelope import Envelope
from swarm.discovery.peer_sources import peers_of
from swarm.endpoint import Endpoint
from swarm.errors import Incomplete, LinkClosed, ManifestError, NoPeerReachable, RemoteError, UsageError
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import MANIFEST_PROTOCOL, Questions, ask_manifest
from swarm.ports import PeerSource
from swarm.transfer.give_up import REFUSED_SESSION, FailureReasons

MAX_ASKED_AT_ONCE: Final = 32
"""Peers that are asked for one manifest at the same time."""
MAX_ASKED: Final = 1024
"""Peers that are asked for one manifest at all: the sources of a program may name any number."""
FIRST_PAUSE: Final = 0.5
"""Seconds before a peer that did not give the manifest is asked again; doubled each time."""
LONGEST_PAUSE: Final = 4.0
TELL_AFTER: Final = 1.0
"""Seconds of waiting before the user is told of it: often the next peer has what the first has not."""

Awaiting = Callable[[str, float], None]
"""Told once, when the manifest is not there yet: why, and how many seconds more it is waited for."""


async def obtain(
    questions: Questions,
    what: Envelope | ManifestId,
    sources: Sequence[PeerSource],
    trusted: Collection[PeerId],
    patience: float,
    awaiting: Awaiting = lambda _reason, _seconds: None,
) -> Envelope:
    """Return the envelope to fetch: given, or asked for if only its id is known.

    With ``trusted`` it must be signed by one of these.

    Raises what `find_manifest` does.
    """
    if isinstance(what, ManifestId):
        return await find_manifest(questions, what, sources, trusted, patience, awaiting)
    if trusted:
        what.require_signer(trusted)
    return what


async def find_manifest(
    questions: Questions,
    manifest: ManifestId,
    sources: Sequence[PeerSource],
    trusted: Collection[PeerId] = (),
    patience: float = 0.0,
    awaiting: Awaiting = lambda _reason, _seconds: None,
) -> Envelope:
    """Ask all peers of ``sources`` side by side; the first right answer is taken.

    Those that cannot be reached or do not have it are asked again until ``patience`` seconds have passed;
    with 0 each is asked once. With ``trusted`` it must be signed by one of them. Raises UsageError without
    sources, NoPeerReachable when none could be asked, Incomplete when those asked do not have it,
    ManifestError when those that have it have no signature of the trusted.
    """
    if not sources:
        raise UsageError("an id alone names no peer to ask: add at least one peer")
    search = _Search(questions, manifest, frozenset(trusted), patience)
    with trio.move_on_after(patience or math.inf):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(search.ask_all, sources, nursery)
            if patience:
                nursery.start_soon(search.tell, awaiting)
    return search.result()


class _Search:
    """The results of asking each peer; the most telling kind of failure is raised."""

    def __init__(
        self, questions: Questions, manifest: ManifestId, trusted: frozenset[PeerId], patience: float
    ) -> None:
        self._questions = questions
        self._manifest = manifest
        self._trusted = trusted
        self._patience = patience
        self._ends_at = trio.current_time() + patience
        self._untrusted: ManifestError | None = None
        self._failures = FailureReasons(MAX_ASKED)
        self._reached = False
        self._failed = trio.Event()
        self._asked: set[PeerId] = set()
        self._limiter = trio.CapacityLimiter(MAX_ASKED_AT_ONCE)
        self.found: Envelope | None = None

    async def ask_all(self, sources: Sequence[PeerSource], nursery: trio.Nursery) -> None:
        """Ask every peer that the sources find; ends the search when no further answer can come."""
        async with trio.open_nursery() as asking:
            for source in sources:
                asking.start_soon(self._ask_found, source, asking)
        nursery.cancel_scope.cancel()

    async def tell(self, awaiting: Awaiting) -> None:
        """Say once what is waited for."""
        await trio.sleep(TELL_AFTER)
        await self._failed.wait()
        awaiting(self._failures.most_telling(), max(0.0, self._ends_at - trio.current_time()))

    async def _ask_found(self, source: PeerSource, asking: trio.Nursery) -> None:
        async for found in peers_of(source, self._manifest):
            where = [endpoint for text in found.addresses if (endpoint := Endpoint.read(text)) is not None]
            if where and found.peer not in self._asked and len(self._asked) < MAX_ASKED:
                self._asked.add(found.peer)
                asking.start_soon(self._ask, found.peer, where, asking)

    async def _ask(self, peer: PeerId, where: Sequence[Endpoint], asking: trio.Nursery) -> None:
        pause = FIRST_PAUSE
        while True:
            async with self._limiter:
                hopeful = await self._ask_once(peer, where)
            if self.found is not None:
                asking.cancel_scope.cancel()
                return
            self._failed.set()
            if not (hopeful and self._patience):
                return
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _ask_once(self, peer: PeerId, where: Sequence[Endpoint]) -> bool:
        """Ask one peer; says whether it may be worth while to ask it again later."""
        try:
            async with self._questions.ask(peer, where, MANIFEST_PROTOCOL) as stream:
                self._reached = True
                answer = await ask_manifest(stream, self._manifest)
            if answer is not None and self._trusted:
                answer.require_signer(self._trusted)
        except NoPeerReachable as error:
            self._failures.note(peer, str(error), error.telling)
            return not self._questions.is_banned(peer)
        except LinkClosed as error:
            self._failures.note(peer, str(error), REFUSED_SESSION)
        except RemoteError as error:
            self._failures.note(peer, str(error), REFUSED_SESSION)
            return False
        except ManifestError as error:
            # The signature is not part of the id: another peer may have a better one.
            self._untrusted = error
            self._failures.note(peer, str(error), REFUSED_SESSION)
            return False
        else:
            self.found = answer or self.found
            if answer is None:
                reason = (
                    f"{peer} does not have it, or serves only peers that its user allows: "
                    f"then ask for --allow {self._questions.me}, which is your peer id"
                )
                self._failures.note(peer, reason, REFUSED_SESSION)
        return True

    def result(self) -> Envelope:
        """The manifest; raises what says why there is none."""
        if self.found is not None:
            return self.found
        if self._untrusted is not None:
            raise self._untrusted
        reason = self._failures.most_telling()
        if self._reached:
            raise Incomplete(f"no peer that was asked gave the manifest {self._manifest}: {reason}")
        if reason:
            waited = f" in {self._patience:g} s" if self._patience else ""
            raise NoPeerReachable(f"no peer could be reached{waited}: {reason}; check the addresses")
        raise NoPeerReachable("no peer was found that could be asked; try again later")
