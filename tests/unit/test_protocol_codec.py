import struct

import pytest

from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.protocol import codec
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import decode_body, decode_header, encode, encode_data_head
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Data,
    ExchangedPeer,
    Goodbye,
    Have,
    HaveBitfield,
    Hello,
    Peers,
    Reject,
    RejectReason,
    Request,
    Restate,
)

PEER = PeerId("12D3KooWLaCyzKm8Wa1KJ3Ghv7bzEMNMmZQnYgF6DnpYyAAWnaBt")
OTHER = PeerId("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
MANIFEST = ManifestId(bytes(range(32)))


def header(size: int, kind: int) -> bytes:
    return struct.pack(">IB", size, kind)


def test_frames_are_the_specified_bytes():
    assert encode(Choke()) == bytes.fromhex("00000000 09")
    assert encode(Request(0x01020304)) == bytes.fromhex("00000004 0b 01020304")
    assert encode(Cancel(7)) == bytes.fromhex("00000004 0d 00000007")
    assert encode(Reject(7, RejectReason.BUSY)) == bytes.fromhex("00000005 0e 00000007 04")
    assert encode(Have((1, 258))) == bytes.fromhex("00000008 05 00000001 00000102")
    assert encode(HaveBitfield(b"\xa0")) == bytes.fromhex("00000001 02 a0")
    assert encode(Restate(b"\xa0")) == bytes.fromhex("00000001 11 a0")
    assert encode(Data(2, 3, 4)) == bytes.fromhex("0000000c 0c 00000002 00000003")
    assert encode(Goodbye("bye")) == bytes.fromhex("00000003 10") + b"bye"


def test_hello_is_the_specified_bytes():
    hello = Hello(MANIFEST, 5, "swarm/1", ("/ip4/1.2.3.4/tcp/5",), (("a", 1),))
    expected = bytes.fromhex("a6 656167656e74 67") + b"swarm/1"
    expected += bytes.fromhex("66706965636573 05 6776657273696f6e 01 686d616e6966657374 5820")
    expected += MANIFEST.digest + bytes.fromhex("69616464726573736573 81 72") + b"/ip4/1.2.3.4/tcp/5"
    expected += bytes.fromhex("6a657874656e73696f6e73 a1 6161 01")
    assert encode(hello) == header(len(expected), codec.HELLO) + expected


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (0, 18),
        (0, codec.RESTATE),
        (limits.MAX_BITFIELD_BYTES + 1, codec.RESTATE),
        (0, 255),
        (1, codec.CHOKE),
        (3, codec.REQUEST),
        (5, codec.CANCEL),
        (4, codec.REJECT),
        (0, codec.HELLO),
        (limits.MAX_HELLO_BYTES + 1, codec.HELLO),
        (0, codec.HAVE),
        (4 * limits.MAX_HAVE_BATCH + 4, codec.HAVE),
        (limits.MAX_BITFIELD_BYTES + 1, codec.HAVE_BITFIELD),
        (codec.DATA_HEAD_BYTES, codec.DATA),
        (codec.DATA_HEAD_BYTES + limits.MAX_DATA_BYTES + 1, codec.DATA),
        (limits.MAX_PEERS_BYTES + 1, codec.PEERS),
        (limits.MAX_GOODBYE_BYTES + 1, codec.GOODBYE),
        (0xFFFFFFFF, codec.DATA),
    ],
)
def test_a_header_that_no_message_has_is_refused(size, kind):
    with pytest.raises(RemoteError) as caught:
        decode_header(header(size, kind))
    assert "\n" not in str(caught.value)


def test_the_largest_data_is_taken():
    size = codec.DATA_HEAD_BYTES + limits.MAX_DATA_BYTES
    assert decode_header(header(size, codec.DATA)) == (codec.DATA, size)
    assert encode_data_head(0, 0, limits.MAX_DATA_BYTES) == header(size, codec.DATA) + bytes(8)


HELLO_BODY = encode(Hello(MANIFEST, 5))[codec.HEADER_BYTES :]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (codec.HAVE, bytes(5)),
        (codec.REJECT, bytes(4) + b"\x00"),
        (codec.REJECT, bytes(4) + b"\x06"),
        (codec.GOODBYE, b"\xff"),
        (codec.GOODBYE, b"two\nlines"),
        (codec.GOODBYE, b"\x1b[2J"),
        (codec.HELLO, b"\xa0"),
        (codec.HELLO, b"\x80"),
        (codec.HELLO, HELLO_BODY + b"\x00"),
        (codec.HELLO, HELLO_BODY[:-1]),
        (codec.HELLO, HELLO_BODY.replace(MANIFEST.digest, b"").replace(b"\x58\x20", b"\x40")),
        (codec.HELLO, HELLO_BODY.replace(b"version\x01", b"version\x20")),
        (codec.HELLO, HELLO_BODY.replace(b"pieces\x05", b"pieces\xf5")),
        (codec.PEERS, b"\xa1\x65added\x80"),
        (codec.PEERS, b"\xa2\x65added\x81\x80\x67dropped\x80"),
        (codec.PEERS, b"\xa2\x65added\x80\x67dropped\x81\x63abc"),
    ],
)
def test_a_malformed_body_is_the_peers_fault(kind, body):
    with pytest.raises(RemoteError) as caught:
        decode_body(kind, body)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        Have(()),
        Have(tuple(range(limits.MAX_HAVE_BATCH + 1))),
        Have((-1,)),
        Request(1 << 32),
        Data(0, 0, 0),
        Data(0, 0, limits.MAX_DATA_BYTES + 1),
        HaveBitfield(b""),
        Goodbye("x" * (limits.MAX_GOODBYE_BYTES + 1)),
        Hello(MANIFEST, -1),
        Hello(MANIFEST, 5, "x" * (limits.MAX_AGENT_BYTES + 1)),
        Hello(MANIFEST, 5, "", ("/a",) * (limits.MAX_ADDRESSES_PER_PEER + 1)),
        Hello(MANIFEST, 5, "", ("/" + "a" * limits.MAX_ADDRESS_BYTES,)),
        Hello(MANIFEST, 5, "", ("no-slash",)),
        Hello(MANIFEST, 5, "", ("/with space",)),
        Hello(MANIFEST, 5, "", (), (("b", 1), ("a", 1))),
        Hello(MANIFEST, 5, "", (), (("UPPER", 1),)),
        Hello(MANIFEST, 5, "", (), (("a", -1),)),
        Peers((ExchangedPeer(PEER, ()),), (PEER,)),
        Peers((), (PeerId("0OIl" * 10),)),
        Peers((), tuple(PeerId(f"{index:040}".replace("0", "z")) for index in range(51))),
    ],
)
def test_what_the_peer_would_refuse_is_not_sent(message):
    with pytest.raises(LocalProtocolError):
        encode(message)


def test_the_largest_peers_and_hello_fit_their_frames():
    addresses = tuple(
        f"/{index}" + "a" * (limits.MAX_ADDRESS_BYTES - 2) for index in range(limits.MAX_ADDRESSES_PER_PEER)
    )
    ids = [PeerId(f"{index:064}".replace("0", "z")) for index in range(100)]
    peers = Peers(tuple(ExchangedPeer(peer, addresses) for peer in ids[:50]), tuple(ids[50:]))
    names = tuple((f"{index:032}", limits.MAX_EXTENSION_VALUE) for index in range(limits.MAX_EXTENSIONS))
    hello = Hello(MANIFEST, 1_000_000, "x" * limits.MAX_AGENT_BYTES, addresses, names)
    for message in (peers, hello):
        frame = encode(message)
        kind, size = decode_header(frame[: codec.HEADER_BYTES])
        assert size == len(frame) - codec.HEADER_BYTES
        assert decode_body(kind, frame[codec.HEADER_BYTES :]) == message


def test_unknown_extensions_are_read_and_kept():
    hello = Hello(MANIFEST, 5, extensions=(("future.thing", 3),))
    frame = encode(hello)
    assert decode_body(codec.HELLO, frame[codec.HEADER_BYTES :]) == hello


def test_peers_round_trip_keeps_the_order():
    peers = Peers((ExchangedPeer(PEER, ("/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/2")),), (OTHER,))
    frame = encode(peers)
    assert decode_body(codec.PEERS, frame[codec.HEADER_BYTES :]) == peers


def test_requests_that_are_there_as_a_whole_are_read_without_their_headers():
    frame, next_one = encode(Request(70_000)), encode(Request(3))
    behind = encode(Cancel(1))
    assert codec.whole_requests(memoryview(frame + behind)) == [70_000]
    assert codec.whole_requests(memoryview(frame + next_one + behind + frame)) == [70_000, 3]
    assert codec.whole_requests(memoryview(frame + next_one + frame[:-1])) == [70_000, 3]
    assert len(frame) == codec.REQUEST_BYTES
    for other in (frame[:-1], behind, header(5, codec.REQUEST) + bytes(5), b""):
        assert codec.whole_requests(memoryview(other)) == []
    assert len(codec.whole_requests(memoryview(1000 * frame))) == limits.MAX_REQUESTS + 1, (
        "too many are not read on"
    )
