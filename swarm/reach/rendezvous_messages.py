"""Messages of the rendezvous protocol, and the namespace under which a manifest is met.

Source: the libp2p specification ``rendezvous/README.md``, as go and rust implement it. One field is ours: a
question may say how many seconds it waits for a peer to come (`WAIT_FIELD`); others ignore it and answer at
once. Another is in a registration: it ends with the stream that it was sent on (`PRESENCE_FIELD`).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

from swarm.errors import RemoteError
from swarm.ids import ManifestId
from swarm.reach.protobuf import Fields, decode, encode
from swarm.reach.reach_limits import MAX_FOUND, MAX_NAMESPACE_BYTES, MAX_WAIT

RENDEZVOUS_PROTOCOL = "/rendezvous/1.0.0"
WAIT_FIELD = 15
PRESENCE_FIELD = 15
MAX_COOKIE_BYTES = 64

_CONTEXT = "swarm 2026-11 the namespace of a manifest at a meeting point"
_PREFIX = "swarm/1/"
_MAX_TEXT_CHARS = 200


def namespace_of(manifest: ManifestId) -> str:
    """Where peers of a manifest meet: a hash of its id, which gives nobody access to the manifest."""
    digest = blake3(manifest.digest, derive_key_context=_CONTEXT).digest()
    return _PREFIX + base64.b32encode(digest).decode("ascii").rstrip("=").lower()


class RendezvousStatus(IntEnum):
    """How a rendezvous server answers."""

    OK = 0
    INVALID_NAMESPACE = 100
    INVALID_RECORD = 101
    INVALID_TTL = 102
    INVALID_COOKIE = 103
    NOT_AUTHORIZED = 200
    INTERNAL_ERROR = 300
    UNAVAILABLE = 400


class _Kind(IntEnum):
    REGISTER = 0
    REGISTER_RESPONSE = 1
    UNREGISTER = 2
    DISCOVER = 3
    DISCOVER_RESPONSE = 4


@dataclass(frozen=True, slots=True)
class Register:
    """Note the sender under ``namespace`` for ``ttl`` seconds (None: the server's choice).

    ``present``: until the stream ends, if that is sooner.
    """

    namespace: str
    record: bytes = b""
    ttl: int | None = None
    present: bool = False


@dataclass(frozen=True, slots=True)
class RegisterResponse:
    """What became of it; ``ttl`` is the time that was granted."""

    status: int
    text: str = ""
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Unregister:
    """Forget the sender under ``namespace``."""

    namespace: str


@dataclass(frozen=True, slots=True)
class Discover:
    """Who is under ``namespace``? With the ``cookie`` of an answer, only who came after it."""

    namespace: str
    limit: int = MAX_FOUND
    cookie: bytes = b""
    wait: int = 0


@dataclass(frozen=True, slots=True)
class DiscoverResponse:
    """The records of peers, and the cookie for the next question."""

    status: int
    records: tuple[Register, ...] = ()
    cookie: bytes = b""
    text: str = ""


RendezvousMessage = Register | RegisterResponse | Unregister | Discover | DiscoverResponse


def encode_rendezvous(message: RendezvousMessage) -> bytes:
    """The message without its length."""
    match message:
        case Register():
            return encode([(1, _Kind.REGISTER), (2, _register(message))])
        case RegisterResponse(status, text, ttl):
            body = encode([(1, int(status)), (2, text.encode() or None), (3, ttl or None)])
            return encode([(1, _Kind.REGISTER_RESPONSE), (3, body)])
        case Unregister(namespace):
            return encode([(1, _Kind.UNREGISTER), (4, encode([(1, namespace.encode())]))])
        case Discover(namespace, limit, cookie, wait):
            question = encode(
                [(1, namespace.encode()), (2, limit), (3, cookie or None), (WAIT_FIELD, wait or None)]
            )
            return encode([(1, _Kind.DISCOVER), (5, question)])
        case DiscoverResponse(status, records, cookie, text):
            found: list[tuple[int, int | bytes | None]] = [(1, _register(each)) for each in records]
            found += [(2, cookie or None), (3, int(status)), (4, text.encode() or None)]
            return encode([(1, _Kind.DISCOVER_RESPONSE), (6, encode(found))])


def decode_rendezvous(data: bytes) -> RendezvousMessage:
    """Read a message; raises RemoteError."""
    fields = decode(data)
    kind = fields.number(1, 0)
    body = fields.message({0: 2, 1: 3, 2: 4, 3: 5, 4: 6}.get(kind, 0)) if kind in range(5) else None
    if body is None:
        raise RemoteError("a rendezvous message says nothing")
    match kind:
        case _Kind.REGISTER:
            return _read_register(body)
        case _Kind.REGISTER_RESPONSE:
            return RegisterResponse(body.number(1, 0), body.text(2)[:_MAX_TEXT_CHARS], body.number(3, 0))
        case _Kind.UNREGISTER:
            return Unregister(_namespace(body))
        case _Kind.DISCOVER:
            wait = min(body.number(WAIT_FIELD, 0), MAX_WAIT)
            limit = min(body.number(2, 0) or MAX_FOUND, MAX_FOUND)
            return Discover(_namespace(body), limit, _cookie(body, 3), wait)
        case _:
            records = tuple(map(_read_register, body.messages(1)))
            if len(records) > MAX_FOUND:
                raise RemoteError(f"an answer names more than {MAX_FOUND} peers")
            return DiscoverResponse(
                body.number(3, 0), records, _cookie(body, 2), body.text(4)[:_MAX_TEXT_CHARS]
            )


def _register(message: Register) -> bytes:
    named = [(1, message.namespace.encode()), (2, message.record or None), (3, message.ttl)]
    return encode([*named, (PRESENCE_FIELD, int(message.present) or None)])


def _read_register(fields: Fields) -> Register:
    ttl = fields.number(3, 0) or None
    present = bool(fields.number(PRESENCE_FIELD, 0))
    return Register(_namespace(fields), fields.one_bytes(2) or b"", ttl, present)


def _namespace(fields: Fields) -> str:
    name = fields.text(1)
    if not 0 < len(name.encode()) <= MAX_NAMESPACE_BYTES:
        raise RemoteError(f"a namespace has 1 to {MAX_NAMESPACE_BYTES} bytes")
    return name


def _cookie(fields: Fields, number: int) -> bytes:
    cookie = fields.one_bytes(number) or b""
    if len(cookie) > MAX_COOKIE_BYTES:
        raise RemoteError("a cookie is too long")
    return cookie
