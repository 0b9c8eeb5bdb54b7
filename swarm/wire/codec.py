"""Messages to bytes and back. Source: docs/protocol.md.

A frame is ``u32 body length | u8 kind | body``, big endian. `decode_header` refuses an unknown kind or
a length that the kind cannot have, so that a reader never allocates what a peer merely claims.
The payload of DATA is not part of these functions: it goes straight into the piece's buffer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, cast

from swarm.errors import RemoteError
from swarm.wire import fields, limits
from swarm.wire.errors import LocalProtocolError
from swarm.wire.messages import (
    Cancel,
    Choke,
    Data,
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
    Peers,
    Reject,
    RejectReason,
    Request,
    Unchoke,
    Withdraw,
)

HEADER_BYTES: Final = 5
"""Length and kind, before every body."""

DATA_HEAD_BYTES: Final = 8
"""Piece and offset, at the start of DATA's body; the payload follows."""

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

_U32_MAX: Final = (1 << 32) - 1
_HEADER = struct.Struct(">IB")
_INDEX = struct.Struct(">I")
_DATA_HEAD = struct.Struct(">II")
_DATA_FRAME = struct.Struct(">IBII")
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

# The least and the greatest body of each kind.
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
}


def decode_header(header: bytes) -> tuple[int, int]:
    """Read ``HEADER_BYTES`` and return (kind, body size); raises RemoteError for what no body may be."""
    size, kind = _HEADER.unpack(header)
    bounds = _BODY_SIZES.get(kind)
    if bounds is None:
        raise RemoteError(f"unknown message kind {kind}")
    if not bounds[0] <= size <= bounds[1]:
        raise RemoteError(f"a message of kind {kind} cannot have {size} bytes")
    return kind, size


def decode_data_head(head: bytes, body_size: int) -> Data:
    """Read the ``DATA_HEAD_BYTES`` before the payload of a DATA whose header said ``body_size``."""
    piece, offset = _DATA_HEAD.unpack(head)
    return Data(piece, offset, body_size - DATA_HEAD_BYTES)


def decode_body(kind: int, body: bytes) -> Message:
    """Read the body of any message but DATA, whose size `decode_header` has accepted.

    Raises RemoteError with one line when the body is not exactly one message.
    """
    bare = _BARE.get(kind)
    if bare is not None:
        return bare
    try:
        return _DECODERS[kind](body)
    except ValueError as error:
        raise RemoteError(f"malformed message of kind {kind}: {error}") from error


def encode(message: Message) -> bytes:
    """The frame of ``message``; of `Data` all that precedes the payload.

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
    """What precedes ``size`` bytes of payload; the sender's fast path of `encode`."""
    if not 1 <= size <= limits.MAX_DATA_BYTES:
        raise LocalProtocolError(f"a DATA cannot carry {size} bytes")
    return _DATA_FRAME.pack(DATA_HEAD_BYTES + size, DATA, piece, offset)


def _frame(kind: int, body: bytes) -> bytes:
    low, high = _BODY_SIZES[kind]
    if not low <= len(body) <= high:
        raise ValueError(f"{len(body)} bytes where {low} to {high} are allowed")
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
    Hello: lambda m: _frame(HELLO, fields.encode_hello(cast(Hello, m))),
    HaveBitfield: lambda m: _frame(HAVE_BITFIELD, cast(HaveBitfield, m).data),
    Have: _encode_have,
    Withdraw: _index_encoder(WITHDRAW),
    Request: _index_encoder(REQUEST),
    Data: _encode_data,
    Cancel: _index_encoder(CANCEL),
    Reject: _encode_reject,
    Peers: lambda m: _frame(PEERS, fields.encode_peers(cast(Peers, m))),
    Goodbye: lambda m: _frame(GOODBYE, fields.encode_goodbye(cast(Goodbye, m))),
}

_DECODERS: dict[int, Callable[[bytes], Message]] = {
    HELLO: fields.decode_hello,
    HAVE_BITFIELD: HaveBitfield,
    HAVE: _decode_have,
    WITHDRAW: lambda body: Withdraw(*_INDEX.unpack(body)),
    REQUEST: lambda body: Request(*_INDEX.unpack(body)),
    CANCEL: lambda body: Cancel(*_INDEX.unpack(body)),
    REJECT: _decode_reject,
    PEERS: fields.decode_peers,
    GOODBYE: fields.decode_goodbye,
}
