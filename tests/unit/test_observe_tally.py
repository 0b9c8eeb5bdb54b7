"""Events folded into a snapshot."""

from __future__ import annotations

import pytest

from swarm.events import (
    BytesReceived,
    BytesSent,
    Event,
    FilesSelected,
    HashingProgress,
    ManifestReady,
    NodeListening,
    PeerConnected,
    PeerDisconnected,
    PeerHas,
    PieceLost,
    PieceRefused,
    PieceRequested,
    PieceStored,
    PieceWasted,
    RoundTrip,
    SourceBanned,
    SourceJoined,
    SourceLeft,
    TransferComplete,
    TransferContinued,
    TransferEnded,
    TransferPaused,
    TransferResumed,
    TransferStarted,
)
from swarm.ids import ManifestId, PeerId, SourceId, TransferId
from swarm.observe.estimate import SETTLING_SECONDS, STALLED_SECONDS
from swarm.observe.tally import (
    MAX_ENDED,
    MAX_SOURCE_ROWS,
    NodeTally,
    SourceRow,
    TransferSnapshot,
    TransferTally,
)

ID = ManifestId(bytes(32))
ANN, BEN = PeerId("12D3KooWAnn"), PeerId("12D3KooWBen")
MB = 1_000_000
ONE, TWO = TransferId(1), TransferId(2)


def ready(size: int = 10 * MB, pieces: int = 10) -> ManifestReady:
    return ManifestReady(ONE, ID, "photos", size, pieces, MB, 3, ANN)


def row(snapshot: TransferSnapshot, source: SourceId) -> SourceRow:
    return next(each for each in snapshot.sources if each.source == source)


def test_a_fetch_is_counted_from_start_to_end() -> None:
    tally = TransferTally(ONE, 100.0)
    tally.add(ready(), 100.0)
    tally.add(TransferResumed(ONE, 2, 2 * MB), 100.0)
    tally.add(PeerConnected(ONE, ANN, "/ip4/192.0.2.1/tcp/1", inbound=False), 100.1)
    tally.add(PeerConnected(ONE, BEN, "/ip4/192.0.2.2/tcp/2", inbound=True), 100.1)
    tally.add(PieceRequested(ONE, 4, ANN, "fastest"), 100.1)
    for second in range(1, 5):
        tally.add(BytesReceived(ONE, ANN, MB), 100.0 + second)
        tally.add(PieceStored(ONE, 3 + second, MB, ANN), 100.0 + second)
        tally.add(BytesSent(ONE, BEN, MB // 2), 100.0 + second)
    tally.add(RoundTrip(ANN, 0.02), 104.0)
    half = tally.snapshot(104.0)
    assert (half.name, half.manifest, half.size, half.pieces) == ("photos", ID, 10 * MB, 10)
    assert (half.have_pieces, half.have_size, half.resumed) == (6, 6 * MB, 2 * MB)
    assert (half.received, half.sent, half.wasted, half.connected) == (4 * MB, 2 * MB, 0, 2)
    assert half.elapsed == pytest.approx(4.0)
    assert not half.complete
    ann, ben = row(half, ANN), row(half, BEN)
    assert (ann.received, ann.pieces, ann.sent, ann.round_trip, ann.why) == (4 * MB, 4, 0, 0.02, "fastest")
    assert (ben.received, ben.sent, ben.inbound, ben.connected) == (0, 2 * MB, True, True)

    tally.add(TransferComplete(ONE, ID, "/tmp/photos", 10 * MB, 9.0), 109.0)
    done = tally.snapshot(200.0)
    assert done.complete
    assert (done.have_pieces, done.have_size, done.eta) == (10, 10 * MB, None)
    assert done.elapsed == pytest.approx(9.0)


def test_what_is_complete_downloads_nothing_from_then_on() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(), 0.0)
    for second in range(1, 11):
        tally.add(BytesReceived(ONE, ANN, MB), float(second))
        tally.add(BytesSent(ONE, BEN, MB), float(second))
    before = tally.snapshot(10.0)
    assert before.down_rate > 0 < row(before, ANN).down_rate
    tally.add(TransferComplete(ONE, ID, "/tmp/photos", 10 * MB, 10.0), 10.0)
    after = tally.snapshot(10.0)
    assert (after.down_rate, row(after, ANN).down_rate) == (0, 0)
    assert after.up_rate == before.up_rate
    assert row(after, BEN).up_rate == row(before, BEN).up_rate


def test_of_a_selection_the_selected_is_the_whole() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(), 0.0)
    tally.add(FilesSelected(ONE, 1, 4, 3 * MB + 5), 0.0)
    tally.add(PieceStored(ONE, 7, MB, ANN), 1.0)
    half = tally.snapshot(1.0)
    assert (half.size, half.pieces, half.have_pieces, half.have_size) == (3 * MB + 5, 4, 1, MB)
    tally.add(TransferComplete(ONE, ID, "/tmp/photos", 3 * MB + 5, 2.0), 2.0)
    assert tally.snapshot(2.0).have_pieces == 4


def test_the_rate_is_right_from_the_start_and_so_is_the_estimate() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(size=100 * MB, pieces=100), 0.0)
    for tick in range(1, 51):
        # Half a minute passed before the first byte, to find a peer: that says nothing about the rate.
        now = 30 + tick / 10
        tally.add(BytesReceived(ONE, ANN, MB // 10), now)
        if tick % 10 == 0:
            tally.add(PieceStored(ONE, tick // 10, MB, ANN), now)
            snapshot = tally.snapshot(now)
            assert snapshot.down_rate == pytest.approx(MB, rel=0.06)
            settled = tick / 10 > SETTLING_SECONDS
            wanted = pytest.approx((100 * MB - snapshot.have_size) / MB, rel=0.06) if settled else None
            assert snapshot.eta == wanted


def test_there_is_no_estimate_while_nothing_arrives() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(), 0.0)
    assert tally.snapshot(5.0).eta is None
    for second in range(5, 9):
        tally.add(BytesReceived(ONE, ANN, MB), float(second))
    assert tally.snapshot(8.5).eta is not None
    # It would only grow, to years: 6560 hours were seen.
    assert tally.snapshot(8.0 + STALLED_SECONDS + 0.1).eta is None
    assert tally.snapshot(600.0).eta is None


def test_the_estimate_settles_anew_after_a_stall() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(size=100 * MB, pieces=100), 0.0)
    for second in (1, 2, 3, 4, 100, 101):
        tally.add(BytesReceived(ONE, ANN, MB), float(second))
    assert tally.snapshot(101.0).eta is None
    tally.add(BytesReceived(ONE, ANN, MB), 102.0)
    assert tally.snapshot(102.0).eta == pytest.approx(100, rel=0.06)


def test_peers_that_have_everything_are_counted_while_they_are_there() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(TransferStarted(ONE, "share"), 0.0)
    tally.add(ready(), 0.0)
    for peer in (ANN, BEN):
        tally.add(PeerConnected(ONE, peer, "/a", inbound=True), 0.0)
        tally.add(PeerHas(ONE, peer, 4), 0.0)
    tally.add(PeerHas(ONE, ANN, 10), 1.0)
    snapshot = tally.snapshot(1.0)
    assert (snapshot.full_peers, row(snapshot, ANN).pieces_held, row(snapshot, BEN).pieces_held) == (1, 10, 4)
    tally.add(PeerDisconnected(ONE, ANN, "done"), 2.0)
    assert tally.snapshot(2.0).full_peers == 0


def test_refused_and_late_bytes_are_waste_of_the_peer_that_sent_them() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(PieceRefused(ONE, 1, 70, ANN), 1.0)
    tally.add(PieceWasted(ONE, 1, 7, BEN), 1.0)
    tally.add(SourceBanned(ONE, ANN, "bad piece", 1), 1.0)
    snapshot = tally.snapshot(1.0)
    assert (snapshot.wasted, snapshot.banned, snapshot.have_pieces) == (77, 1, 0)
    assert (row(snapshot, ANN).wasted, row(snapshot, ANN).banned) == (70, True)
    assert (row(snapshot, BEN).wasted, row(snapshot, BEN).banned) == (7, False)


def test_a_lost_piece_is_not_had_any_more() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(ready(), 0.0)
    tally.add(PieceLost(ONE, 0, MB), 0.0)
    assert tally.snapshot(0.0).have_pieces == 0
    tally.add(PieceStored(ONE, 3, MB, ANN), 0.0)
    tally.add(PieceStored(ONE, 4, MB, ANN), 0.0)
    tally.add(PieceLost(ONE, 3, MB), 0.0)
    assert (tally.snapshot(0.0).have_pieces, tally.snapshot(0.0).have_size) == (1, MB)


def test_hashing_is_told_apart_from_having() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(HashingProgress(ONE, 3, 9), 0.0)
    assert (tally.snapshot(0.0).hashed, tally.snapshot(0.0).hash_total) == (3, 9)
    assert tally.snapshot(0.0).hashing
    assert tally.snapshot(0.0).have_size == 0


@pytest.mark.parametrize(
    "end",
    [
        HashingProgress(ONE, 9, 9),
        TransferResumed(ONE, 2, 2 * MB),
        BytesReceived(ONE, ANN, 1),
        TransferComplete(ONE, ID, "out", 3, 1.0),
    ],
)
def test_hashing_ends_when_checking_ends(end: Event) -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(HashingProgress(ONE, 3, 9), 0.0)
    tally.add(end, 1.0)
    assert not tally.snapshot(1.0).hashing


def test_a_lost_ping_keeps_the_last_round_trip_and_a_stranger_gets_no_row() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(PeerConnected(ONE, ANN, "/a", inbound=False), 0.0)
    tally.add(RoundTrip(ANN, 0.5), 0.0)
    tally.add(RoundTrip(ANN, None), 1.0)
    tally.add(RoundTrip(BEN, 0.1), 1.0)
    tally.add(NodeListening(ANN, ("/a",)), 1.0)
    assert [each.round_trip for each in tally.snapshot(1.0).sources] == [0.5]


def test_the_table_is_bounded_and_forgets_those_first_that_left_first() -> None:
    tally = TransferTally(ONE, 0.0)
    peers = [PeerId(f"peer{number}") for number in range(MAX_SOURCE_ROWS)]
    for peer in peers:
        tally.add(PeerConnected(ONE, peer, "/a", inbound=True), 0.0)
    for peer in (peers[5], peers[2]):
        tally.add(PeerDisconnected(ONE, peer, "gone"), 1.0)
    tally.add(PeerConnected(ONE, ANN, "/a", inbound=True), 2.0)
    snapshot = tally.snapshot(2.0)
    kept = {each.source for each in snapshot.sources}
    assert len(kept) == MAX_SOURCE_ROWS
    assert peers[5] not in kept
    assert {peers[2], ANN} <= kept
    assert snapshot.connected == MAX_SOURCE_ROWS - 1
    for number in range(3 * MAX_SOURCE_ROWS):
        tally.add(BytesReceived(ONE, PeerId(f"sybil{number}"), 1), 3.0)
    assert len(tally.snapshot(3.0).sources) == MAX_SOURCE_ROWS
    assert tally.snapshot(3.0).received == 3 * MAX_SOURCE_ROWS


def test_what_is_shared_is_had_from_the_start() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(TransferStarted(ONE, "share"), 0.0)
    tally.add(HashingProgress(ONE, 10 * MB, 10 * MB), 0.0)
    tally.add(ready(), 0.0)
    shared = tally.snapshot(0.0)
    assert (shared.kind, shared.have_pieces, shared.have_size) == ("share", 10, 10 * MB)
    tally.add(PieceLost(ONE, 3, MB), 1.0)
    assert (tally.snapshot(1.0).have_pieces, tally.snapshot(1.0).have_size) == (9, 9 * MB)


def test_a_source_that_is_no_peer_has_a_row_like_any_other() -> None:
    tally = TransferTally(ONE, 0.0)
    folder = SourceId("folder:/old")
    tally.add(SourceJoined(ONE, folder, "/old"), 0.0)
    tally.add(PieceRequested(ONE, 1, folder, "only one"), 0.0)
    tally.add(BytesReceived(ONE, folder, MB), 1.0)
    tally.add(PieceStored(ONE, 1, MB, folder), 1.0)
    old = row(tally.snapshot(1.0), folder)
    assert (old.address, old.connected, old.received, old.pieces) == ("/old", True, MB, 1)
    assert old.why == "only one"
    tally.add(SourceLeft(ONE, folder, "nothing more"), 1.0)
    assert not row(tally.snapshot(1.0), folder).connected
    assert tally.snapshot(1.0).connected == 0


def test_a_pause_and_an_end_are_seen() -> None:
    tally = TransferTally(ONE, 0.0)
    tally.add(PeerConnected(ONE, ANN, "/a", inbound=False), 0.0)
    tally.add(TransferPaused(ONE), 1.0)
    assert tally.snapshot(1.0).paused
    tally.add(TransferContinued(ONE), 2.0)
    assert not tally.snapshot(2.0).paused
    tally.add(TransferEnded(ONE, "no space left"), 3.0)
    end = tally.snapshot(3.0)
    assert (end.ended, end.error, end.connected, end.complete) == (True, "no space left", 0, False)


# --- Of a node ------------------------------------------------------------------------------------


def test_the_transfers_of_a_node_are_told_apart_and_summed_up() -> None:
    tally = NodeTally(0.0)
    tally.add(NodeListening(ANN, ("/a", "/b")), 0.0)
    for transfer, kind in ((ONE, "share"), (TWO, "fetch")):
        tally.add(TransferStarted(transfer, kind), 0.0)
        tally.add(PeerConnected(transfer, BEN, "/ben", inbound=True), 0.0)
    for tick in range(1, 101):
        tally.add(BytesSent(ONE, BEN, MB // 10), tick / 10)
        tally.add(BytesReceived(TWO, BEN, 2 * MB // 10), tick / 10)
    tally.add(PieceWasted(TWO, 1, 7, BEN), 10.0)
    tally.add(RoundTrip(BEN, 0.25), 10.0)
    node = tally.snapshot(10.0)
    assert (node.peer, node.addresses, node.elapsed) == (ANN, ("/a", "/b"), 10.0)
    assert (node.received, node.sent, node.wasted) == (20 * MB, 10 * MB, 7)
    assert node.down_rate == pytest.approx(2 * MB, rel=0.06)
    assert node.up_rate == pytest.approx(MB, rel=0.06)
    one, two = node.transfers
    assert (one.transfer, one.kind, one.received, one.sent, one.wasted) == (ONE, "share", 0, 10 * MB, 0)
    assert (two.transfer, two.kind, two.received, two.sent, two.wasted) == (TWO, "fetch", 20 * MB, 0, 7)
    assert row(one, BEN).round_trip == row(two, BEN).round_trip == 0.25
    assert tally.transfer(ONE, 10.0) == one
    assert tally.latest(10.0) == two


def test_a_transfer_that_is_not_known_is_empty() -> None:
    tally = NodeTally(0.0)
    empty = tally.latest(5.0)
    assert (empty.name, empty.manifest, empty.size, empty.sources) == ("", None, 0, ())
    assert tally.snapshot(5.0).transfers == ()


def test_stored_pieces_that_come_together_count_for_their_transfers_and_sources() -> None:
    together, alone = NodeTally(0.0), NodeTally(0.0)
    stored = [PieceStored(ONE, 1, MB, ANN), PieceStored(TWO, 1, 5, BEN), PieceStored(ONE, 2, 7, BEN)]
    for tally in (together, alone):
        tally.add(TransferStarted(ONE, "fetch"), 0.0)
        tally.add(TransferStarted(TWO, "fetch"), 0.0)
    together.add_many(stored, 1.0)
    for event in stored:
        alone.add(event, 1.0)
    assert together.snapshot(1.0) == alone.snapshot(1.0)
    assert together.of(ONE, 1.0).have_size == MB + 7
    assert {row.source: row.pieces for row in together.of(ONE, 1.0).sources} == {ANN: 1, BEN: 1}


def test_ended_transfers_are_kept_for_a_while_and_stay_in_the_sums() -> None:
    tally = NodeTally(0.0)
    for number in range(1, 201):
        transfer = TransferId(number)
        tally.add(TransferStarted(transfer, "fetch"), float(number))
        tally.add(BytesReceived(transfer, ANN, 1), float(number))
        tally.add(TransferEnded(transfer), float(number))
    node = tally.snapshot(200.0)
    assert [each.transfer for each in node.transfers] == list(range(201 - MAX_ENDED, 201))
    assert node.received == 200


def test_the_time_left_of_hashing_is_told_once_its_rate_has_settled() -> None:
    tally = NodeTally(0.0)
    tally.add(TransferStarted(ONE, "share"), 0.0)
    for tenth in range(101):
        tally.add(HashingProgress(ONE, tenth * MB, 1000 * MB), tenth / 10)
        if tenth == 15:
            assert tally.of(ONE, 1.5).eta is None
    assert tally.of(ONE, 10.0).eta == pytest.approx(90, rel=0.1)
    assert tally.of(ONE, 10.0 + STALLED_SECONDS + 0.1).eta is None
    # What is hashed after that, ten times as fast, is counted by itself.
    for tenth in range(31):
        tally.add(HashingProgress(ONE, tenth * 10 * MB, 500 * MB), 20 + tenth / 10)
    assert tally.of(ONE, 23.0).eta == pytest.approx(2, rel=0.1)
    tally.add(HashingProgress(ONE, 500 * MB, 500 * MB), 25.0)
    assert tally.of(ONE, 25.0).eta is None
