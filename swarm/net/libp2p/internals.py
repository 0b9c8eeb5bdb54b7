"""Every private name of libp2p and noiseprotocol that this project depends on.

`check` runs when a host starts and tries each of them, so that an incompatible version of libp2p fails with
one clear message instead of a misbehaving connection.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import trio
from libp2p.abc import IRawConnection, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp import tcp
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr
from noise.connection import NoiseConnection

from swarm.endpoint import Endpoint
from swarm.errors import SwarmError
from swarm.installed import version_of
from swarm.lazy_dataclass import dataclass
from swarm.net.libp2p import partial_import

EXPECTED = partial_import.MADE_FOR
"""The version of libp2p that these names belong to."""

_NOISE_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
_KEY_BYTES = 32
_ARGUMENTS_OF_INBOUND = 3
_ARGUMENTS_OF_LISTENING = 2
LISTEN_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class CipherKeys:
    """The result of a Noise handshake: a 32-byte key and the next nonce for each direction."""

    sending: bytes
    sending_nonce: int
    receiving: bytes
    receiving_nonce: int


def cipher_keys(session: ISecureConn) -> CipherKeys | None:
    """Return the ciphers of a session made by libp2p's Noise transport; None for any other session."""
    if type(session) is not SecureSession or type(session.conn) is not NoiseTransportReadWriter:
        return None
    return _keys_of(session.conn.noise_state)


def _keys_of(noise: Any) -> CipherKeys:
    sending = noise.noise_protocol.cipher_state_encrypt
    receiving = noise.noise_protocol.cipher_state_decrypt
    return CipherKeys(sending.k, sending.n, receiving.k, receiving.n)


def tcp_stream(connection: IRawConnection) -> trio.SocketStream | None:
    """Return the trio stream under a plain TCP connection; None for WebSocket, relay or anything wrapped."""
    if type(connection) is not RawConnection or type(connection.stream) is not TrioTCPStream:
        return None
    stream = connection.stream.stream
    return stream if type(stream) is trio.SocketStream else None


class DirectTcp(TCP):
    """libp2p's TCP, which connects to an IP address directly.

    libp2p forgets the zone of a link-local address, and asks the resolver for every address, which loads
    the tables of international names.
    """

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Dial; raises OpenConnectionError."""
        endpoint = Endpoint.read(str(maddr).partition("/p2p/")[0])
        if endpoint is None or not endpoint.is_ip:
            return await super().dial(maddr)
        try:
            if endpoint.zone:
                stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            else:
                stream = await _connect(endpoint)
        except OSError as error:
            raise OpenConnectionError(str(error)) from error
        return RawConnection(TrioTCPStream(stream), initiator=True)


async def _connect(endpoint: Endpoint) -> trio.SocketStream:
    """Connect to an IP endpoint without a zone; raises OSError."""
    made = trio.socket.socket(_family(endpoint), socket.SOCK_STREAM)
    try:
        await made.connect((endpoint.host, endpoint.port))
    except BaseException:
        made.close()
        raise
    return trio.SocketStream(made)


def _family(endpoint: Endpoint) -> socket.AddressFamily:
    return socket.AF_INET6 if endpoint.kind == "ip6" else socket.AF_INET


async def connect_from(port: int, endpoint: Endpoint) -> trio.SocketStream:
    """Connect to an IP endpoint from a port that this node listens on; raises OSError."""
    six = endpoint.kind == "ip6"
    made = trio.socket.socket(_family(endpoint), socket.SOCK_STREAM)
    try:
        tcp._set_reuse_flags(made)  # noqa: SLF001 - see above
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await made.bind(("::" if six else "0.0.0.0", port))  # noqa: S104 - any address leads there
        await made.connect((endpoint.host, endpoint.port))
    except BaseException:
        made.close()
        raise
    return trio.SocketStream(made)


def raw_connection(stream: trio.SocketStream, *, initiator: bool, through: str = "") -> RawConnection:
    """Wrap a socket for libp2p; ``through`` is the multiaddr of a circuit that it leads into, if it does."""
    if not through:
        return RawConnection(TrioTCPStream(stream), initiator=initiator)
    return RawConnection(
        TrioTCPStream(stream), initiator, ConnectionType.RELAYED, addresses=[Multiaddr(through)]
    )


async def upgrade_outbound(network: Swarm, raw: RawConnection, peer: str) -> SwarmConn:
    """Secure a connection to ``peer`` that this end began, and add it to the network; closes it otherwise.

    libp2p leaves the socket open where this is cancelled during the Noise handshake.
    """
    try:
        return await network.upgrade_outbound_raw_conn(raw, ID.from_base58(peer))
    except BaseException:
        # The socket is closed before anything is waited for.
        await raw.close()
        raise


def name_ipv6_remotes() -> None:
    """Let libp2p's TCP streams name the other end of IPv6 connections, too; a link-local one with its zone.

    libp2p takes the four parts of such an address for an error and names nobody.
    """
    TrioTCPStream.get_remote_address = _remote_of  # type: ignore[method-assign, assignment]


def _remote_of(stream: TrioTCPStream) -> tuple[str, int] | None:
    if stream._cached_remote_address is None:  # noqa: SLF001 - see above
        try:
            host, port, *rest = stream.stream.socket.getpeername()
            zone = rest[1] if len(rest) > 1 else 0
            where = f"{host}%{socket.if_indextoname(zone)}" if zone else str(host)
        except (OSError, ValueError):  # closed, or the end of a socket pair
            return None
        stream._cached_remote_address = where, int(port)  # noqa: SLF001
    return stream._cached_remote_address  # noqa: SLF001


def listen_with_one_family() -> None:
    """Let libp2p's TCP sockets for IPv6 take no IPv4 connections, and none share a port with another process.

    On Linux they would, and could share a port with the socket for IPv4, which then would not get them.
    """
    tcp._open_reuseport_listeners = _open_listeners  # noqa: SLF001 - see above


async def _open_listeners(host: str | None, port: int) -> list[trio.SocketListener]:
    if host is None:
        raise OpenConnectionError("no address to listen on")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        # With SO_REUSEPORT before it is bound, two processes could listen on one port and take turns.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await made.bind((host, port))
        # From here on a dial may leave from this port, too.
        tcp._set_reuse_flags(made)  # noqa: SLF001 - see above
        made.listen(LISTEN_BACKLOG)
    except OSError as error:
        made.close()
        raise OpenConnectionError(f"Failed to listen on {host}:{port}: {error}") from error
    return [trio.SocketListener(made)]


def install_muxer(network: Swarm, muxer: MuxerMultistream) -> None:
    """Make ``network`` negotiate and build its muxed connections with ``muxer``."""
    network.upgrader.muxer_multistream = muxer


def negotiate_timeout(network: Swarm) -> int:
    """Return the seconds that ``network`` allows for negotiating a muxer."""
    return network.upgrader.muxer_multistream.negotiate_timeout


def take_inbound(
    network: Swarm, accept: Callable[[ReadWriteCloser, Multiaddr], Coroutine[Any, Any, None]]
) -> None:
    """Pass every inbound connection to ``accept``; the socket is closed when ``accept`` returns."""
    network._handle_inbound_connection = accept  # type: ignore[method-assign, assignment]  # noqa: SLF001 - see above


def read_negotiations_with(read: Callable[[MultiselectCommunicator], Awaitable[str]]) -> None:
    """Read every multistream-select message in this process with ``read``."""
    MultiselectCommunicator.read = read  # type: ignore[method-assign, assignment]


def propose_with(select: Callable[..., Awaitable[TProtocol]]) -> None:
    """Propose protocols, in every negotiation of this process, with ``select``."""
    MultiselectClient.select_one_of = select  # type: ignore[method-assign, assignment]


def replace_auto_connector(network: Swarm, connector: AutoConnector) -> None:
    """Let ``connector`` decide which peers ``network`` dials on its own."""
    network.auto_connector = connector


def check() -> None:
    """Try every name in this module; raises SwarmError, naming the version to install, if one is missing."""
    try:
        _check_handshake()
        _check_tcp()
        _check_listening()
        _check_upgrader()
        _check_network()
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        found = version_of("libp2p")
        raise SwarmError(f"libp2p {found} is not supported ({error}): install libp2p=={EXPECTED}") from error


def _check_handshake() -> None:
    """Run a Noise NN handshake in memory and compare the two ends' ciphers."""
    ends = [NoiseConnection.from_name(_NOISE_NAME.replace(b"XX", b"NN")) for _ in range(2)]
    ends[0].set_as_initiator()
    ends[1].set_as_responder()
    for end in ends:
        end.start_handshake()
    ends[1].read_message(ends[0].write_message())
    ends[0].read_message(ends[1].write_message())
    ours, theirs = (_keys_of(NoiseTransportReadWriter(_NullConnection(), end).noise_state) for end in ends)
    if len(ours.sending) != _KEY_BYTES or ours.sending != theirs.receiving or ours.sending_nonce != 0:
        raise ValueError("its Noise ciphers have moved")


class _NullConnection(IRawConnection):
    """A connection that carries nothing."""

    is_initiator = True

    async def read(self, n: int | None = None) -> bytes:  # noqa: ARG002 - the interface's argument
        return b""

    async def write(self, data: bytes) -> None:
        pass

    async def close(self) -> None:
        pass

    def get_remote_address(self) -> None:
        return None

    def get_transport_addresses(self) -> list[Any]:
        return []

    def get_connection_type(self) -> Any:
        return None


def _check_tcp() -> None:
    stream = trio.SocketStream.__new__(trio.SocketStream)
    made = TrioTCPStream(stream)
    if tcp_stream(RawConnection(made, initiator=True)) is not stream:
        raise ValueError("its TCP stream has moved")
    if made._cached_remote_address is not None:  # noqa: SLF001 - see above
        raise ValueError("its remote address has moved")


def _check_listening() -> None:
    for name, arguments in (("_open_reuseport_listeners", _ARGUMENTS_OF_LISTENING), ("_set_reuse_flags", 1)):
        if len(inspect.signature(getattr(tcp, name)).parameters) != arguments:
            raise TypeError(f"its TCP listener has changed: {name}")


def _check_upgrader() -> None:
    upgrader = TransportUpgrader({}, {})
    if not isinstance(upgrader.muxer_multistream, MuxerMultistream):
        raise TypeError("its muxer negotiation has moved")
    for name in ("_selector", "negotiate_timeout"):
        getattr(upgrader.muxer_multistream, name)
    getattr(MuxerMultistream, "_annotate_connection")  # noqa: B009 - the name is what is checked


def _check_network() -> None:
    taken = list(inspect.signature(Swarm._handle_inbound_connection).parameters)  # noqa: SLF001 - see above
    if len(taken) != _ARGUMENTS_OF_INBOUND:
        raise TypeError("its handling of inbound connections has changed")
    for owner, name in (
        (AutoConnector, "maybe_connect"),
        (MultiselectCommunicator, "read"),
        (MultiselectClient, "select_one_of"),
    ):
        if not inspect.iscoroutinefunction(vars(owner).get(name)):
            raise TypeError(f"its {owner.__name__}.{name} has changed")
    if MultiselectCommunicator(_NullConnection()).read_writer is None:
        raise TypeError("its negotiation reader has moved")
