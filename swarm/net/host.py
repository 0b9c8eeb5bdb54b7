"""A libp2p host that survives: Noise and Yamux only, guarded handlers, deadlines, own admission.

Every fault of py-libp2p 0.8.1 that is mended here is named where it is mended; the list with the
place of each is in ``docs/decisions/0001-libp2p-faults.md``.
"""

from __future__ import annotations

import logging
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import libp2p
import multiaddr
import trio
from libp2p.abc import INetConn, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from swarm.endpoint import Endpoint
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError, SwarmError, UsageError
from swarm.ids import PeerId, SourceId
from swarm.net import addresses, admission
from swarm.net import network_limits as limits
from swarm.net.admission import sockets_allowed
from swarm.net.dialer import Telling, dial_any, resolved
from swarm.net.inbound import PeerStanding
from swarm.net.libp2p import internals, muxer, negotiation, noise_session
from swarm.net.muxed_connection import MuxedConnection
from swarm.net.streams import ENDED, NegotiatedStream, shielded

logger = logging.getLogger(__name__)

CONNECT_DEADLINE = 10.0
"""Seconds that one connect may take over all addresses of a peer."""
PING_DEADLINE = 5.0
"""Seconds after which a ping over a connection counts as lost."""
LISTEN_PORTS = range(20_000, 32_000)
"""Where any port will do: below those that systems give to connections that go out."""
PORTS_TRIED = 20
Handler = Callable[[NegotiatedStream], Awaitable[None]]


COPIED = "if its folder (SWARM_HOME) was copied from another machine, remove the copy to get a key of its own"


class _Connecting:
    """One connect that is under way; others to the same peer wait for it."""

    def __init__(self, where: Sequence[Endpoint]) -> None:
        self._where = frozenset(where)
        self.ended = trio.Event()
        self.error: NoPeerReachable | None = None

    def raise_failure(self, where: Sequence[Endpoint]) -> None:
        """Raise what it failed with, if it tried all of ``where``."""
        if self.error is not None and self._where.issuperset(where):
            raise NoPeerReachable(str(self.error), telling=self.error.telling)


class Host:
    """One libp2p node; made by `open_host`. All methods are for the trio thread that made it."""

    def __init__(self, inner: BasicHost, network: Swarm, gate: admission.Admission) -> None:
        self._inner = inner
        self._network = network
        self._gate = gate
        self._connecting: dict[PeerId, _Connecting] = {}

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return PeerId(SourceId(self._inner.get_id().to_base58()))

    @property
    def addresses(self) -> tuple[str, ...]:
        """The dialable addresses of this node with ``/p2p/<id>``; never an unspecified one."""
        listening = [Endpoint.parse(str(address)) for address in self._inner.get_transport_addrs()]
        return tuple(f"{endpoint}/p2p/{self.peer_id}" for endpoint in addresses.concrete(listening))

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that this node listens on."""
        listening = (Endpoint.parse(str(address)) for address in self._inner.get_transport_addrs())
        return tuple(dict.fromkeys(endpoint.port for endpoint in listening))

    def serve(self, protocol: str, handler: Handler, *, most: int | None = None) -> None:
        """Answer ``protocol`` with ``handler``; whatever it raises ends its stream only.

        A RemoteError closes the connection: its peer has broken a rule. One peer is answered on at most
        ``most`` streams at a time, None for no limit but the link's.
        """
        answering: Counter[PeerId] = Counter()

        async def guarded(stream: INetStream) -> None:
            link = self._link(stream)
            if most is not None and answering[link.peer] >= most:
                await link.reset()
                await self._gate.offended(stream.muxed_conn)
                return
            answering[link.peer] += 1
            try:
                await handler(link)
            except RemoteError as error:
                logger.debug("%s from %s: %s", protocol, link.peer, error)
                await self._gate.close(stream.muxed_conn)
            except SwarmError as error:
                logger.debug("%s from %s: %s", protocol, link.peer, error)
                await link.reset()
            else:
                await link.close()
            finally:
                answering.subtract((link.peer,))
                if not answering[link.peer]:
                    del answering[link.peer]

        self._inner.set_stream_handler(TProtocol(protocol), guarded)

    def judge_by(self, standing: Callable[[PeerId], PeerStanding]) -> None:
        """Let ``standing`` say what a peer is to this node, for when not all connections can be kept."""
        self._gate.judge_by(standing)

    def proven(self, peer: PeerId) -> None:
        """Pieces are exchanged with the peer: its connection is kept in preference to others."""
        self._gate.proven(peer)

    async def connect(
        self, peer: PeerId, where: Sequence[Endpoint], deadline: float = CONNECT_DEADLINE
    ) -> str:
        """Reach ``peer`` at any of the endpoints ``where``, or use an open connection.

        Returns the multiaddr that answered. Raises NoPeerReachable after ``deadline`` seconds or
        when every address failed. A connect never pays libp2p's happy-eyeballs delay. Connects to one
        peer at the same time make one connection.
        """
        if peer == self.peer_id:
            raise NoPeerReachable(
                f"that is this node itself, or another with the same key: {COPIED}", telling=Telling.OURSELVES
            )
        while (earlier := self._connecting.get(peer)) is not None:
            await earlier.ended.wait()
            if not self.connected(peer):
                earlier.raise_failure(where)
        if self.connected(peer):
            return self.remote_address(peer)
        attempt = self._connecting[peer] = _Connecting(where)
        try:
            return await self._dial(peer, where, deadline)
        except NoPeerReachable as error:
            attempt.error = error
            raise
        finally:
            del self._connecting[peer]
            attempt.ended.set()

    async def _dial(self, peer: PeerId, where: Sequence[Endpoint], deadline: float) -> str:
        if not self._gate.room_to_dial(peer):
            raise NoPeerReachable(
                "this node has as many connections as it may: raise `ulimit -n`", telling=Telling.OURSELVES
            )

        async def dial_one(endpoint: Endpoint) -> None:
            await self._network.dial_addr(multiaddr.Multiaddr(str(endpoint)), ID.from_base58(peer))

        async def dial_name(endpoint: Endpoint) -> None:
            found = await resolved(endpoint)
            await (dial_one(found[0]) if len(found) == 1 else dial_any(found, dial_one, deadline))

        return str(await dial_any(where, dial_name, deadline))

    def connected(self, peer: PeerId) -> bool:
        """Whether a connection to ``peer`` is open."""
        return self._connection(peer) is not None

    def remote_address(self, peer: PeerId) -> str:
        """The other end of the open connection to ``peer``, or an empty string."""
        connection = self._connection(peer)
        return "" if connection is None else _address_of(connection)

    def converses(self, peer: PeerId, *, besides: str) -> bool:
        """Whether a stream of either end is open on the connection to ``peer``, of another protocol."""
        connection = self._connection(peer)
        streams = [] if connection is None else connection.get_streams()
        return any(str(stream.get_protocol() or besides) != besides for stream in streams)

    def traffic(self, peer: PeerId) -> int:
        """Bytes moved so far on the open connection to ``peer``, both directions together; 0 without one."""
        connection = self._connection(peer)
        return 0 if connection is None else int(getattr(connection.muxed_conn, "traffic", 0))

    async def ping(self, peer: PeerId) -> float | None:
        """Seconds of one round trip over the open connection to ``peer``; None when it was lost."""
        await trio.lowlevel.checkpoint()
        connection = self._connection(peer)
        if connection is None:
            return None
        muxed = connection.muxed_conn
        return await muxed.ping(PING_DEADLINE) if isinstance(muxed, MuxedConnection) else None

    async def open_stream(self, peer: PeerId, protocol: str) -> NegotiatedStream:
        """Open a stream to a connected peer and negotiate ``protocol``.

        Raises LinkClosed when there is no connection, it breaks, or the peer does not speak it.
        """
        # On a connection that is just ending all of this fails at once: who tries again must let others run.
        await trio.lowlevel.checkpoint()
        connection = self._connection(peer)
        if connection is None:
            raise LinkClosed(f"no connection to {peer}")
        stream: INetStream | None = None
        try:
            stream = await connection.new_stream()
            await self._inner.multiselect_client.select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(stream), limits.HANDSHAKE_DEADLINE
            )
        except (MultiselectClientError, *ENDED) as error:
            if stream is not None:
                await self._link(stream).reset()
            raise LinkClosed(f"{peer} does not answer {protocol}") from error
        except BaseException:
            if stream is not None:
                await self._link(stream).reset()
            raise
        return self._link(stream)

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to ``peer``; never raises, never waits for the peer for long."""
        for connection in list(self._network.get_connections(ID.from_base58(peer))):
            await admission.close_connection(connection, admission.CLOSE_DEADLINE)

    def _connection(self, peer: PeerId) -> INetConn | None:
        for connection in self._network.get_connections(ID.from_base58(peer)):
            if not connection.is_closed:
                return connection
        return None

    def _link(self, stream: INetStream) -> NegotiatedStream:
        connection = stream.muxed_conn
        peer = PeerId(SourceId(connection.peer_id.to_base58()))
        return NegotiatedStream(stream, peer, admission.remote_multiaddr(connection))


def _address_of(connection: INetConn) -> str:
    return admission.remote_multiaddr(connection.muxed_conn)


@asynccontextmanager
async def open_host(
    private_key: bytes, listen: Sequence[str] = (), *, max_connections: int = 256
) -> AsyncIterator[Host]:
    """Run a host with this Ed25519 private key (32 bytes), listening on ``listen`` (multiaddrs).

    Raises UsageError when an address is malformed or taken. Leaving closes every connection at
    once and the listeners, within about a second.
    """
    silence_libp2p()
    negotiation.install()
    internals.listen_with_one_family()
    wanted = [addresses.parse_listen_address(text) for text in dict.fromkeys(listen)]
    for address in wanted:
        _refuse_taken_port(address)
    network = _new_network(private_key, max_connections)
    muxer.install(network)
    # Observed addresses are kept by our own book.
    inner = BasicHost(network, disable_identify_address_discovery=True)
    # Identify towards others runs in system tasks, whose errors would end the process; nothing
    # here needs what it learns. Answering the peers' identify stays.
    network.notifees.clear()
    gate = admission.Admission(network, max_connections, sockets_allowed(len(wanted)))
    gate.install(inner)
    host = Host(inner, network, gate)
    failure: BaseException | None = None
    async with inner.run([multiaddr.Multiaddr(str(endpoint)) for endpoint in wanted]):
        try:
            _check_listening(inner, wanted)
            yield host
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001
            # Carried past libp2p's nurseries, which would wrap it into groups within groups.
            failure = error
        finally:
            with shielded(2 * admission.CLOSE_DEADLINE):
                await admission.close_all(network, admission.CLOSE_DEADLINE)
                await inner.close()
    if failure is not None:
        raise failure


class _NoAutoConnector(AutoConnector):
    """The node decides which peers are dialled; libp2p would dial every peer it has heard of."""

    async def maybe_connect(self) -> None:
        return


def _new_network(private_key: bytes, max_connections: int) -> Swarm:
    key_pair = create_new_key_pair(private_key)
    config = ConnectionConfig(
        # The global cap is admission's: libp2p's would also refuse dials to peers the user named.
        max_connections=2 * max_connections,
        min_connections=0,
        low_watermark=0,
        high_watermark=2 * max_connections,
        inbound_upgrade_timeout=float(limits.HANDSHAKE_DEADLINE),
        outbound_upgrade_timeout=float(limits.HANDSHAKE_DEADLINE),
    )
    network = libp2p.new_swarm(
        key_pair=key_pair,
        sec_opt=noise_session.noise_security(key_pair),
        transports=[internals.ZonedTcp()],
        connection_config=config,
        retry_config=RetryConfig(max_retries=0),
    )
    if not isinstance(network, Swarm):
        raise SwarmError(
            f"this libp2p is not the one that swarm is made for: install libp2p=={internals.EXPECTED}"
        )
    # Admission and the muxer hold the limits. libp2p's own refuse a peer that comes back often.
    network.set_resource_manager(None)
    internals.replace_auto_connector(network, _NoAutoConnector(network))
    return network


def can_listen(address: Endpoint) -> bool:
    """Whether the address is this machine's and its port is free."""
    try:
        _refuse_taken_port(address)
    except UsageError:
        return False
    return True


def all_can_listen(wanted: Sequence[Endpoint], port: int) -> bool:
    """Whether those of ``wanted`` that leave their port open can have this one."""
    return all(can_listen(replace(endpoint, port=port)) for endpoint in wanted if endpoint.port == 0)


def has_ipv6() -> bool:
    """Whether this machine can listen on IPv6."""
    return socket.has_ipv6 and can_listen(Endpoint("ip6", "::", "tcp", 0))


def at_one_port(wanted: Sequence[Endpoint], remembered: int) -> list[Endpoint]:
    """Give those of ``wanted`` that leave their port open one that is free for all of them.

    ``remembered`` is tried first; 0 for none.
    """
    free = [endpoint for endpoint in wanted if endpoint.port == 0]
    # Other programs' connections take no port from below, so it is still free after a restart.
    others = random.SystemRandom().sample(LISTEN_PORTS, PORTS_TRIED)
    for port in (remembered, *others) if free else ():
        if port and all_can_listen(free, port):
            return [replace(endpoint, port=endpoint.port or port) for endpoint in wanted]
    return list(wanted)


def _refuse_taken_port(address: Endpoint) -> None:
    """An older swarm listens with SO_REUSEPORT: a second process on its port would silently take turns."""
    family = socket.AF_INET6 if address.kind == "ip6" else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # With SO_REUSEADDR a port in TIME_WAIT is free, one that somebody listens on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror}; choose another port") from error


def _check_listening(inner: BasicHost, wanted: Sequence[Endpoint]) -> None:
    if len(inner.get_transport_addrs()) < len(wanted):
        names = ", ".join(str(address) for address in wanted)
        raise UsageError(f"cannot listen on {names}: the address is not this machine's or is taken")


def silence_libp2p() -> None:
    """Keep libp2p's and multiaddr's logging off the user's terminal unless logging was set up."""
    for name in ("", "libp2p", "multiaddr", "async_service"):
        log = logging.getLogger(name)
        if not log.handlers:
            log.addHandler(logging.NullHandler())
