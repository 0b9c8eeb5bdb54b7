"""Noise: libp2p's handshake, then the records of `swarm.net.record_socket`.

`noise_security` returns the ``sec_opt`` of a libp2p host. Over plain TCP, a connection becomes a
`NoiseSession` after its handshake, and `swarm.net.libp2p.muxer` takes that over. Over anything else
(WebSocket, relay, a pre-shared key) libp2p's own session stays.

Where the processor is faster with AES-256-GCM, a host speaks it too, under a protocol name of its own: it is
offered first, and `/noise` to who does not know it (decision 11).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import trio
from cryptography.exceptions import InvalidTag
from google.protobuf.message import DecodeError
from libp2p.abc import IRawConnection, ISecureConn, ISecureTransport
from libp2p.connection_types import ConnectionType
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.security.base_session import BaseSession
from libp2p.security.noise.exceptions import NoiseFailure
from libp2p.security.noise.patterns import IPattern, PatternXX
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.security.secure_session import SecureSession
from multiaddr import Multiaddr
from noise.exceptions import NoiseHandshakeError, NoiseInvalidMessage, NoiseMaxNonceError, NoiseValueError

from swarm.errors import LinkClosed, RemoteError
from swarm.mux.mux_limits import NOISE_MAX_SEALED
from swarm.mux.records import AES, BLOCK_BYTES, CHACHA, Opener, RecordCipher, Sealer
from swarm.net.libp2p import internals
from swarm.net.record_socket import RecordSocket

HANDSHAKE_SECONDS = 10.0
"""Deadline of a Noise handshake, inbound or outbound."""

AES_PROTOCOL_ID = TProtocol("/swarm/noise-aesgcm/1.0.0")
"""libp2p's handshake, with the cipher AESGCM in place of ChaChaPoly."""
AES_PATTERN = b"Noise_XX_25519_AESGCM_SHA256"
AES_GAIN = 1.3
"""AES-256-GCM is spoken where it seals this many times as fast."""

_BROKEN = (
    BaseLibp2pError,
    DecodeError,
    InvalidTag,
    NoiseHandshakeError,
    NoiseInvalidMessage,
    NoiseMaxNonceError,
    NoiseValueError,
    OSError,
    ValueError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""The exceptions that libp2p's handshake raises when the peer is hostile or disappears."""


def noise_security(key_pair: KeyPair) -> dict[TProtocol, ISecureTransport]:
    """Return the security options of a host with this identity: Noise only, the fastest cipher first.

    Use as ``new_host(key_pair=key_pair, sec_opt=noise_security(key_pair))``.
    """
    static = create_new_key_pair().private_key
    options: dict[TProtocol, ISecureTransport] = {PROTOCOL_ID: NoiseSecurity(key_pair, noise_privkey=static)}
    if _aes_is_fast():
        return {AES_PROTOCOL_ID: AesNoiseSecurity(key_pair, noise_privkey=static), **options}
    return options


@cache
def _aes_is_fast() -> bool:
    """Whether this processor has instructions for AES, found by trying: some 0.2 ms, once."""
    plaintext, sealed = memoryview(bytes(BLOCK_BYTES)), memoryview(bytearray(NOISE_MAX_SEALED))
    seconds = []
    for cipher in (AES, CHACHA):
        sealer = Sealer(bytes(32), 0, cipher)
        tries = []
        for _ in range(4):
            began = time.perf_counter()
            sealer.seal_into(plaintext, sealed)
            tries.append(time.perf_counter() - began)
        seconds.append(min(tries))
    return seconds[0] * AES_GAIN <= seconds[1]


class NoiseSecurity(Transport):
    """libp2p's Noise transport with a deadline, a single exception type and `NoiseSession`.

    Every failure of the handshake raises libp2p's NoiseFailure, which its upgrader expects.
    """

    cipher: RecordCipher = CHACHA

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        """Answer a handshake; NoiseFailure when it fails or exceeds HANDSHAKE_SECONDS."""
        with _handshake():
            session = await super().secure_inbound(conn)
        return _take_over(session, conn, self.cipher)

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        """Begin a handshake with ``peer_id``; NoiseFailure as in `secure_inbound`, or for another peer."""
        with _handshake():
            session = await super().secure_outbound(conn, peer_id)
        return _take_over(session, conn, self.cipher)


class AesNoiseSecurity(NoiseSecurity):
    """The same with AES-256-GCM."""

    cipher = AES

    def get_pattern(self) -> IPattern:
        """Return the handshake with the other cipher's name, which both ends mix into their keys."""
        pattern = super().get_pattern()
        if not isinstance(pattern, PatternXX):
            raise NoiseFailure("libp2p's handshake has changed")
        pattern.protocol_name = AES_PATTERN
        return pattern


@contextmanager
def _handshake() -> Iterator[None]:
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            yield
    except trio.TooSlowError:
        raise NoiseFailure(f"no Noise handshake within {HANDSHAKE_SECONDS:.0f} s") from None
    except NoiseFailure:
        raise
    except _BROKEN as error:
        raise NoiseFailure(f"the Noise handshake failed: {error!r}") from error


def _take_over(session: ISecureConn, conn: IRawConnection, cipher: RecordCipher) -> ISecureConn:
    stream = internals.tcp_stream(conn)
    keys = internals.cipher_keys(session)
    if stream is None or keys is None or not isinstance(session, SecureSession):
        return session
    socket = RecordSocket(
        stream,
        Sealer(keys.sending, keys.sending_nonce, cipher),
        Opener(keys.receiving, keys.receiving_nonce, cipher),
    )
    return NoiseSession(session, conn, socket)


class NoiseSession(BaseSession):
    """An authenticated connection over a `RecordSocket`.

    `read` and `write` serve the negotiation of the muxer. The muxer then calls `take_over`; from then on
    the session only closes the socket and describes the remote end.
    """

    def __init__(self, session: SecureSession, conn: IRawConnection, socket: RecordSocket) -> None:
        super().__init__(
            local_peer=session.local_peer,
            local_private_key=session.local_private_key,
            remote_peer=session.remote_peer,
            remote_permanent_pubkey=session.remote_permanent_pubkey,
            is_initiator=session.is_initiator,
        )
        self._conn = conn
        self._socket = socket
        self._unread = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly ``n`` bytes, or what is available for None; fewer when the connection ends.

        Raises ConnectionClosedError when nothing is left after the end, or for a forged record.
        """
        while len(self._unread) < (1 if n is None else n):
            try:
                await self._socket.receive(self)
            except LinkClosed as error:
                if self._unread:
                    break
                raise ConnectionClosedError(str(error), transport="tcp") from error
            except RemoteError as error:
                await self.close()
                raise ConnectionClosedError(str(error), transport="tcp") from error
        data = bytes(self._unread[:n])
        del self._unread[:n]
        return data

    def room(self) -> None:
        """Of `PlaintextSink`: everything is kept until it is read."""

    def placed(self, size: int) -> None:
        """Of `PlaintextSink`: nothing is ever placed."""

    def receive(self, block: bytearray, size: int) -> None:
        """Of `PlaintextSink`: keep the plaintext."""
        self._unread += memoryview(block)[:size]
        self._socket.blocks.give(block)

    async def write(self, data: bytes) -> None:
        """Seal ``data`` at once and send it; after a cancellation it still precedes later writes."""
        self._socket.queue(data)
        try:
            await self._socket.flush()
        except LinkClosed as error:
            raise ConnectionClosedError(str(error), transport="tcp") from error

    def take_over(self) -> tuple[RecordSocket, list[tuple[bytearray, int]]]:
        """Return the socket, and in blocks the plaintext that followed the negotiation, for the muxer."""
        unread, early = bytes(self._unread), []
        self._unread.clear()
        for start in range(0, len(unread), BLOCK_BYTES):
            part = unread[start : start + BLOCK_BYTES]
            block = self._socket.blocks.take()
            block[: len(part)] = part
            early.append((block, len(part)))
        return self._socket, early

    async def close(self) -> None:
        """Close the socket at once; never raises an error, never waits for the peer."""
        self._socket.close()
        await trio.lowlevel.checkpoint()

    def local_port(self) -> int | None:
        """The port that the connection leaves from, None if it is closed."""
        stream = internals.tcp_stream(self._conn)
        try:
            return None if stream is None else int(stream.socket.getsockname()[1])
        except OSError:
            return None

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return the remote host and port."""
        return self._conn.get_remote_address()

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Return the remote multiaddr as libp2p knows it."""
        return self._conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Return how the peer is reached: always directly."""
        return self._conn.get_connection_type()
