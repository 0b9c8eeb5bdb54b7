"""The codec under any chunking and any garbage."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import RemoteError
from swarm.ids import ManifestId, PeerId
from swarm.protocol import messages
from swarm.protocol import protocol_limits as limits
from swarm.protocol.codec import encode
from tests.support.wire_decoder import Decoder, Frame

U32 = st.integers(0, (1 << 32) - 1)
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
PEER_IDS = st.text(BASE58, min_size=32, max_size=64).map(PeerId)
ADDRESSES = st.lists(
    st.text(string.ascii_letters + string.digits + "/.:-", max_size=60).map("/a{}".format), max_size=8
).map(tuple)
LINES = st.text(string.ascii_letters + " äß漢", max_size=16)
EXTENSIONS = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1, max_size=32), st.integers(0, 1 << 52), max_size=8
).map(lambda found: tuple(sorted(found.items())))
HELLOS = st.builds(
    messages.Hello,
    st.binary(min_size=32, max_size=32).map(ManifestId),
    st.integers(0, 1_000_000),
    LINES,
    ADDRESSES,
    EXTENSIONS,
    st.integers(0, 5),
)


@st.composite
def peers(draw):
    ids = draw(st.lists(PEER_IDS, unique=True, max_size=6))
    cut = draw(st.integers(0, len(ids)))
    added = tuple(messages.ExchangedPeer(peer, draw(ADDRESSES)) for peer in ids[:cut])
    return messages.Peers(added, tuple(ids[cut:]))


CONTROL = st.one_of(
    st.sampled_from(
        [
            messages.HaveAll(),
            messages.HaveNone(),
            messages.Interested(),
            messages.NotInterested(),
            messages.Choke(),
            messages.Unchoke(),
            messages.KeepAlive(),
        ]
    ),
    st.builds(messages.Request, U32),
    st.builds(messages.Cancel, U32),
    st.builds(messages.Withdraw, U32),
    st.builds(messages.Reject, U32, st.sampled_from(messages.RejectReason)),
    st.builds(messages.Have, st.lists(U32, min_size=1, max_size=20).map(tuple)),
    st.builds(messages.HaveBitfield, st.binary(min_size=1, max_size=40)),
    st.builds(messages.Restate, st.binary(min_size=1, max_size=40)),
    st.builds(messages.Goodbye, LINES),
    HELLOS,
    peers(),
)
FRAMES = st.lists(
    st.one_of(
        CONTROL.map(lambda message: Frame(message, b"")),
        st.builds(
            lambda piece, offset, payload: Frame(messages.Data(piece, offset, len(payload)), payload),
            U32,
            U32,
            st.binary(min_size=1, max_size=50),
        ),
    ),
    max_size=8,
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 30), max_size=20))
def test_frames_survive_any_chunking(frames, sizes):
    stream = b"".join(encode(message) + payload for message, payload in frames)
    decoder = Decoder()
    found = [frame for part in cut(stream, sizes) for frame in decoder.feed(part)]
    assert found == frames


def outcome(parts: list[bytes]) -> tuple[list[Frame], str | None]:
    decoder = Decoder()
    found: list[Frame] = []
    for part in parts:
        try:
            found += decoder.feed(part)
        except RemoteError as error:
            return found, str(error)
    return found, None


GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda kind, body: len(body).to_bytes(4, "big") + bytes([kind]) + body,
        st.integers(0, 18),
        st.binary(max_size=64),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(GARBAGE, max_size=4).map(b"".join))
def test_garbage_ends_in_the_declared_error_alike_under_any_chunking(data):
    # Byte by byte the frames before the offence come out; the error is the same one.
    singly = outcome([data[index : index + 1] for index in range(len(data))])
    at_once = outcome([data])
    assert singly[1] == at_once[1]
    if at_once[1] is None:
        assert singly[0] == at_once[0]
    else:
        assert "\n" not in at_once[1]


@settings(max_examples=200, deadline=None)
@given(st.one_of(HELLOS, peers()), st.data())
def test_a_changed_byte_is_another_message_or_an_error(message, data):
    """One value has one encoding: what decodes again encodes to the very bytes that were read."""
    frame = bytearray(encode(message))
    at = data.draw(st.integers(5, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    found, error = outcome([bytes(frame)])
    if error is None:
        assert found[0].message != message
        assert encode(found[0].message) == bytes(frame)


def test_a_claimed_length_is_not_buffered():
    decoder = Decoder()
    with pytest.raises(RemoteError):
        decoder.feed((limits.MAX_DATA_BYTES + 9).to_bytes(4, "big") + b"\x0c")
