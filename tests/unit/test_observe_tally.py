"""Events folded into a snapshot."""

from __future__ import annotations

import pytest

from swarm.events import (
    BytesReceived,
    BytesSent,
    FilesSelected,
    HashingProgress,
    ManifestReady,
    NodeListening,
    PeerBanned,
    PeerConnected,
    PeerDisconnected,
    PieceLost,
    PieceRefused,
    PieceRequested,
    PieceStored,
    PieceWasted,
    RoundTrip,
    TransferComplete,
    TransferResumed,
)
from swarm.ids import ManifestId, PeerId
from swarm.observe.tally import MAX_PEER_ROWS, PeerRow, Snapshot, Tally

ID = ManifestId(bytes(32))
ANN, BEN = PeerId("12D3KooWAnn"), PeerId("12D3KooWBen")
MB = 1_000_000


def ready(size: int = 10 * MB, pieces: int = 10) -> ManifestReady:
    return ManifestReady(ID, "photos", size, pieces, MB, 3, ANN)


def row(snapshot: Snapshot, peer: PeerId) -> PeerRow:
    return next(each for each in snapshot.peers if each.peer == peer)


def test_a_fetch_is_counted_from_start_to_end() -> None:
    tally = Tally(100.0)
    tally.add(ready(), 100.0)
    tally.add(TransferResumed(ID, 2, 2 * MB), 100.0)
    tally.add(PeerConnected(ID, ANN, "/ip4/192.0.2.1/tcp/1", inbound=False), 100.1)
    tally.add(PeerConnected(ID, BEN, "/ip4/192.0.2.2/tcp/2", inbound=True), 100.1)
    tally.add(PieceRequested(ID, 4, ANN, "fastest"), 100.1)
    for second in range(1, 5):
        tally.add(BytesReceived(ID, ANN, MB), 100.0 + second)
        tally.add(PieceStored(ID, 3 + second, MB, ANN), 100.0 + second)
        tally.add(BytesSent(ID, BEN, MB // 2), 100.0 + second)
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

    tally.add(TransferComplete(ID, "/tmp/photos", 10 * MB, 9.0), 109.0)
    done = tally.snapshot(200.0)
    assert done.complete
    assert (done.have_pieces, done.have_size, done.eta) == (10, 10 * MB, None)
    assert done.elapsed == pytest.approx(9.0)


def test_of_a_selection_the_selected_is_the_whole() -> None:
    tally = Tally(0.0)
    tally.add(ready(), 0.0)
    tally.add(FilesSelected(ID, 1, 4, 3 * MB + 5), 0.0)
    tally.add(PieceStored(ID, 7, MB, ANN), 1.0)
    half = tally.snapshot(1.0)
    assert (half.size, half.pieces, half.have_pieces, half.have_size) == (3 * MB + 5, 4, 1, MB)
    tally.add(TransferComplete(ID, "/tmp/photos", 3 * MB + 5, 2.0), 2.0)
    assert tally.snapshot(2.0).have_pieces == 4


def test_the_rate_is_right_from_the_start_and_so_is_the_estimate() -> None:
    tally = Tally(0.0)
    tally.add(ready(size=100 * MB, pieces=100), 0.0)
    for tick in range(1, 31):
        tally.add(BytesReceived(ID, ANN, MB // 10), tick / 10)
        if tick % 10 == 0:
            tally.add(PieceStored(ID, tick // 10, MB, ANN), tick / 10)
            snapshot = tally.snapshot(tick / 10)
            assert snapshot.down_rate == pytest.approx(MB, rel=0.06)
            assert snapshot.eta == pytest.approx((100 * MB - snapshot.have_size) / MB, rel=0.06)
    assert snapshot.peers[0].down_rate == pytest.approx(MB, rel=0.06)


def test_there_is_no_estimate_while_nothing_arrives() -> None:
    tally = Tally(0.0)
    tally.add(ready(), 0.0)
    assert tally.snapshot(5.0).eta is None
    tally.add(BytesReceived(ID, ANN, MB), 5.0)
    assert tally.snapshot(5.5).eta is not None
    assert tally.snapshot(600.0).eta is None


def test_refused_and_late_bytes_are_waste_of_the_peer_that_sent_them() -> None:
    tally = Tally(0.0)
    tally.add(PieceRefused(ID, 1, 70, ANN), 1.0)
    tally.add(PieceWasted(ID, 1, 7, BEN), 1.0)
    tally.add(PeerBanned(ANN, "bad piece", 1), 1.0)
    snapshot = tally.snapshot(1.0)
    assert (snapshot.wasted, snapshot.banned, snapshot.have_pieces) == (77, 1, 0)
    assert (row(snapshot, ANN).wasted, row(snapshot, ANN).banned) == (70, True)
    assert (row(snapshot, BEN).wasted, row(snapshot, BEN).banned) == (7, False)


def test_a_lost_piece_is_not_had_any_more() -> None:
    tally = Tally(0.0)
    tally.add(ready(), 0.0)
    tally.add(PieceLost(ID, 0), 0.0)
    assert tally.snapshot(0.0).have_pieces == 0
    tally.add(PieceStored(ID, 3, MB, ANN), 0.0)
    tally.add(PieceStored(ID, 4, MB, ANN), 0.0)
    tally.add(PieceLost(ID, 3), 0.0)
    assert tally.snapshot(0.0).have_pieces == 1


def test_hashing_is_told_apart_from_having() -> None:
    tally = Tally(0.0)
    tally.add(HashingProgress(3, 9), 0.0)
    assert (tally.snapshot(0.0).hashed, tally.snapshot(0.0).hash_total) == (3, 9)
    assert tally.snapshot(0.0).have_size == 0


def test_a_lost_ping_keeps_the_last_round_trip_and_a_stranger_gets_no_row() -> None:
    tally = Tally(0.0)
    tally.add(PeerConnected(ID, ANN, "/a", inbound=False), 0.0)
    tally.add(RoundTrip(ANN, 0.5), 0.0)
    tally.add(RoundTrip(ANN, None), 1.0)
    tally.add(RoundTrip(BEN, 0.1), 1.0)
    tally.add(NodeListening(ANN, ("/a",)), 1.0)
    assert [each.round_trip for each in tally.snapshot(1.0).peers] == [0.5]


def test_the_table_is_bounded_and_forgets_those_first_that_left_first() -> None:
    tally = Tally(0.0)
    peers = [PeerId(f"peer{number}") for number in range(MAX_PEER_ROWS)]
    for peer in peers:
        tally.add(PeerConnected(ID, peer, "/a", inbound=True), 0.0)
    for peer in (peers[5], peers[2]):
        tally.add(PeerDisconnected(ID, peer, "gone"), 1.0)
    tally.add(PeerConnected(ID, ANN, "/a", inbound=True), 2.0)
    snapshot = tally.snapshot(2.0)
    kept = {each.peer for each in snapshot.peers}
    assert len(kept) == MAX_PEER_ROWS
    assert peers[5] not in kept
    assert {peers[2], ANN} <= kept
    assert snapshot.connected == MAX_PEER_ROWS - 1
    for number in range(3 * MAX_PEER_ROWS):
        tally.add(BytesReceived(ID, PeerId(f"sybil{number}"), 1), 3.0)
    assert len(tally.snapshot(3.0).peers) == MAX_PEER_ROWS
    assert tally.snapshot(3.0).received == 3 * MAX_PEER_ROWS
