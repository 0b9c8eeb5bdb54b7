"""Machines that do anything in any order: pieces with their picker, the journal, the streams of a link."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarm.bits import PieceSet
from swarm.content.journal import HEADER_BYTES, Header, encode_header, encode_stored, replay
from swarm.content.layout import Layout
from swarm.ids import ManifestId, PeerId
from swarm.strategy.availability import Availability
from swarm.strategy.download.picker import InOrder, RarestFirst
from swarm.strategy.pieces import Pieces, State
from tests.property.test_mux_pair import End, check, finish_everything, settle

SIZE = 12
PEERS = [PeerId(name) for name in "abc"]
INDEX = st.integers(0, SIZE - 1)

MOVES = {
    "requested": ({State.MISSING, State.REQUESTED}, State.REQUESTED),
    "released": ({State.REQUESTED}, State.MISSING),
    "verifying": ({State.REQUESTED}, State.VERIFYING),
    "failed": ({State.VERIFYING}, State.MISSING),
    "now_stored": ({State.VERIFYING}, State.STORED),
    "lost": ({State.STORED}, State.MISSING),
}


class PiecesAndPicker(RuleBasedStateMachine):
    """Every move, legal or not, against a list of states; every pick against what it promises."""

    def __init__(self) -> None:
        super().__init__()
        wanted = PieceSet.all(SIZE)
        wanted.discard(SIZE - 1)
        self.pieces = Pieces(Layout(10, [10 * SIZE]), PieceSet(SIZE), wanted)
        self.model = [State.MISSING] * SIZE
        self.reopened = set(range(SIZE - 1))
        self.availability = Availability(SIZE)
        self.has: dict[PeerId, set[int]] = {peer: set() for peer in PEERS}
        for peer in PEERS:
            self.availability.source_joined(peer)
        rng = random.Random(1)
        self.rarest = RarestFirst(self.pieces, self.availability, rng)
        self.in_order = InOrder(self.rarest, self.pieces, self.availability, rng)

    @rule(move=st.sampled_from(sorted(MOVES)), piece=INDEX)
    def moves(self, move: str, piece: int) -> None:
        allowed, to = MOVES[move]
        complete = self.pieces.complete
        try:
            getattr(self.pieces, move)(piece)
        except ValueError:
            assert self.model[piece] not in allowed
            return
        assert self.model[piece] in allowed
        self.model[piece] = to
        if move == "lost" and complete:
            self.reopened.discard(piece)

    @rule(piece=INDEX)
    def fetched(self, piece: int) -> None:
        if self.model[piece] is State.MISSING:
            for move in ("requested", "verifying", "now_stored"):
                self.moves(move=move, piece=piece)

    @rule(peer=st.sampled_from(PEERS), piece=INDEX, gains=st.booleans())
    def claims(self, peer: PeerId, piece: int, gains: bool) -> None:
        if gains:
            self.availability.have(peer, piece)
            self.has[peer].add(piece)
        else:
            self.availability.withdraw(peer, piece)
            self.has[peer].discard(piece)

    @rule(peer=st.sampled_from(PEERS), without=st.sets(INDEX, max_size=4), in_order=st.booleans())
    def picks_a_piece(self, peer: PeerId, without: set[int], in_order: bool) -> None:
        excluded = PieceSet(SIZE)
        for piece in without:
            excluded.add(piece)
        candidates = {piece for piece in self.has[peer] - without if piece in self._open()}
        pick = (self.in_order if in_order else self.rarest).pick(peer, excluded)
        assert (pick is None) == (not candidates)
        if pick is None:
            return
        assert pick.piece in candidates
        if not in_order:
            assert self._copies(pick.piece) == min(map(self._copies, candidates))

    @invariant()
    def every_set_is_what_its_invariant_says(self) -> None:
        stored = {piece for piece, state in enumerate(self.model) if state is State.STORED}
        assert [self.pieces.state(piece) for piece in range(SIZE)] == self.model
        assert set(self.pieces.stored) == stored
        assert set(self.pieces.open) == self._open()
        assert set(self.pieces.lacking) >= self._open()
        assert self.pieces.lacking_count == len(set(self.pieces.lacking))
        assert self.pieces.complete == (not set(self.pieces.lacking))

    def _open(self) -> set[int]:
        missing = {piece for piece, state in enumerate(self.model) if state is State.MISSING}
        return missing & self.reopened

    def _copies(self, piece: int) -> int:
        return sum(piece in has for has in self.has.values())


class Journal(RuleBasedStateMachine):
    """A file that is appended to, torn and damaged, against what must and what may be read of it."""

    HEADER = Header(ManifestId(bytes(32)), 999, SIZE)

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray(encode_header(self.HEADER))
        # The length after each sound record, and what is known by then.
        self.states: list[tuple[int, dict[int, bytes]]] = [(HEADER_BYTES, {})]

    @rule(claims=st.dictionaries(INDEX, st.binary(min_size=16, max_size=16), min_size=1, max_size=4))
    def stored(self, claims: dict[int, bytes]) -> None:
        self._append(encode_stored(self.HEADER, claims), self.states[-1][1] | claims)

    @rule(cut=st.integers(1, 200))
    def torn(self, cut: int) -> None:
        del self.data[max(HEADER_BYTES, len(self.data) - cut) :]
        self._believe(len(self.data))

    @rule(at=st.integers(0, 10**6), flip=st.integers(1, 255))
    def damaged(self, at: int, flip: int) -> None:
        # In the sound part only: what was damaged is not mended by a second change.
        sound = self.states[-1][0]
        if sound > HEADER_BYTES:
            place = HEADER_BYTES + at % (sound - HEADER_BYTES)
            self.data[place] ^= flip
            self._believe(place)

    @rule(garbage=st.binary(min_size=1, max_size=60))
    def garbage_follows(self, garbage: bytes) -> None:
        self.data += garbage

    @invariant()
    def exactly_the_sound_records_count(self) -> None:
        said = replay(bytes(self.data), self.HEADER)
        length, known = self.states[-1]
        assert (said.header, said.valid_length, dict(said.fingerprints)) == (self.HEADER, length, known)

    def _append(self, record: bytes, known: dict[int, bytes]) -> None:
        # As `JournalFile` does: over whatever is not sound.
        del self.data[self.states[-1][0] :]
        self.data += record
        self.states.append((len(self.data), known))

    def _believe(self, sound: int) -> None:
        while self.states[-1][0] > sound:
            self.states.pop()


class LinkStreams(RuleBasedStateMachine):
    """Two ends that open, write, read, finish and reset streams, and carry records in any parts."""

    SIDE = st.integers(0, 1)

    def __init__(self) -> None:
        super().__init__()
        rng = random.Random(7)
        self.ends = [End(0, rng), End(1, rng)]
        self.now = 0.0

    @rule(side=SIDE, what=st.sampled_from(["open", "accept", "write", "read", "finish", "close", "reset"]))
    def acts(self, side: int, what: str) -> None:
        self.now += 0.001
        self.ends[side].act(what, self.now)

    @rule(side=SIDE, records=st.integers(1, 4))
    def sends(self, side: int, records: int) -> None:
        self.ends[side].send(records)

    @rule(side=SIDE, size=st.sampled_from([1, 17, 3000, 10**6]))
    def carries(self, side: int, size: int) -> None:
        self.ends[1 - side].send(2)
        self.ends[side].receive(self.ends[1 - side], size)

    @invariant()
    def what_is_read_was_written(self) -> None:
        check(self.ends)

    def teardown(self) -> None:
        settle(self.ends, self.now + 1.0)
        check(self.ends)
        finish_everything(self.ends)


PiecesAndPicker.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
Journal.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
LinkStreams.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestPiecesAndPicker = PiecesAndPicker.TestCase
TestJournal = Journal.TestCase
TestLinkStreams = LinkStreams.TestCase
