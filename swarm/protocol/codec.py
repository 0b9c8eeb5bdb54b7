"""Encodes and decodes messages. Source: docs/protocol.md.

A frame is ``u32 body length | u8 kind | body``, big endian. `decode_header` refuses an unknown kind and
any length that the kind cannot have, so a reader never allocates memory for a claimed length. These
functions do not handle the payload of DATA, which is read directly into the piece's buffer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, cast

from swarm.content import cbor
from swarm.content.manifest import MAX_PIECES
from swarm.content.paths import printable
from swarm.errors import LocalProtocolError, RemoteError
from swarm.ids import DIGEST_BYTES, ManifestId, PeerId, SourceId
from swarm.lazy_pattern import lazy_pattern
from swarm.protocol import protocol_limits as limits
from swarm.protocol.messages import (
    Cancel,
    Choke,
    Data,
    ExchangedPeer,
    Goodbye,
    Have,
    HaveAll,
    HaveBitfield,
    HaveNone,
    Hello,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Packed,
    Peers,
    Reject,
    RejectReason,
    Request,
    Restate,
    Unchoke,
    Withdraw,
)

_PEER_ID = lazy_pattern(
    f"[1-9A-HJ-NP-Za-km-z]{{{limits.MIN_PEER_ID_CHARS},{limits.MAX_PEER_ID_CHARS}}}", re.ASCII
)
_ADDRESS = lazy_pattern(f"/[!-~]{{1,{limits.MAX_ADDRESS_BYTES - 1}}}", re.ASCII)
_EXTENSION = lazy_pattern(f"[a-z0-9._-]{{1,{limits.MAX_EXTENSION_NAME_BYTES}}}", re.ASCII)

_HELLO_KEYS = {"version", "manifest", "pieces", "agent", "addresses", "extensions"}
_PEERS_KEYS = {"added", "dropped"}


def encode_hello(hello: Hello) -> bytes:
    """Encode the body of HELLO."""
    _check_hello(hello)
    return cbor.encode(
        {
            "version": hello.version,
            "manifest": hello.manifest.digest,
            "pieces": hello.pieces,
            "agent": hello.agent,
            "addresses": list(hello.addresses),
            "extensions": dict(hello.extensions),
        }
    )


def decode_hello(body: bytes) -> Hello:
    """Decode the body of HELLO."""
    found = _map(cbor.decode(body, max_bytes=limits.MAX_HELLO_BYTES), _HELLO_KEYS)
    digest = found["manifest"]
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"'manifest' must be {DIGEST_BYTES} bytes")
    extensions = found["extensions"]
    if not isinstance(extensions, dict):
        raise ValueError("'extensions' must be a map")  # noqa: TRY004 - malformed bytes raise one exception type
    hello = Hello(
        manifest=ManifestId(digest),
        pieces=_unsigned(found["pieces"], "pieces"),
        agent=_text(found["agent"], "agent"),
        addresses=_texts(found["addresses"], "addresses"),
        extensions=tuple(sorted((name, _unsigned(value, name)) for name, value in extensions.items())),
        version=_unsigned(found["version"], "version"),
    )
    _check_hello(hello)
    return hello


def encode_peers(peers: Peers) -> bytes:
    """Encode the body of PEERS."""
    _check_peers(peers)
    return cbor.encode(
        {
            "added": [[added.peer, list(added.addresses)] for added in peers.added],
            "dropped": list(peers.dropped),
        }
    )


def decode_peers(body: bytes) -> Peers:
    """Decode the body of PEERS."""
    found = _map(cbor.decode(body, max_bytes=limits.MAX_PEERS_BYTES), _PEERS_KEYS)
    added = found["added"]
    if not isinstance(added, list):
        raise ValueError("'added' must be a list")  # noqa: TRY004 - as above
    peers = Peers(
        added=tuple(_peer_address(entry) for entry in added),
        dropped=tuple(PeerId(SourceId(peer)) for peer in _texts(found["dropped"], "dropped")),
    )
    _check_peers(peers)
    return peers


def encode_goodbye(goodbye: Goodbye) -> bytes:
    """Encode the body of GOODBYE; its size is checked when the frame is built."""
    _check_line(goodbye.reason, limits.MAX_GOODBYE_BYTES, "reason")
    return goodbye.reason.encode("utf-8")


def decode_goodbye(body: bytes) -> Goodbye:
    """Decode the body of GOODBYE."""
    reason = body.decode("utf-8")
    _check_line(reason, limits.MAX_GOODBYE_BYTES, "reason")
    return Goodbye(reason)


def is_peer_id(text: str) -> bool:
    """Whether ``text`` has the form of a base58 peer id."""
    return _PEER_ID.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether ``text`` has the form of a multiaddr of legal length."""
    return _ADDRESS.fullmatch(text) is not None


def _check_hello(hello: Hello) -> None:
    if not 0 <= hello.pieces <= MAX_PIECES:
        raise ValueError(f"a manifest has at most {MAX_PIECES} pieces")
    _check_line(hello.agent, limits.MAX_AGENT_BYTES, "agent")
    _check_addresses(hello.addresses)
    names = [name for name, _ in hello.extensions]
    if len(names) > limits.MAX_EXTENSIONS or names != sorted(set(names)):
        raise ValueError(f"at most {limits.MAX_EXTENSIONS} extensions are allowed, each once")
    for name, value in hello.extensions:
        if not _EXTENSION.fullmatch(name) or not 0 <= value <= limits.MAX_EXTENSION_VALUE:
            raise ValueError("an extension must be a short lower-case name with an unsigned number")


def _check_peers(peers: Peers) -> None:
    if len(peers.added) > limits.MAX_PEERS_ADDED or len(peers.dropped) > limits.MAX_PEERS_DROPPED:
        raise ValueError(f"at most {limits.MAX_PEERS_ADDED} peers can be added, and as many dropped, at once")
    named = [added.peer for added in peers.added] + list(peers.dropped)
    if len(set(named)) != len(named):
        raise ValueError("a peer is named twice")
    for peer in named:
        if not is_peer_id(peer):
            raise ValueError(f"'{printable(peer[: limits.MAX_PEER_ID_CHARS])}' is not a peer id")
    for added in peers.added:
        _check_addresses(added.addresses)


def _check_addresses(addresses: tuple[str, ...]) -> None:
    if len(addresses) > limits.MAX_ADDRESSES_PER_PEER:
        raise ValueError(f"a peer can have at most {limits.MAX_ADDRESSES_PER_PEER} addresses")
    for address in addresses:
        if not is_address(address):
            raise ValueError(f"'{printable(address[: limits.MAX_ADDRESS_BYTES])}' is not an address")


def _check_line(text: str, max_bytes: int, name: str) -> None:
    if len(text.encode("utf-8")) > max_bytes:
        raise ValueError(f"'{name}' can have at most {max_bytes} bytes")
    if printable(text) != text:
        raise ValueError(f"'{name}' must be one printable line")


def _map(value: cbor.Value, keys: set[str]) -> dict[str, cbor.Value]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise ValueError(f"expected a map of {', '.join(sorted(keys))}")
    return value


def _unsigned(value: cbor.Value, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"'{printable(name)}' must be an unsigned integer")
    return value


def _text(value: cbor.Value, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"'{name}' must be text")  # noqa: TRY004 - as above
    return value


def _texts(value: cbor.Value, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"'{name}' must be a list")  # noqa: TRY004 - as above
    return tuple(_text(item, name) for item in value)


def _peer_address(value: cbor.Value) -> ExchangedPeer:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("an added peer must be a list of its id and its addresses")
    peer, addresses = value
    return ExchangedPeer(PeerId(SourceId(_text(peer, "peer"))), _texts(addresses, "addresses"))


HEADER_BYTES: Final = 5
"""Bytes of length and kind, before every body."""

DATA_HEAD_BYTES: Final = 8
"""Bytes of piece and offset, at the start of the body of DATA; the payload follows."""

DATA_FRAME_BYTES: Final = HEADER_BYTES + DATA_HEAD_BYTES
"""Bytes before the payload of DATA."""

PACKED_HEAD_BYTES: Final = 12
"""Bytes of piece, offset and size, at the start of the body of PACKED; the frame follows."""

KEEP_ALIVE: Final = 0
HELLO: Final = 1
HAVE_BITFIELD: Final = 2
HAVE_ALL: Final = 3
HAVE_NONE: Final = 4
HAVE: Final = 5
WITHDRAW: Final = 6
INTERESTED: Final = 7
NOT_INTERESTED: Final = 8
CHOKE: Final = 9
UNCHOKE: Final = 10
REQUEST: Final = 11
DATA: Final = 12
CANCEL: Final = 13
REJECT: Final = 14
PEERS: Final = 15
GOODBYE: Final = 16
RESTATE: Final = 17
PACKED: Final = 18

_HEADER = struct.Struct(">IB")
_INDEX = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">II")
_DATA_FRAME = struct.Struct(">IBII")
_INDEX_FRAME = struct.Struct(">IBI")
REQUEST_BYTES: Final = _INDEX_FRAME.size
_PACKED_HEAD = struct.Struct(">III")
_PACKED_FRAME = struct.Struct(">IBIII")
_INDEX_FRAME = struct.Struct(">IBI")
_REJECT_FRAME = struct.Struct(">IBIB")
_REJECT_BODY = struct.Struct(">IB")

_BARE: dict[int, Message] = {
    KEEP_ALIVE: KeepAlive(),
    HAVE_ALL: HaveAll(),
    HAVE_NONE: HaveNone(),
    INTERESTED: Interested(),
    NOT_INTERESTED: NotInterested(),
    CHOKE: Choke(),
    UNCHOKE: Unchoke(),
}
_BARE_FRAMES: dict[type[Message], bytes] = {type(m): _HEADER.pack(0, k) for k, m in _BARE.items()}

# The smallest and the largest body of each kind, in bytes.
_BODY_SIZES: dict[int, tuple[int, int]] = {
    **dict.fromkeys(_BARE, (0, 0)),
    HELLO: (1, limits.MAX_HELLO_BYTES),
    HAVE_BITFIELD: (1, limits.MAX_BITFIELD_BYTES),
    HAVE: (4, 4 * limits.MAX_HAVE_BATCH),
    WITHDRAW: (4, 4),
    REQUEST: (4, 4),
    DATA: (DATA_HEAD_BYTES + 1, DATA_HEAD_BYTES + limits.MAX_DATA_BYTES),
    CANCEL: (4, 4),
    REJECT: (5, 5),
    PEERS: (1, limits.MAX_PEERS_BYTES),
    GOODBYE: (0, limits.MAX_GOODBYE_BYTES),
    RESTATE: (1, limits.MAX_BITFIELD_BYTES),
    PACKED: (PACKED_HEAD_BYTES + 1, PACKED_HEAD_BYTES + limits.MAX_DATA_BYTES - 1),
}


def decode_header(header: bytes | memoryview) -> tuple[int, int]:
    """Decode a header into (kind, body size); raises RemoteError for an unknown kind or an illegal size."""
    size, kind = _HEADER.unpack(header)
    bounds = _BODY_SIZES.get(kind)
    if bounds is None:
        raise RemoteError(f"unknown message kind {kind}")
    if not bounds[0] <= size <= bounds[1]:
        raise RemoteError(f"a message of kind {kind} cannot have a body of {size} bytes")
    return kind, size


def frame_bytes(data: memoryview) -> int:
    """The bytes of the frame that ``data`` begins with, as claimed; of its header while that is not whole."""
    if len(data) < HEADER_BYTES:
        return HEADER_BYTES
    size: int = _HEADER.unpack_from(data)[0]
    return HEADER_BYTES + size


def whole_data(data: memoryview, length: int) -> int | None:
    """The piece of the DATA that ``data`` begins with, if that is all there and has ``length`` bytes from the
    piece's beginning; None for anything else."""
    if len(data) < DATA_FRAME_BYTES + length:
        return None
    size, kind, piece, offset = _DATA_FRAME.unpack_from(data)
    whole = kind == DATA and not offset and size == DATA_HEAD_BYTES + length
    return int(piece) if whole else None


def whole_requests(data: memoryview) -> list[int]:
    """The pieces of the REQUESTs that ``data`` begins with, as far as they are all there.

    No more than a peer may have outstanding, and one: that is too many already.
    """
    pieces: list[int] = []
    for size, kind, piece in _INDEX_FRAME.iter_unpack(data[: len(data) - len(data) % REQUEST_BYTES]):
        if kind != REQUEST or size != _INDEX.size or len(pieces) > limits.MAX_REQUESTS:
            break
        pieces.append(piece)
    return pieces


def decode_data_head(head: bytes | memoryview, body_size: int) -> Data:
    """Decode the ``DATA_HEAD_BYTES`` before the payload of a DATA with ``body_size`` bytes in its header."""
    piece, offset = _DATA_HEAD.unpack(head)
    return Data(piece, offset, body_size - DATA_HEAD_BYTES)


def decode_packed_head(head: bytes | memoryview, body_size: int) -> Packed:
    """Decode the ``PACKED_HEAD_BYTES`` before the frame of a PACKED with ``body_size`` bytes in its header.

    Raises RemoteError if the frame is not shorter than its payload, or that is too long.
    """
    piece, offset, size = _PACKED_HEAD.unpack(head)
    packed = body_size - PACKED_HEAD_BYTES
    if not packed < size <= limits.MAX_DATA_BYTES:
        raise RemoteError(f"{packed} bytes of packed data for {size} bytes")
    return Packed(piece, offset, size, packed)


def decode_body(kind: int, body: bytes) -> Message:
    """Decode the body of any message but DATA and PACKED; `decode_header` must have accepted its size.

    Raises RemoteError when the body is not exactly one message.
    """
    bare = _BARE.get(kind)
    if bare is not None:
        return bare
    try:
        return _DECODERS[kind](body)
    except ValueError as error:
        raise RemoteError(f"malformed message of kind {kind}: {error}") from error


def encode(message: Message) -> bytes:
    """Encode ``message`` as a frame; for `Data` and `Packed`, everything before the payload.

    Raises LocalProtocolError when the message breaks a limit.
    """
    bare = _BARE_FRAMES.get(type(message))
    if bare is not None:
        return bare
    encoder = _ENCODERS.get(type(message))
    if encoder is None:
        raise LocalProtocolError(f"no such message: {type(message).__name__}")
    try:
        return encoder(message)
    except (ValueError, struct.error) as error:
        raise LocalProtocolError(f"cannot encode {type(message).__name__}: {error}") from error


def encode_data_head(piece: int, offset: int, size: int) -> bytes:
    """Encode everything before ``size`` bytes of payload; the fast path of `encode` for senders."""
    if not 1 <= size <= limits.MAX_DATA_BYTES:
        raise LocalProtocolError(f"a DATA cannot have a payload of {size} bytes")
    return _DATA_FRAME.pack(DATA_HEAD_BYTES + size, DATA, piece, offset)


def encode_packed_head(piece: int, offset: int, size: int, packed: int) -> bytes:
    """Encode everything before the ``packed`` bytes of the frame of a PACKED that holds ``size`` bytes."""
    if not 1 <= packed < size <= limits.MAX_DATA_BYTES:
        raise LocalProtocolError(f"a PACKED cannot hold {size} bytes in {packed}")
    return _PACKED_FRAME.pack(PACKED_HEAD_BYTES + packed, PACKED, piece, offset, size)


def _frame(kind: int, body: bytes) -> bytes:
    low, high = _BODY_SIZES[kind]
    if not low <= len(body) <= high:
        raise ValueError(f"{len(body)} bytes, but {low} to {high} are allowed")
    return _HEADER.pack(len(body), kind) + body


def _encode_have(message: Message) -> bytes:
    pieces = cast(Have, message).pieces
    return _frame(HAVE, struct.pack(f">{len(pieces)}I", *pieces))


def _decode_have(body: bytes) -> Have:
    count, rest = divmod(len(body), _INDEX.size)
    if rest:
        raise ValueError("a list of pieces is a multiple of 4 bytes")
    return Have(struct.unpack(f">{count}I", body))


def _encode_data(message: Message) -> bytes:
    data = cast(Data, message)
    return encode_data_head(data.piece, data.offset, data.size)


def _encode_packed(message: Message) -> bytes:
    packed = cast(Packed, message)
    return encode_packed_head(packed.piece, packed.offset, packed.size, packed.packed)


def _encode_reject(message: Message) -> bytes:
    reject = cast(Reject, message)
    return _REJECT_FRAME.pack(_REJECT_BODY.size, REJECT, reject.piece, reject.reason)


def _decode_reject(body: bytes) -> Reject:
    piece, reason = _REJECT_BODY.unpack(body)
    return Reject(piece, RejectReason(reason))


def _index_encoder(kind: int) -> Callable[[Message], bytes]:
    def encode_index(message: Message) -> bytes:
        return _INDEX_FRAME.pack(_INDEX.size, kind, cast(Request, message).piece)

    return encode_index


_ENCODERS: dict[type[Message], Callable[[Message], bytes]] = {
    Hello: lambda m: _frame(HELLO, encode_hello(cast(Hello, m))),
    HaveBitfield: lambda m: _frame(HAVE_BITFIELD, cast(HaveBitfield, m).data),
    Have: _encode_have,
    Withdraw: _index_encoder(WITHDRAW),
    Request: _index_encoder(REQUEST),
    Data: _encode_data,
    Packed: _encode_packed,
    Cancel: _index_encoder(CANCEL),
    Reject: _encode_reject,
    Peers: lambda m: _frame(PEERS, encode_peers(cast(Peers, m))),
    Goodbye: lambda m: _frame(GOODBYE, encode_goodbye(cast(Goodbye, m))),
    Restate: lambda m: _frame(RESTATE, cast(Restate, m).data),
}

_DECODERS: dict[int, Callable[[bytes], Message]] = {
    HELLO: decode_hello,
    HAVE_BITFIELD: HaveBitfield,
    HAVE: _decode_have,
    WITHDRAW: lambda body: Withdraw(*_INDEX.unpack(body)),
    REQUEST: lambda body: Request(*_INDEX.unpack(body)),
    CANCEL: lambda body: Cancel(*_INDEX.unpack(body)),
    REJECT: _decode_reject,
    PEERS: decode_peers,
    GOODBYE: decode_goodbye,
    RESTATE: Restate,
}
