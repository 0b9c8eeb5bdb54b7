"""Release records of a node: those that it serves, and asking peers and web servers for the newest.

Peers answer over ``/swarm/release/1.0.0``, at once or when there is something newer (docs/protocol.md).
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from swarm.content.release import MAX_RECORD_BYTES, ForgedRelease, Series, SeriesId, SignedRelease
from swarm.discovery.peer_sources import announce_to, peers_of, tell
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
from swarm.lazy_dataclass import dataclass
from swarm.node.catalogue import Questions
from swarm.node.manifest_search import NO_ANSWER_YET, NOBODY_YET, TELL_AFTER, Awaiting
from swarm.node.whereabouts import Whereabouts
from swarm.ports import Announcement, ByteStream, PeerSource
from swarm.protocol import protocol_limits as limits
from swarm.protocol.advert import LENGTH_BYTES, decode_length, encode_length
from swarm.protocol.release_question import (
    MAX_WAIT_SECONDS,
    QUESTION_BYTES,
    ReleaseQuestion,
    decode_question,
    encode_question,
)
from swarm.storage.release_files import ReleaseFiles, TwoReleases, check_succession
from swarm.strategy.peer_book import NAMED
from swarm.transfer.give_up import REFUSED_SESSION, FailureReasons

if TYPE_CHECKING:
    from swarm.transfer.services import OwnAddresses

RELEASE_PROTOCOL: Final = "/swarm/release/1.0.0"
MAX_SERIES: Final = 1024
"""Series that one node serves the records of; the oldest is forgotten first."""
MAX_WAITING: Final = 256
"""Questions that wait for news at the same time; more are answered at once."""
MAX_ASKED_FOR_RELEASE: Final = 256
"""Peers that are asked for one record."""
ASKED_AT_ONCE: Final = 32
ANSWERED_SECONDS: Final = 2.0
"""How long others that are asked are waited for once one has answered: a newer record may be among them."""
FOUND_SECONDS: Final = 0.3
"""How long it is waited for others to be found once all that are asked have answered."""
KNOWN_SECONDS: Final = 10.0
"""How long an answer is waited for if a record is here from an earlier time."""
ORIGIN: Final = "origin"
"""As whom web servers are noted; the user, or who made the link, named them."""
FIRST_AGAIN: Final = 0.5
LONGEST_AGAIN: Final = 10.0
"""Seconds before a peer that did not help is asked again; doubled each time."""

Warn = Callable[[str], None]
AskOrigin = Callable[[], Awaitable[SignedRelease]]
"""Asks one web server for the record; raises SwarmError."""


@dataclass(frozen=True, slots=True)
class ReleaseSearch:
    """Which series, whom to ask, and how: all that `Releases.newest` and `Releases.after` need.

    ``patience`` is in seconds. ``warn`` is called with a line for each refused answer. ``awaiting`` is called
    once if no answer comes at first, with the reason and the seconds that are left.
    """

    series: Series
    sources: Sequence[PeerSource]
    patience: float
    warn: Warn
    origins: Sequence[AskOrigin] = ()
    awaiting: Awaiting = lambda _reason, _seconds: None


class Releases:
    """Serves the records that this node has, and asks for those of others.

    ``addresses`` are told to the sources of peers, so that who looks for a series finds this node.
    """

    def __init__(
        self,
        questions: Questions,
        files: ReleaseFiles,
        addresses: OwnAddresses,
        peer_sources: Callable[[], Sequence[PeerSource]],
        rng: random.Random,
    ) -> None:
        self._questions = questions
        self._files = files
        self._addresses = addresses
        self._move = addresses.next_change
        self._peer_sources = peer_sources
        self._rng = rng
        self._offered: dict[SeriesId, SignedRelease] = {}
        self._news: dict[SeriesId, trio.Event] = {}
        self._locks: dict[SeriesId, int] = {}
        """The descriptors of the series that are published here."""
        self._waiting = 0

    # --- Serving ------------------------------------------------------------------------------------

    def offered(self, series: SeriesId) -> SignedRelease | None:
        """The record that is served, if any."""
        return self._offered.get(series)

    def offer(self, release: SignedRelease) -> None:
        """Serve a record from now on, and tell everybody who waits for one."""
        series = release.record.series.id
        before = self._offered.pop(series, None)
        if before is not None and before.record.sequence > release.record.sequence:
            release = before
        self._offered[series] = release
        if len(self._offered) > MAX_SERIES:
            self._withdraw(next(iter(self._offered)))
        if before != release:
            self._news.pop(series, trio.Event()).set()
        self._announce(series)

    def _announce(self, series: SeriesId) -> None:
        announcement = Announcement(_place_of(series), self._addresses.now, complete=True)
        for source in self._peer_sources():
            announce_to(source, announcement)

    async def announce_moves(self) -> None:
        """Announce what is served again after each change of this node's addresses, until cancelled.

        A meeting point has one record for each peer: old addresses of one series would hide the new ones of
        all that the node shares.
        """
        while True:
            await self._move.wait()
            self._move = self._addresses.next_change
            for series in tuple(self._offered):
                self._announce(series)

    async def publish_alone(self, series: Series, lock: Callable[[], int]) -> None:
        """Hold the lock of a series that is published until this node closes; raises what ``lock`` raises."""
        if series.id not in self._locks:
            self._locks[series.id] = await trio.to_thread.run_sync(lock)

    def close(self) -> None:
        """Serve nothing any more."""
        while self._locks:
            os.close(self._locks.popitem()[1])
        for series in tuple(self._offered):
            self._withdraw(series)

    def _withdraw(self, series: SeriesId) -> None:
        del self._offered[series]
        for source in self._peer_sources():
            tell(source, lambda source: source.withdraw(_place_of(series)))

    async def answer(self, stream: ByteStream) -> None:
        """Answer one question: a newer record, at once or as soon as there is one in the time that it allows.

        Raises RemoteError for a malformed question, LinkClosed when the peer falls silent.
        """
        question = decode_question(await _in_time(stream.read_exactly(QUESTION_BYTES)))
        if self._newer(question) is None and question.series in self._offered:
            await self._wait_for_news(stream, question)
        newer = self._newer(question)
        body = b"" if newer is None else newer.to_bytes()
        await _in_time(stream.write(encode_length(len(body)), body))

    def _newer(self, question: ReleaseQuestion) -> SignedRelease | None:
        release = self._offered.get(question.series)
        return release if release is not None and release.record.sequence > question.known else None

    async def _wait_for_news(self, stream: ByteStream, question: ReleaseQuestion) -> None:
        if not question.seconds or self._waiting >= MAX_WAITING:
            return
        self._waiting += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + question.seconds
                nursery.start_soon(_until_hung_up, stream, nursery.cancel_scope)
                while self._newer(question) is None:
                    await self._news.setdefault(question.series, trio.Event()).wait()
                nursery.cancel_scope.cancel()
        finally:
            self._waiting -= 1

    # --- Asking -------------------------------------------------------------------------------------

    async def newest(self, search: ReleaseSearch) -> SignedRelease:
        """Ask everybody who is found; return the newest record, which is kept and served from now on.

        What was seen before counts, too. Raises UsageError when nobody can be asked, NoPeerReachable,
        Incomplete when nobody knows of a release, ManifestError when what there is must be refused.
        """
        kept = await self.known(search.series)
        if not search.sources and not search.origins:
            raise UsageError(
                "the link of the series names no peer to ask: if a shell cut it at '&', put quotes around it"
            )
        known = 0 if kept is None else kept.record.sequence
        # One less: a peer that has the same number tells whether it is the same release.
        asking = _Asking(self._questions, search, max(0, known - 1), self._rng)
        patience = search.patience if kept is None else min(search.patience or KNOWN_SECONDS, KNOWN_SECONDS)
        await asking.run(patience=patience, enough=kept is not None)
        found = _newest_of(asking.found)
        # Without any record, the last of them is the error.
        for line in asking.refusals if found or kept else asking.refusals[:-1]:
            search.warn(line)
        if kept is not None and (found is None or found.record.sequence < known):
            if found is None:
                search.warn(f"nobody told of a release of {search.series.name}: going on with number {known}")
            found = kept
        if found is None:
            raise asking.error()
        await self.accept(found, search.warn)
        return found

    async def after(self, search: ReleaseSearch, known: int) -> SignedRelease:
        """Wait for a release above number ``known``, for as long as that takes; it is kept and served."""
        while True:
            asking = _Asking(self._questions, search, known, self._rng)
            await asking.run(seconds=MAX_WAIT_SECONDS)
            found = _newest_of(asking.found)
            if found is not None:
                await self.accept(found, search.warn)
                return found
            # Nobody to ask: a source of peers may find somebody later.
            await trio.sleep(LONGEST_AGAIN)

    async def accept(self, release: SignedRelease, warn: Warn) -> None:
        """Keep and serve a record; raises ManifestError when an earlier one forbids that.

        A disk that refuses costs only that a later process does not know of it.
        """
        check_succession(self._offered.get(release.record.series.id), release)
        try:
            await trio.to_thread.run_sync(self._files.keep, release)
        except DiskError as error:
            warn(f"{error}: an older release would not be recognized the next time")
        self.offer(release)

    async def offer_known(self, series: Series) -> SignedRelease | None:
        """Serve the newest record that this home has seen; returns it, None if there is none."""
        release = await self.known(series)
        if release is not None:
            self.offer(release)
        return release

    async def known(self, series: Series) -> SignedRelease | None:
        """The newest record that this home has seen."""
        kept = await trio.to_thread.run_sync(self._files.find, series.id)
        here = self._offered.get(series.id)
        if here is not None and (kept is None or kept.record.sequence < here.record.sequence):
            return here
        return kept


class _Asking:
    """One round of questions to everybody who is found, for a release above number ``known``."""

    def __init__(self, questions: Questions, search: ReleaseSearch, known: int, rng: random.Random) -> None:
        self._questions = questions
        self._search = search
        self._known = known
        self._rng = rng
        self._seconds = 0
        self._enough = self._answered = False
        self._asked: dict[PeerId, Whereabouts] = {}
        self._open = 0
        self._limiter = trio.CapacityLimiter(MAX_ASKED_FOR_RELEASE)
        self._failures = FailureReasons(MAX_ASKED_FOR_RELEASE)
        self._reached: set[PeerId] = set()
        self._refused: ManifestError | None = None
        self.refusals: list[str] = []
        """What was refused, and nobody was told of yet."""
        self._scope = trio.CancelScope()
        self.found: list[SignedRelease] = []

    async def run(self, *, seconds: int = 0, patience: float = 0.0, enough: bool = False) -> None:
        """Ask until a moment after the first record; without one until ``patience`` is over, 0 for ever.

        Each peer may take ``seconds`` to answer. ``enough``: an answer that there is nothing newer will do.
        """
        self._seconds, self._enough = seconds, enough
        if not seconds:
            # Questions that wait take no place.
            self._limiter.total_tokens = ASKED_AT_ONCE
        if patience:
            self._scope.deadline = trio.current_time() + patience
        with self._scope:
            async with trio.open_nursery() as telling:
                if patience:
                    telling.start_soon(self._tell_awaited)
                async with trio.open_nursery() as nursery:
                    for ask in self._search.origins:
                        nursery.start_soon(self._ask_origin, ask)
                    for source in self._search.sources:
                        nursery.start_soon(self._ask_found, source, nursery)
                telling.cancel_scope.cancel()

    async def _ask_found(self, source: PeerSource, nursery: trio.Nursery) -> None:
        async for found in peers_of(source, _place_of(self._search.series.id)):
            if source.provenance == NAMED:
                self._failures.name(found.peer)
            where = [route for text in found.addresses if (route := read_route(text)) is not None]
            known = self._asked.get(found.peer)
            if known is not None:
                known.learn(where)
            elif where and found.peer != self._questions.me and len(self._asked) < MAX_ASKED_FOR_RELEASE:
                self._asked[found.peer] = whereabouts = Whereabouts(where)
                nursery.start_soon(self._ask, found.peer, whereabouts)

    async def _ask(self, peer: PeerId, where: Whereabouts) -> None:
        pause = FIRST_AGAIN
        while True:
            began = trio.current_time()
            self._open += 1
            async with self._limiter:
                where.news = trio.Event()
                hopeful = await self._ask_once(peer, where.endpoints)
            self._open -= 1
            if self.found or self._answered:
                self._end_soon()
            if not hopeful or (self.found and not self._seconds):
                return
            if self._seconds and trio.current_time() - began >= self._seconds:
                # It has waited with this node.
                pause = FIRST_AGAIN
                continue
            # What another source says of the peer, or that it has moved, is tried at once.
            with trio.move_on_after(pause * self._rng.uniform(0.75, 1.25)):
                await where.news.wait()
            pause = min(2 * pause, LONGEST_AGAIN)

    def _end_soon(self) -> None:
        """An answer is here: whoever was asked at the same time has a moment more."""
        seconds = ANSWERED_SECONDS if self._open else FOUND_SECONDS
        seconds = 0.0 if self._seconds else seconds
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    async def _ask_once(self, peer: PeerId, where: Sequence[Route]) -> bool:
        """Ask one peer; says whether it may be worth while to ask it again."""
        question = ReleaseQuestion(self._search.series.id, self._known, self._seconds)
        try:
            async with self._questions.ask(peer, where, RELEASE_PROTOCOL) as stream:
                self._reached.add(peer)
                data = await _answer_to(stream, question)
            if not data:
                reason = f"{peer} knows of no release of {self._search.series.name}"
                self._failures.note(peer, reason, REFUSED_SESSION)
                self._answered = self._enough
                return not self._enough
            self.found.append(self._newer(SignedRelease.from_bytes(data, self._search.series)))
        except NoPeerReachable as error:
            self._failures.note(peer, str(error), error.telling)
            return not self._questions.is_banned(peer)
        except LinkClosed as error:
            self._failures.note(peer, str(error), REFUSED_SESSION)
            return True
        except (RemoteError, ForgedRelease) as error:
            self._refuse(peer, error)
            return False
        except ManifestError as error:
            # Signed by the publisher: nobody else is to blame.
            self._refused = error
            return False
        return False

    def _newer(self, release: SignedRelease) -> SignedRelease:
        number = release.record.sequence
        if number <= self._known:
            raise ForgedRelease(f"it is release {number}, and one above {self._known} was asked for")
        return release

    def _refuse(self, peer: PeerId, error: RemoteError | ForgedRelease) -> None:
        reason = f"the release record from {peer} is refused: {error}"
        self._tell_refused(reason)
        self._refused = ManifestError(reason)
        self._questions.ban(peer)

    def _tell_refused(self, reason: str) -> None:
        if self._seconds:
            # This may go on for days.
            self._search.warn(reason)
        else:
            self.refusals.append(reason)

    async def _tell_awaited(self) -> None:
        await trio.sleep(TELL_AFTER)
        left = self._scope.deadline - trio.current_time()
        nothing = NO_ANSWER_YET if self._failures.named else NOBODY_YET
        self._search.awaiting(self._failures.most_telling() or nothing, max(0.0, left))

    async def _ask_origin(self, ask: AskOrigin) -> None:
        self._failures.name(ORIGIN)
        while True:
            try:
                release = await ask()
            except (NoPeerReachable, Incomplete) as error:
                self._failures.note(ORIGIN, str(error), REFUSED_SESSION)
            except ManifestError as error:
                self._tell_refused(str(error))
                self._refused = error
                return
            else:
                # A web server may be behind: that is no fault.
                if release.record.sequence > self._known:
                    self.found.append(release)
                    self._end_soon()
                    return
            if not self._seconds:
                return
            await trio.sleep(MAX_WAIT_SECONDS)

    def error(self) -> Exception:
        """Why there is no record."""
        name = self._search.series.name
        if self._refused is not None:
            return self._refused
        reason = self._failures.most_telling() or (NO_ANSWER_YET if self._failures.named else "")
        if self._failures.who_counts(self._reached):
            return Incomplete(f"no peer that was asked knows of a release of {name}: {reason}")
        if reason:
            return NoPeerReachable(f"no peer could be reached: {reason}; check the addresses")
        return NoPeerReachable(f"nobody was found who could be asked for {name}: name a peer, or try later")


def _newest_of(found: Sequence[SignedRelease]) -> SignedRelease | None:
    """The newest of the records; raises TwoReleases when there are two of its number."""
    if not found:
        return None
    newest = max(found, key=lambda each: each.record.sequence)
    for each in found:
        if each.record.sequence == newest.record.sequence and each.record != newest.record:
            raise TwoReleases(newest.record.series, newest.record.sequence)
    return newest


def _place_of(series: SeriesId) -> ManifestId:
    """The name under which sources of peers know the series: its id in the place of a manifest's."""
    return ManifestId(series.digest)


async def _answer_to(stream: ByteStream, question: ReleaseQuestion) -> bytes:
    await _in_time(stream.write(encode_question(question)))
    head = await _in_time(stream.read_exactly(LENGTH_BYTES), question.seconds)
    size = decode_length(head, MAX_RECORD_BYTES)
    return await _in_time(stream.read_exactly(size)) if size else b""


async def _until_hung_up(stream: ByteStream, scope: trio.CancelScope) -> None:
    """End the waiting when the peer is gone; what it sends after its question counts as that."""
    with suppress(LinkClosed):
        await stream.read_some(1)
    scope.cancel()


async def _in_time(action: Awaitable[bytes | None], more: float = 0.0) -> bytes:
    with trio.move_on_after(limits.ANSWER_TIMEOUT + more):
        return await action or b""
    raise LinkClosed("the peer fell silent over a release record")
