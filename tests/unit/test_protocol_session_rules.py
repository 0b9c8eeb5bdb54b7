import pytest

from swarm.content.layout import Layout
from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.protocol import codec
from swarm.protocol import protocol_limits as limits
from swarm.protocol.messages import (
    RESTATE_EXTENSION,
    Cancel,
    Choke,
    Data,
    Goodbye,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    KeepAlive,
    Peers,
    Reject,
    RejectReason,
    Request,
    Restate,
    Unchoke,
    Withdraw,
)
from swarm.protocol.session_rules import Arrival, SessionRules

MANIFEST = ManifestId(bytes(32))
PIECE = 1 << 20
LAYOUT = Layout(PIECE, [10 * PIECE + 5])
COUNT = LAYOUT.piece_count
HELLO = Hello(MANIFEST, COUNT)


def opened() -> SessionRules:
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    for message in (HELLO, HaveNone()):
        protocol.sent(message)
        protocol.received(message, 0.0)
    return protocol


def refused(protocol: SessionRules, *messages) -> str:
    """The peer says all of these; the last one is illegal."""
    for message in messages[:-1]:
        hear(protocol, message)
    with pytest.raises(RemoteError) as caught:
        hear(protocol, messages[-1])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hear(protocol: SessionRules, message):
    if isinstance(message, Data):
        return protocol.received_data(message)
    return protocol.received(message, 0.0)


@pytest.mark.parametrize(
    "messages",
    [
        (Choke(),),
        (KeepAlive(),),
        (HaveAll(),),
        (Data(0, 0, 1),),
        (HELLO, Request(0)),
        (HELLO, HELLO),
        (HELLO, HaveAll(), HaveNone()),
        (HELLO, HaveAll(), HELLO),
        (HELLO, HaveBitfield(b"\x00\x1f")),
        (Hello(ManifestId(b"x" * 32), COUNT),),
        (Hello(MANIFEST, COUNT + 1),),
        (Hello(MANIFEST, COUNT, version=2),),
        (Goodbye(), HELLO),
        (HELLO, HaveAll(), Goodbye("x"), KeepAlive()),
    ],
)
def test_the_greeting_has_one_order(messages):
    refused(SessionRules(MANIFEST, LAYOUT, 0.0), *messages)


def test_the_peer_has_greeted_once_its_pieces_are_announced():
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    protocol.received(HELLO, 0.0)
    assert protocol.remote_hello == HELLO
    assert not protocol.peer_greeted
    protocol.received(HaveAll(), 0.0)
    assert protocol.peer_greeted


def test_each_side_sends_nothing_else_before_its_own_greeting():
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    for message in (HELLO, HaveAll()):
        protocol.received(message, 0.0)
    for message in (HELLO, HaveNone()):
        with pytest.raises(LocalProtocolError):
            protocol.sent(Request(0))
        protocol.sent(message)
    protocol.sent(Request(0))


def test_a_refusal_instead_of_a_greeting_is_legal():
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    protocol.received(Goodbye("no such manifest"), 0.0)
    assert protocol.peer_left


def test_a_bitfield_of_another_size_is_refused_before_it_is_read():
    with pytest.raises(RemoteError):
        opened().check_size(codec.HAVE_BITFIELD, 3)
    opened().check_size(codec.HAVE_BITFIELD, 2)


def test_a_piece_arrives_in_order_and_ends_its_request():
    protocol = opened()
    protocol.sent(Request(0))
    assert hear(protocol, Data(0, 0, 10)) == Arrival(wanted=True, last=False)
    assert protocol.asked(0)
    assert hear(protocol, Data(0, 10, PIECE - 10)) == Arrival(wanted=True, last=True)
    assert not protocol.asked(0)
    protocol.sent(Request(0))


def test_the_short_last_piece_has_its_own_length():
    protocol = opened()
    protocol.sent(Request(COUNT - 1))
    assert hear(protocol, Data(COUNT - 1, 0, 5)).last


@pytest.mark.parametrize(
    "data",
    [
        [Data(1, 0, 1)],
        [Data(0, 1, 1)],
        [Data(0, 0, 5), Data(0, 0, 5)],
        [Data(0, 0, 5), Data(0, 6, 5)],
        [Data(0, 0, PIECE), Data(0, 0, 1)],
        [Data(0, 0, 5), Data(0, 5, PIECE)],
        [Data(COUNT - 1, 0, 6)],
        [Data(0, 0, 5), Data(COUNT - 1, 0, 5)],
        [Data(0, 0, 0)],
        [Data(COUNT, 0, 1)],
    ],
)
def test_data_that_was_not_asked_for_is_refused(data):
    protocol = opened()
    protocol.sent(Request(0))
    protocol.sent(Request(COUNT - 1))
    refused(protocol, *data)


def test_a_reject_ends_a_request_also_midway_and_once():
    protocol = opened()
    protocol.sent(Request(0))
    protocol.sent(Request(1))
    hear(protocol, Data(0, 0, 5))
    hear(protocol, Reject(0, RejectReason.NOT_STORED))
    assert not protocol.asked(0)
    assert hear(protocol, Data(1, 0, PIECE)).last
    refused(protocol, Reject(0, RejectReason.NOT_STORED))


def test_a_cancelled_piece_may_still_come_and_is_not_wanted():
    protocol = opened()
    protocol.sent(Request(0))
    hear(protocol, Data(0, 0, 5))
    protocol.sent(Cancel(0))
    assert hear(protocol, Data(0, 5, 5)) == Arrival(wanted=False, last=False)
    assert hear(protocol, Data(0, 10, PIECE - 10)) == Arrival(wanted=False, last=True)
    protocol.sent(Request(0))
    assert hear(protocol, Data(0, 0, 5)).wanted


@pytest.mark.parametrize(
    "messages",
    [
        (Request(COUNT),),
        (Request(0), Request(0)),
        (Request(0), Cancel(0), Cancel(0)),
        (Cancel(COUNT),),
        (Have((COUNT,)),),
        (Have((1, 1)),),
        (Have((1,)), Have((1,))),
        (Withdraw(1),),
        (Withdraw(COUNT),),
        (Have((1,)), Withdraw(1), Withdraw(1)),
        (Reject(0, RejectReason.BUSY),),
    ],
)
def test_illegal_requests_and_announcements(messages):
    refused(opened(), *messages)
    ours = opened()
    for message in messages[:-1]:
        ours.sent(message)
    with pytest.raises(LocalProtocolError):
        ours.sent(messages[-1])


def test_a_withdrawn_piece_may_be_announced_again():
    protocol = opened()
    for message in (Have((1,)), Withdraw(1), Have((1,))):
        hear(protocol, message)


def test_what_was_announced_can_be_restated_when_both_sides_say_so():
    able = Hello(MANIFEST, COUNT, extensions=((RESTATE_EXTENSION, 1),))
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    for message in (able, HaveNone()):
        protocol.sent(message)
        protocol.received(message, 0.0)
    hear(protocol, Have((1, 2)))
    hear(protocol, Restate(b"\x80\x00"))
    hear(protocol, Have((1,)))
    refused(protocol, Have((0,)))
    protocol.sent(Restate(b"\xff\xe0"))
    assert protocol.announced.full
    with pytest.raises(LocalProtocolError):
        protocol.sent(Restate(b"\xff\xff"))
    with pytest.raises(RemoteError):
        protocol.check_size(codec.RESTATE, 3)


@pytest.mark.parametrize("able", [(True, False), (False, True), (False, False)])
def test_restating_needs_both_sides(able):
    ours, theirs = [
        Hello(MANIFEST, COUNT, extensions=((RESTATE_EXTENSION, 1),) if each else ()) for each in able
    ]
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    protocol.sent(ours)
    protocol.received(theirs, 0.0)
    protocol.sent(HaveNone())
    protocol.received(HaveNone(), 0.0)
    with pytest.raises(LocalProtocolError):
        protocol.sent(Restate(b"\x80\x00"))
    refused(protocol, Restate(b"\x80\x00"))


def test_restating_without_end_is_refused():
    able = Hello(MANIFEST, COUNT, extensions=((RESTATE_EXTENSION, 1),))
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    for message in (able, HaveNone()):
        protocol.sent(message)
        protocol.received(message, 0.0)
    assert "RESTATE" in refused(protocol, *[Restate(b"\x80\x00")] * (int(limits.RESTATE_BURST) + 1))


def test_a_cancel_that_crosses_the_last_byte_means_nothing():
    protocol = opened()
    hear(protocol, Request(0))
    assert protocol.sent_data(0, 0, PIECE)
    hear(protocol, Cancel(0))
    hear(protocol, Request(0))
    assert protocol.owed(0)


def test_one_reply_to_every_request_of_the_peer():
    protocol = opened()
    hear(protocol, Request(0))
    assert not protocol.sent_data(0, 0, 5)
    protocol.sent(Reject(0, RejectReason.CANCELLED))
    assert not protocol.owed(0)
    with pytest.raises(LocalProtocolError):
        protocol.sent_data(0, 5, 5)
    with pytest.raises(LocalProtocolError):
        protocol.sent(Reject(0, RejectReason.CANCELLED))


def test_requests_outstanding_are_limited():
    layout = Layout(PIECE, [PIECE * 1000])
    protocol = SessionRules(MANIFEST, layout, 0.0)
    protocol.received(Hello(MANIFEST, 1000), 0.0)
    protocol.received(HaveAll(), 0.0)
    for piece in range(limits.MAX_REQUESTS):
        protocol.received(Request(piece), 0.0)
    with pytest.raises(RemoteError, match="outstanding"):
        protocol.received(Request(limits.MAX_REQUESTS), 0.0)


def test_a_flood_of_messages_ends_the_session_and_time_forgives():
    protocol = opened()
    for _ in range(int(limits.CONTROL_BURST) - 2):
        protocol.received(KeepAlive(), 0.0)
    with pytest.raises(RemoteError, match="too many"):
        protocol.received(KeepAlive(), 0.0)
    for _ in range(int(limits.CONTROL_RATE)):
        protocol.received(KeepAlive(), 1.0)
    with pytest.raises(RemoteError, match="too many"):
        protocol.received(KeepAlive(), 1.0)


def test_requests_in_a_row_are_judged_like_single_ones():
    protocol = opened()
    legal: list[int] = []
    protocol.received_requests([1, 2], 0.0, legal)
    assert legal == [1, 2]
    with pytest.raises(RemoteError, match="requested already"):
        protocol.received_requests([3, 1, 4], 0.0, legal)
    assert legal == [1, 2, 3]
    assert protocol.owed(3)
    assert not protocol.owed(4)
    with pytest.raises(RemoteError, match="there is no piece"):
        protocol.received_requests([COUNT], 0.0, legal)
    greeting = SessionRules(MANIFEST, LAYOUT, 0.0)
    with pytest.raises(RemoteError, match="expected HELLO"):
        greeting.received_requests([0], 0.0, legal)


def test_requests_in_a_row_are_counted_like_single_messages():
    protocol = opened()
    protocol.reading_paused(1 / limits.CONTROL_RATE)
    for _ in range(int(limits.CONTROL_BURST) - 3):
        protocol.received(KeepAlive(), 0.0)
    legal: list[int] = []
    with pytest.raises(RemoteError, match="too many"):
        protocol.received_requests([0, 1, 2], 0.0, legal)
    assert legal == [0, 1]  # one in the budget, one excused


def test_whole_pieces_are_sent_as_if_each_were_told_alone():
    protocol = opened()
    protocol.received_requests(range(4), 0.0, [])
    protocol.received(Cancel(1), 0.0)
    protocol.sent_whole([0, 1])
    assert not protocol.owed(0)
    assert not protocol.owed(1)
    assert not protocol.owed_cancelled(1)
    with pytest.raises(LocalProtocolError, match="not requested"):
        protocol.sent_whole([5])
    protocol.sent_data(2, 0, 10)
    with pytest.raises(LocalProtocolError, match="instead of 10"):
        protocol.sent_whole([2])
    with pytest.raises(LocalProtocolError, match="before piece 2 is complete"):
        protocol.sent_whole([3])
    with pytest.raises(LocalProtocolError, match="expected HELLO"):
        SessionRules(MANIFEST, LAYOUT, 0.0).sent_whole([0])


def test_a_piece_too_long_for_one_message_is_not_sent_whole():
    layout = Layout(2 * limits.MAX_DATA_BYTES, [2 * limits.MAX_DATA_BYTES])
    protocol = SessionRules(MANIFEST, layout, 0.0)
    for message in (Hello(MANIFEST, 1), HaveNone()):
        protocol.sent(message)
        protocol.received(message, 0.0)
    protocol.received(Request(0), 0.0)
    with pytest.raises(LocalProtocolError, match="do not fit"):
        protocol.sent_whole([0])


def test_what_came_while_we_did_not_read_is_no_flood():
    """A slow disk or a rate limit of ours holds up the peer's messages; they then arrive all at once."""
    protocol = opened()
    protocol.reading_paused(60.0)
    peers = int(limits.PEERS_BURST + 60 / limits.PEERS_INTERVAL)
    for _ in range(peers):
        protocol.received(Peers((), ()), 0.0)
    allowed = int(limits.CONTROL_BURST + 60 * limits.CONTROL_RATE) - 2
    for _ in range(allowed - peers):
        protocol.received(KeepAlive(), 0.0)
    with pytest.raises(RemoteError, match="too many"):
        protocol.received(KeepAlive(), 0.0)


def test_pauses_of_ours_do_not_add_up_to_a_flood():
    protocol = opened()
    for _ in range(1000):
        protocol.reading_paused(limits.IDLE_TIMEOUT)
    allowed = int(limits.CONTROL_BURST + limits.IDLE_TIMEOUT * limits.CONTROL_RATE) - 2
    for _ in range(allowed):
        protocol.received(KeepAlive(), 0.0)
    with pytest.raises(RemoteError, match="too many"):
        protocol.received(KeepAlive(), 0.0)


def test_moved_pieces_pay_for_messages():
    protocol = opened()
    layout_piece = COUNT - 1
    for _ in range(3 * int(limits.CONTROL_BURST)):
        protocol.received(Request(layout_piece), 0.0)
        protocol.received(Have((layout_piece,)), 0.0)
        protocol.received(Withdraw(layout_piece), 0.0)
        protocol.sent_data(layout_piece, 0, 5)


def test_pieces_sent_whole_pay_for_messages():
    protocol = opened()
    for _ in range(int(limits.CONTROL_BURST)):
        protocol.received_requests([0, 1], 0.0, [])
        protocol.sent_whole([0, 1])


def test_a_flood_of_peers_ends_the_session():
    protocol = opened()
    for _ in range(int(limits.PEERS_BURST)):
        protocol.received(Peers((), (PeerId("z" * 40),)), 0.0)
    protocol.received(Unchoke(), 0.0)
    with pytest.raises(RemoteError, match="PEERS"):
        protocol.received(Peers((), ()), 0.0)


def test_no_data_before_the_greeting_or_after_goodbye():
    protocol = SessionRules(MANIFEST, LAYOUT, 0.0)
    for message in (HELLO, HaveNone(), Request(0), Request(1)):
        protocol.sent(message)
    refused(protocol, Data(0, 0, 5))
    refused(protocol, HELLO, HaveAll(), Goodbye(), Data(0, 0, 5))
