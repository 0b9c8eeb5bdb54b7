import pytest

from swarm.errors import RemoteError
from swarm.mux import frames as yamux
from swarm.mux.frames import ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE, Frame, FrameReader
from swarm.mux.mux_limits import MAX_WINDOW


def test_headers_have_the_bytes_of_the_specification():
    assert yamux.encode(WINDOW_UPDATE, SYN, 1, 0).hex() == "000100010000000100000000"
    assert yamux.encode(DATA, FIN, 0x01020304, 5).hex() == "000000040102030400000005"
    assert yamux.encode(PING, ACK, 0, 0xDEADBEEF).hex() == "0002000200000000deadbeef"
    assert yamux.encode(GO_AWAY, 0, 0, 1).hex() == "000300000000000000000001"


@pytest.mark.parametrize(
    "frame",
    [Frame(DATA, SYN | FIN, 3, 9), Frame(WINDOW_UPDATE, RST, 2**32 - 1, 2**32 - 1), Frame(PING, SYN, 0, 7)],
)
def test_a_header_survives(frame):
    assert yamux.decode(yamux.encode(*frame)) == frame


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("010100010000000100000000", "version 1"),
        ("000400000000000100000000", "type 4"),
        ("000100100000000100000000", "flags 0x10"),
        ("000000000000000000000000", "stream 0"),
        ("000100010000000000000000", "stream 0"),
        ("000200010000000100000000", "stream 1"),
        ("000300000000000200000000", "stream 2"),
        ("000200000000000000000000", "ping"),
        ("000200030000000000000000", "ping"),
    ],
)
def test_what_the_specification_forbids_is_refused(header, complaint):
    with pytest.raises(RemoteError, match=complaint):
        yamux.decode(bytes.fromhex(header))


def test_a_frame_beyond_every_window_is_refused_at_its_header():
    assert yamux.decode(yamux.encode(DATA, 0, 1, MAX_WINDOW)).length == MAX_WINDOW
    with pytest.raises(RemoteError, match="exceeds every window"):
        list(FrameReader().read(memoryview(yamux.encode(DATA, 0, 1, MAX_WINDOW + 1))))


def test_a_number_that_does_not_fit_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="32 bits"):
        yamux.encode(DATA, 0, 2**32, 0)


def test_payloads_come_as_they_arrive():
    reader = FrameReader()
    wire = yamux.encode(DATA, 0, 1, 5) + b"abcde" + yamux.encode(PING, SYN, 0, 1)
    assert list(reader.read(memoryview(wire[:7]))) == []
    assert list(reader.read(memoryview(wire[7:14]))) == [Frame(DATA, 0, 1, 5), b"ab"]
    assert list(reader.read(memoryview(wire[14:20]))) == [b"cde"]
    assert list(reader.read(memoryview(wire[20:]))) == [Frame(PING, SYN, 0, 1)]
