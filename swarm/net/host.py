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
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import multiaddr
import trio
from libp2p.abc import INetConn, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectClientError, ProtocolNotSupportedError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.transport.upgrader import TransportUpgrader

from swarm.endpoint import Circuit, Endpoint, Route
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError, SwarmError, UsageError
from swarm.ids import PeerId, SourceId
from swarm.net import addresses, admission
from swarm.net import network_limits as limits
from swarm.net.admission import is_relayed, sockets_allowed
from swarm.net.dialer import Telling, dial_any, resolved
from swarm.net.inbound import PeerStanding
from swarm.net.libp2p import internals, muxer, negotiation, noise_session
from swarm.net.muxed_connection import MuxedConnection
from swarm.net.muxed_stream import MuxedStream
from swarm.net.streams import ENDED, NegotiatedStream, NotSpoken, shielded
from swarm.reach.reach_limits import MAX_CIRCUITS_PER_PEER
from swarm.reach.relay_protocols import STOP_PROTOCOL

if TYPE_CHECKING:
    from swarm.net.circuits import Circuits

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

    def __init__(self, where: Sequence[Route]) -> None:
        self._where = frozenset(where)
        self.ended = trio.Event()
        self.error: NoPeerReachable | None = None

    def raise_failure(self, where: Sequence[Route]) -> None:
        """Raise what it failed with, if it tried all of ``where``."""
        if self.error is not None and self._where.issuperset(where):
            raise NoPeerReachable(str(self.error), telling=self.error.telling)


class Host:
    """One libp2p node; made by `open_host`. All methods are for the trio thread that made it."""

    def __init__(
        self,
        inner: BasicHost,
        network: Swarm,
        gate: admission.Admission,
        nursery: trio.Nursery,
        private_key: bytes,
    ) -> None:
        self._inner = inner
        self._network = network
        self._gate = gate
        self._nursery = nursery
        self._private_key = private_key
        self._connecting: dict[PeerId, _Connecting] = {}
        self._circuits: Circuits | None = None
        self._relayed_by: Callable[[PeerId], bool] | None = None
        self._open_relays: Callable[[], Circuits | None] = lambda: self._circuits

    @property
    def peer_id(self) -> PeerId:
        """This node's id."""
        return PeerId(SourceId(self._inner.get_id().to_base58()))

    @property
    def addresses(self) -> tuple[str, ...]:
        """The dialable addresses of this node with ``/p2p/<id>``; never an unspecified one."""
        return tuple(f"{endpoint}/p2p/{self.peer_id}" for endpoint in addresses.concrete(self.listening))

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """Where this node listens; an unspecified address stands for all of this machine's."""
        return tuple(Endpoint.parse(str(address)) for address in self._inner.get_transport_addrs())

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that this node listens on."""
        return tuple(dict.fromkeys(endpoint.port for endpoint in self.listening))

    def serve(
        self, protocol: str, handler: Handler, *, most: int | None = None, anywhere: bool = False
    ) -> None:
        """Answer ``protocol`` with ``handler``; whatever it raises ends its stream only.

        Over a circuit it is answered if pieces may go over circuits, or if it is for ``anywhere``.

        A RemoteError closes the connection: its peer has broken a rule. One peer is answered on at most
        ``most`` streams at a time, None for no limit but the link's.
        """
        answering: Counter[PeerId] = Counter()

        async def guarded(stream: INetStream) -> None:
            link = self._link(stream)
            if not anywhere and not self._carries_all(stream):
                await link.reset()
                return
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

    def use_relays(self, *, carry_data: bool) -> Circuits:
        """Take connections that relays bring, and open circuits to peers that are dialled through one.

        With ``carry_data`` pieces go over a circuit where no direct connection can be made.
        """
        if self._circuits is not None:
            return self._circuits
        from swarm.net.circuits import CircuitHost, Circuits

        reached = CircuitHost(
            self._network,
            self._gate,
            self._connect_from_port,
            self._open_on,
            self._port_of_kind,
            lambda: self.addresses,
        )
        self._circuits = Circuits(reached, self._nursery, carries_data=carry_data)
        for protocol, handler in self._circuits.handlers().items():
            self.serve(protocol, handler, most=MAX_CIRCUITS_PER_PEER, anywhere=True)
        if self._relayed_by is not None:
            self._circuits.in_session = self._relayed_by
        return self._circuits

    def punch_through(self, in_session: Callable[[PeerId], bool], *, carry_data: bool) -> None:
        """Let peers with a session bring others for a punch; what that takes is loaded with the first.

        ``carry_data`` is for circuits through meeting points, as in `use_relays`.
        """

        async def stopped(stream: NegotiatedStream) -> None:
            await self.use_relays(carry_data=carry_data).stopped_here(stream)

        self._relayed_by = in_session
        self._open_relays = lambda: self.use_relays(carry_data=carry_data)
        self.serve(STOP_PROTOCOL, stopped, most=MAX_CIRCUITS_PER_PEER)

    def seal(self, addresses: Sequence[Route], sequence: int) -> bytes:
        """A record of these addresses of this node, signed; the one with the greatest ``sequence`` holds."""
        from swarm.reach.peer_record import seal_record

        return seal_record(self._private_key, addresses, sequence)

    async def knock(self, peer: PeerId, endpoint: Endpoint) -> None:
        """Connect to a peer anew, see that it is the one, and hang up; raises NoPeerReachable."""

        async def dial(endpoint: Endpoint) -> None:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            raw = internals.raw_connection(stream, initiator=True)
            try:
                await self._network.upgrader.upgrade_security(raw, True, ID.from_base58(peer))
            finally:
                with shielded(admission.CLOSE_DEADLINE):
                    await raw.close()

        await dial_any([endpoint], dial, CONNECT_DEADLINE)

    def _carries_all(self, stream: INetStream) -> bool:
        """Whether more than punches may go over the connection of the stream."""
        relayed = stream.muxed_conn.get_connection_type() is ConnectionType.RELAYED
        return not relayed or (self._circuits is not None and self._circuits.carries_data)

    def retain(self, wanted: Callable[[PeerId], bool]) -> None:
        """Keep the connections of the peers that ``wanted`` names although they have no streams."""
        self._gate.retains = wanted

    def _port_of_kind(self) -> dict[str, int]:
        listening = (Endpoint.parse(str(address)) for address in self._inner.get_transport_addrs())
        return {endpoint.kind: endpoint.port for endpoint in listening}

    async def _connect_from_port(self, peer: PeerId, where: Sequence[Endpoint]) -> str:
        """Connect to a relay, which then sees the mapping that others can use, too."""
        return await self.connect(peer, where, from_port=True)

    def when_gone(self, told: Callable[[PeerId], None]) -> None:
        """Call ``told`` with each peer whose last connection, an inbound one, has ended."""
        self._gate.gone = told

    def judge_by(self, standing: Callable[[PeerId], PeerStanding]) -> None:
        """Let ``standing`` say what a peer is to this node, for when not all connections can be kept."""
        self._gate.judge_by(standing)

    def proven(self, peer: PeerId) -> None:
        """Pieces are exchanged with the peer: its connection is kept in preference to others."""
        self._gate.proven(peer)

    async def connect(
        self,
        peer: PeerId,
        where: Sequence[Route],
        deadline: float = CONNECT_DEADLINE,
        *,
        from_port: bool = False,
    ) -> str:
        """Reach ``peer`` at any of the endpoints and through any of the circuits ``where``.

        An open connection is used. Returns the multiaddr that answered. Raises NoPeerReachable after
        ``deadline`` seconds or when every address failed. A connect never pays libp2p's happy-eyeballs
        delay. Connects to one peer at the same time make one connection. ``from_port`` dials from the port
        that this node listens on, where that is possible.
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
            return await self._dial(peer, where, deadline, from_port)
        except NoPeerReachable as error:
            attempt.error = error
            raise
        finally:
            del self._connecting[peer]
            attempt.ended.set()

    async def _dial(self, peer: PeerId, where: Sequence[Route], deadline: float, from_port: bool) -> str:
        if not self._gate.room_to_dial(peer):
            raise NoPeerReachable(
                "this node has as many connections as it may: raise `ulimit -n`", telling=Telling.OURSELVES
            )
        direct = [each for each in where if isinstance(each, Endpoint)]
        circuits = [each for each in where if isinstance(each, Circuit) and each.relay.peer != peer]

        async def directly() -> str:
            return await self._dial_direct(peer, direct, deadline, from_port)

        reached = self._open_relays() if circuits else None
        if reached is None:
            return await directly()
        return await reached.reach(peer, direct, directly, circuits)

    async def _dial_direct(
        self, peer: PeerId, where: Sequence[Endpoint], deadline: float, from_port: bool
    ) -> str:
        async def dial_one(endpoint: Endpoint) -> None:
            target = multiaddr.Multiaddr(str(endpoint)), ID.from_base58(peer)
            port = self._port_of_kind().get(endpoint.kind) if from_port and not endpoint.zone else None
            if port is not None:
                host = "::" if endpoint.kind == "ip6" else "0.0.0.0"  # noqa: S104 - any of ours leads there
                # The port may have been used for this address a moment ago.
                with suppress(BaseLibp2pError):
                    await self._network.dial_addr(*target, (host, port))
                    return
            await self._network.dial_addr(*target)

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
        """Whether a stream of either end is open on the connection to ``peer``, of another protocol.

        One that the peer has just opened, and whose protocol is not known yet, counts, too.
        """
        connection = self._connection(peer)
        streams = [] if connection is None else connection.get_streams()
        return any(_protocol_of(stream, besides) != besides for stream in streams)

    def check_connections(self) -> None:
        """Find out soon which connections are lost: this machine may be in another network now."""
        for connection in self._network.get_connections():
            if isinstance(muxed := connection.muxed_conn, MuxedConnection):
                muxed.check_soon()

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

    async def open_stream(self, peer: PeerId, protocol: str, first: bytes = b"") -> NegotiatedStream:
        """Open a stream to a connected peer and negotiate ``protocol``; ``first`` is sent along with that.

        Raises LinkClosed when there is no connection, it breaks, or the peer does not speak it.
        """
        # On a connection that is just ending all of this fails at once: who tries again must let others run.
        await trio.lowlevel.checkpoint()
        connection = self._connection(peer)
        if connection is None:
            raise LinkClosed(f"no connection to {peer}")
        return await self._open_on(connection, protocol, first)

    async def _open_on(self, connection: INetConn, protocol: str, first: bytes = b"") -> NegotiatedStream:
        stream: INetStream | None = None
        try:
            stream = await connection.new_stream()
            await negotiation.propose(
                [TProtocol(protocol)], MultiselectCommunicator(stream), limits.HANDSHAKE_DEADLINE, first
            )
        except (MultiselectClientError, *ENDED) as error:
            if stream is not None:
                await self._link(stream).reset()
            kind = NotSpoken if isinstance(error, ProtocolNotSupportedError) else LinkClosed
            raise kind(f"{connection.muxed_conn.peer_id} does not answer {protocol}") from error
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
        """The connection to use: a direct one if there is one, a circuit only if it may carry everything."""
        found = None
        for connection in self._network.get_connections(ID.from_base58(peer)):
            if connection.is_closed:
                continue
            if not is_relayed(connection):
                return connection
            if self._circuits is not None and self._circuits.usable(connection):
                found = connection
        return found

    def _link(self, stream: INetStream) -> NegotiatedStream:
        connection = stream.muxed_conn
        peer = PeerId(SourceId(connection.peer_id.to_base58()))
        return NegotiatedStream(stream, peer, admission.remote_multiaddr(connection))


def _protocol_of(stream: INetStream, ours: str) -> str:
    """What the stream is for; empty for one from the peer that is still negotiated.

    libp2p is not told of the protocol of a stream that this end opened: such a one counts as of ``ours``.
    """
    if name := stream.get_protocol():
        return str(name)
    muxed = getattr(stream, "muxed_stream", None)
    return "" if isinstance(muxed, MuxedStream) and muxed.state.inbound else ours


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
    internals.name_ipv6_remotes()
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
    failure: BaseException | None = None
    async with (
        inner.run([multiaddr.Multiaddr(str(endpoint)) for endpoint in wanted]),
        trio.open_nursery() as nursery,
    ):
        host = Host(inner, network, gate, nursery, private_key)
        try:
            _check_listening(inner, wanted)
            yield host
        except (trio.Cancelled, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001
            # Carried past libp2p's nurseries, which would wrap it into groups within groups.
            failure = error
        finally:
            nursery.cancel_scope.cancel()
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
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    network = Swarm(
        peer_id,
        peerstore,
        TransportUpgrader(noise_session.noise_security(key_pair), {}),
        transports=[internals.DirectTcp()],
        connection_config=config,
        retry_config=RetryConfig(max_retries=0),
    )
    # There is no resource manager: admission and the muxer hold the limits. libp2p's own refuses a peer that
    # comes back often.
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
