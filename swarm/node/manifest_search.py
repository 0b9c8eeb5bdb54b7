"""Finding the manifest of an id: peers are asked side by side, again and again until one has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

import trio

from swarm.content.envelope import Envelope, ForgedEnvelope, require_signer
from swarm.discovery.peer_sources import peers_of
from swarm.endpoint import Route, read_route
from swarm.errors import (
    DiskError,
    Incomplete,
    LinkClosed,
    ManifestError,
    NoPeerReachable,
    RemoteError,
    UsageError,
)
from swarm.ids import ManifestId, PeerId
from swarm.node.catalogue import (
    MANIFEST_PROTOCOL,
    PARTS_PROTOCOL,
    Questions,
    ask_manifest,
    ask_outline,
    ask_part,
)
from swarm.node.manifest_assembly import MAX_ASSEMBLIES, Assembly
from swarm.node.whereabouts import Whereabouts
from swarm.ports import ByteStream, FoundPeer, PeerSource
from swarm.protocol.outline import Outline
from swarm.strategy.peer_book import NAMED
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
UNTRUSTED_SECONDS: Final = 3.0
"""How long strangers are waited for when every peer that the user named has an untrusted signature alone."""

Awaiting = Callable[[str, float], None]
"""Told once, when the manifest is not there yet: why, and how many seconds more it is waited for."""
Finding = Callable[[FoundPeer, str], None]
"""Told of each peer that will be asked, with the provenance of the source that found it first."""
NOBODY_YET = "nobody has been found that could be asked"
NO_ANSWER_YET = "no answer yet"


async def obtain(
    questions: Questions,
    what: Envelope | ManifestId,
    sources: Sequence[PeerSource],
    trusted: Collection[PeerId],
    patience: float,
    awaiting: Awaiting = lambda _reason, _seconds: None,
    *,
    finding: Finding = lambda _found, _provenance: None,
) -> Envelope:
    """Return the envelope to fetch: given, or asked for if only its id is known.

    With ``trusted`` it must be signed by one of these.

    Raises what `find_manifest` does.
    """
    if isinstance(what, ManifestId):
        return await find_manifest(questions, what, sources, trusted, patience, awaiting, finding=finding)
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
    *,
    finding: Finding = lambda _found, _provenance: None,
) -> Envelope:
    """Ask all peers of ``sources`` side by side; the first right answer is taken.

    Those that cannot be reached or do not have it are asked again until ``patience`` seconds have passed;
    with 0 each is asked once, and again only at an address that is named later. With ``trusted`` it must be
    signed by one of them. Raises UsageError without sources, NoPeerReachable when none could be asked,
    Incomplete when those asked do not have it, ManifestError when those that have it have no signature of
    the trusted.
    """
    if not sources:
        raise UsageError("an id alone names no peer to ask: add at least one peer")
    search = _Search(questions, manifest, frozenset(trusted), patience, finding)
    try:
        with search.waiting:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(search.ask_all, sources, nursery)
                if patience:
                    nursery.start_soon(search.tell, awaiting)
    finally:
        await search.aclose()
    return search.result()


class _NotTrusted(Exception):
    """The manifest of this peer has no signature of somebody who is trusted."""


class _Search:
    """The results of asking each peer; the most telling kind of failure is raised."""

    def __init__(
        self,
        questions: Questions,
        manifest: ManifestId,
        trusted: frozenset[PeerId],
        patience: float,
        finding: Finding,
    ) -> None:
        self._questions = questions
        self._manifest = manifest
        self._trusted = trusted
        self._patience = patience
        self._finding = finding
        self._assemblies: dict[tuple[int, bytes], Assembly] = {}
        self._invalid: ManifestError | DiskError | None = None
        self.waiting = trio.CancelScope(deadline=trio.current_time() + (patience or math.inf))
        """Ends with the patience, which begins anew whenever a part is verified."""
        self._patient_until = self.waiting.deadline
        self._untrusted: dict[PeerId, ManifestError] = {}
        self._failures = FailureReasons(MAX_ASKED)
        self._reached: set[PeerId] = set()
        self._failed = trio.lowlevel.ParkingLot()
        self._asked: dict[PeerId, Whereabouts] = {}
        self._done: set[PeerId] = set()
        """Those that are asked again only if somebody names another address of theirs."""
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
        while self._asked and not self._failures.most_telling():
            await self._failed.park()
        if not self._assemblies:
            left = self.waiting.deadline - trio.current_time()
            awaiting(self._failures.most_telling() or NOBODY_YET, max(0.0, left))

    async def _ask_found(self, source: PeerSource, asking: trio.Nursery) -> None:
        async for found in peers_of(source, self._manifest):
            where = [endpoint for text in found.addresses if (endpoint := read_route(text)) is not None]
            if source.provenance == NAMED:
                self._failures.name(found.peer)
            known = self._asked.get(found.peer)
            if known is not None:
                known.learn(where)
                if found.peer in self._done and known.news.is_set():
                    self._done.discard(found.peer)
                    asking.start_soon(self._ask, found.peer, known, asking)
            elif where and len(self._asked) < MAX_ASKED:
                self._finding(found, source.provenance)
                self._asked[found.peer] = whereabouts = Whereabouts(where)
                asking.start_soon(self._ask, found.peer, whereabouts, asking)

    async def _ask(self, peer: PeerId, where: Whereabouts, asking: trio.Nursery) -> None:
        pause = FIRST_PAUSE
        while True:
            where.news = trio.Event()
            async with self._limiter:
                hopeful = await self._ask_once(peer, where.endpoints)
            if self.found is not None or self._invalid is not None:
                asking.cancel_scope.cancel()
                return
            self._failed.unpark_all()
            if not hopeful:
                return
            if not (self._patience or where.news.is_set()):
                self._done.add(peer)
                return
            # What another source says of the peer is tried at once.
            with trio.move_on_after(pause):
                await where.news.wait()
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _ask_once(self, peer: PeerId, where: Sequence[Route]) -> bool:
        """Ask one peer; says whether it may be worth while to ask it again later."""
        try:
            answer = await self._answer_of(peer, where)
        except NoPeerReachable as error:
            self._failures.note(peer, str(error), error.telling)
            return not self._questions.is_banned(peer)
        except LinkClosed as error:
            self._failures.note(peer, str(error), REFUSED_SESSION)
        except (RemoteError, ForgedEnvelope) as error:
            self._failures.note(peer, str(error), REFUSED_SESSION)
            self._questions.ban(peer)
            return False
        except _NotTrusted as error:
            # The signature is not part of the id: another peer may have a better one.
            self._untrusted[peer] = ManifestError(str(error))
            self._failures.note(peer, str(error), REFUSED_SESSION)
            self._end_soon_perhaps()
            return False
        except (ManifestError, DiskError) as error:
            # The right bytes, and no valid manifest: nobody can have a better one.
            self._invalid = error
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

    async def _answer_of(self, peer: PeerId, where: Sequence[Route]) -> Envelope | None:
        spoken = False
        try:
            async with self._questions.ask(peer, where, PARTS_PROTOCOL) as stream:
                spoken = True
                self._reached.add(peer)
                return await self._from_parts(peer, stream)
        except LinkClosed:
            if spoken:
                raise
        # An older peer.
        async with self._questions.ask(peer, where, MANIFEST_PROTOCOL) as stream:
            self._reached.add(peer)
            answer = await ask_manifest(stream, self._manifest)
        if answer is not None:
            self._require_trusted(answer.signer)
        return answer

    async def _from_parts(self, peer: PeerId, stream: ByteStream) -> Envelope | None:
        outline = await ask_outline(stream, self._manifest)
        if outline is None:
            return None
        self._require_trusted(None if outline.signature is None else outline.signature.peer_id)
        assembly = await self._assembly_of(outline)
        with assembly.claimed_by(peer):
            return await self._put_together(assembly, outline, stream)

    async def _put_together(self, assembly: Assembly, outline: Outline, stream: ByteStream) -> Envelope:
        """Ask one peer for parts until all are there."""
        await assembly.open()
        while (part := await assembly.next_part()) is not None:
            with assembly.asking(part):
                await assembly.put(part, await ask_part(stream, outline, part))
        if assembly.lacks_times(outline):
            with suppress(LinkClosed):
                parts = [await ask_part(stream, outline, part) for part in outline.time_parts]
                assembly.put_times(b"".join(parts))
        try:
            return await assembly.envelope(outline.signature)
        except RemoteError:
            # All who gave this outline lied: each part was what they promised.
            for claimant in assembly.claimants:
                self._questions.ban(claimant)
            self._assemblies.pop((outline.size, outline.hashes), None)
            raise

    async def _assembly_of(self, outline: Outline) -> Assembly:
        key = outline.size, outline.hashes
        if key not in self._assemblies:
            if len(self._assemblies) >= MAX_ASSEMBLIES:
                await self._make_room()
            # One that may be trusted is waited for in full.
            self.waiting.deadline = self._patient_until
            self._assemblies[key] = Assembly(self._manifest, outline, self._questions.kept, self._advanced)
        return self._assemblies[key]

    async def _make_room(self) -> None:
        """Leave an outline whose peers are gone; raises LinkClosed if there is none."""
        idle = next((key for key, each in self._assemblies.items() if not each.is_worked_on), None)
        if idle is None:
            raise LinkClosed("peers say different things of the manifest: this one waits for its turn")
        await self._assemblies.pop(idle).aclose()

    def _advanced(self) -> None:
        if self._patience:
            self._patient_until = self.waiting.deadline = trio.current_time() + self._patience

    def _end_soon_perhaps(self) -> None:
        """Whom the user named has no good signature: they do not change, so it is said soon."""
        named = self._failures.named
        if named and named <= self._untrusted.keys() and not self._assemblies:
            self.waiting.deadline = min(self.waiting.deadline, trio.current_time() + UNTRUSTED_SECONDS)

    def _require_trusted(self, signer: PeerId | None) -> None:
        if self._trusted:
            try:
                require_signer(signer, self._trusted)
            except ManifestError as error:
                raise _NotTrusted(str(error)) from error

    async def aclose(self) -> None:
        """Keep the parts that are here for a later run."""
        for assembly in self._assemblies.values():
            await assembly.aclose()

    def result(self) -> Envelope:
        """The manifest; raises what says why there is none."""
        if self.found is not None:
            return self.found
        if self._invalid is not None:
            raise self._invalid
        counting = self._failures.who_counts(self._untrusted.keys())
        for peer, untrusted in self._untrusted.items():
            if peer in counting:
                raise untrusted
        reason = self._failures.most_telling() or (NO_ANSWER_YET if self._failures.named else "")
        if self._assemblies or self._failures.who_counts(self._reached):
            raise Incomplete(f"no peer that was asked gave the manifest {self._manifest}: {reason}")
        if reason:
            waited = f" in {self._patience:g} s" if self._patience else ""
            raise NoPeerReachable(f"no peer could be reached{waited}: {reason}; check the addresses")
        looked = f" in {self._patience:g} s" if self._patience else ""
        raise NoPeerReachable(
            f"nobody was found{looked} who could be asked for {self._manifest}: "
            "name a peer (who shares it sees its address), or try again later"
        )
