"""Connections through relays (circuit relay v2): opened to others, taken from others, and soon made direct.

The relayed stream ends in a socket of this process, so that Noise and our own multiplexer run over it as over
TCP. Such a connection serves to agree on a hole punch. It carries pieces only if both ends allow it.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from swarm.endpoint import Circuit, Endpoint, Scope
from swarm.errors import LinkClosed, NoPeerReachable, RemoteError
from swarm.ids import PeerId, SourceId
from swarm.net import pump
from swarm.net.admission import CLOSE_DEADLINE, Admission, close_connection, is_relayed, remote_multiaddr
from swarm.net.dialer import Telling, head_start
from swarm.net.hole_punch import HolePunch, Tasks, Upgrade
from swarm.net.libp2p import internals
from swarm.net.libp2p.noise_session import NoiseSession
from swarm.net.streams import NegotiatedStream, NotSpoken
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.probe_messages import IDENTIFY_PROTOCOL, observed_address
from swarm.reach.protobuf import delimited
from swarm.reach.relay_messages import CircuitLimit, HopKind, HopMessage, RelayStatus, StopKind, StopMessage
from swarm.reach.relay_protocols import HOP_PROTOCOL, PUNCH_PROTOCOL, STOP_PROTOCOL
from swarm.reach.reservations import PeerRates

logger = logging.getLogger(__name__)

StreamHandler = Callable[[NegotiatedStream], Awaitable[None]]

RELAY_DATA_PROTOCOL = "/swarm/relay-data/1.0.0"
"""Spoken by an end that takes pieces over a relay; nothing but its negotiation is ever sent."""

OBSERVED_SECONDS = 2.0
"""How long a punch waits to learn where the relay sees this node."""
OBSERVED_AGAIN_SECONDS = 10.0
"""A relay that did not say where it sees this node is asked again so much later, once that is needed."""

NOT_RELAYED = (
    "met through {relay}, but no direct connection could be made: both are behind NATs that do not let "
    "each other in. Forward a port to one of them (--announce), or use --relay-data on both"
)
ONE_SIDED = (
    "met through {relay}, but no direct connection could be made, and pieces go through a relay only "
    "if both sides use --relay-data and the relay carries that much"
)


class CircuitHost:
    """What this module needs of the host."""

    def __init__(
        self,
        network: Swarm,
        gate: Admission,
        connect: Callable[[PeerId, Sequence[Endpoint]], Awaitable[str]],
        open_on: Callable[[INetConn, str, bytes], Awaitable[NegotiatedStream]],
        ports: Callable[[], dict[str, int]],
        addresses: Callable[[], tuple[str, ...]],
    ) -> None:
        self.network = network
        self.gate = gate
        self.connect = connect
        """Connects from the port that the host listens on."""
        self.open_on = open_on
        """Opens a stream of a protocol; the bytes are sent along with the proposal."""
        self.ports = ports
        self.addresses = addresses

    @property
    def me(self) -> PeerId:
        """This node."""
        return PeerId(SourceId(self.network.get_peer_id().to_base58()))

    def leaves_from_port(self, connection: INetConn) -> bool:
        """Whether the other end sees the mapping that others can use, too: that of the listening port."""
        session = getattr(connection.muxed_conn, "secured_conn", None)
        return isinstance(session, NoiseSession) and session.local_port() in self.ports().values()

    async def connect_again(self, connection: INetConn) -> INetConn | None:
        """Another connection to the same peer, from the listening port; None if there can be none."""
        endpoint = Endpoint.read(remote_multiaddr(connection.muxed_conn))
        port = None if endpoint is None else self.ports().get(endpoint.kind)
        if endpoint is None or port is None or not connection.muxed_conn.is_initiator:
            return None
        host = "::" if endpoint.kind == "ip6" else "0.0.0.0"  # noqa: S104 - any of ours leads there
        with suppress(BaseLibp2pError):
            peer = connection.muxed_conn.peer_id
            return await self.network.dial_addr(Multiaddr(str(endpoint)), peer, (host, port))
        return None

    def direct(self, peer: PeerId) -> INetConn | None:
        """An open direct connection to the peer."""
        return next((each for each in self._open(peer) if not is_relayed(each)), None)

    def relayed(self, peer: PeerId) -> list[INetConn]:
        """The open connections to the peer through relays."""
        return [each for each in self._open(peer) if is_relayed(each)]

    def brought(self, peer: PeerId) -> list[INetConn]:
        """Those of them that the peer has opened."""
        return [each for each in self.relayed(peer) if not each.muxed_conn.is_initiator]

    def _open(self, peer: PeerId) -> list[INetConn]:
        return [each for each in self.network.get_connections(ID.from_base58(peer)) if not each.is_closed]


@dataclass(slots=True)
class _Relay:
    """One connected relay: where it sees this node.

    ``asked_at`` is when it was asked in vain: infinity while it is being asked, and if it is not to be asked
    again.
    """

    observed: Endpoint | None = None
    asked_at: float = -math.inf
    known: trio.Event = field(default_factory=trio.Event)


class Circuits:
    """The circuits of one host.

    ``carries_data`` says whether pieces may go over them. The tasks of circuits run in ``nursery``.
    """

    def __init__(self, host: CircuitHost, nursery: trio.Nursery, *, carries_data: bool = False) -> None:
        self._host = host
        self._tasks = Tasks(nursery)
        self.carries_data = carries_data
        self._relays: dict[PeerId, _Relay] = {}
        self._usable: set[INetConn] = set()
        self.trusted: set[PeerId] = set()
        """The relays that this node has asked for a place."""
        self.in_session: Callable[[PeerId], bool] = lambda _: False
        """Whether a session with the peer is open: then it may bring others for a punch, and nothing else.
        Nobody else may."""
        self._brought = PeerRates()
        self._deaf: set[PeerId] = set()
        """Connected peers that do not relay at all."""
        self._punch = HolePunch(
            host.network,
            host.gate,
            self._tasks,
            host.ports,
            self._addresses_for,
            lambda peer: host.direct(peer) is not None,
        )
        host.network.register_notifee(_Arrivals(self._connection_changed))

    def handlers(self) -> dict[str, StreamHandler]:
        """What to answer, by protocol."""
        found: dict[str, StreamHandler] = {STOP_PROTOCOL: self.stopped_here, PUNCH_PROTOCOL: self._follow}
        if self.carries_data:
            found[RELAY_DATA_PROTOCOL] = _agree
        return found

    def usable(self, connection: INetConn) -> bool:
        """Whether more than punches may go over the connection."""
        return not is_relayed(connection) or connection in self._usable

    # --- Relays -------------------------------------------------------------------------------------

    async def reserve(self, relay: PeerId) -> float:
        """Ask a connected relay for a place; returns for how many seconds it is given.

        Raises LinkClosed, RemoteError when the relay does not answer or refuses.
        """
        self.trusted.add(relay)
        self._identify(relay)
        stream = await self._open(relay, HOP_PROTOCOL, delimited(HopMessage(HopKind.RESERVE).encode()))
        try:
            with trio.fail_after(limits.HANDSHAKE_SECONDS):
                answer = HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        except trio.TooSlowError:
            raise LinkClosed("the relay does not answer") from None
        finally:
            await stream.close()
        if answer.kind is not HopKind.STATUS or answer.status != RelayStatus.OK:
            raise RemoteError(f"the relay has no place for this node (status {answer.status})")
        return limits.RESERVATION_SECONDS if answer.grant is None else answer.grant.seconds_left(time.time())

    async def observed(self, relay: PeerId) -> Endpoint | None:
        """Where a connected relay sees this node, if it says so in time."""
        known = self._identify(relay).known
        with trio.move_on_after(OBSERVED_SECONDS):
            await known.wait()
        return self._relays[relay].observed if relay in self._relays else None

    def _identify(self, peer: PeerId) -> _Relay:
        """Begin to ask a relay where it sees this node, unless it has said so or was asked a moment ago."""
        relay = self._relays.setdefault(peer, _Relay())
        if trio.current_time() >= relay.asked_at + OBSERVED_AGAIN_SECONDS:
            relay.asked_at = math.inf
            relay.known = trio.Event()
            self._tasks.begin(self._learn_observed, peer, relay)
        return relay

    async def _learn_observed(self, peer: PeerId, relay: _Relay) -> None:
        again = True
        try:
            relay.observed = await self._seen_from_port(peer)
            again = relay.observed is None
        except NotSpoken:
            # What it does not speak it is not asked again: that counts as an offence.
            again = False
        except (LinkClosed, RemoteError) as error:
            logger.debug("%s does not say where it sees this node: %s", peer, error)
        finally:
            if again:
                relay.asked_at = trio.current_time()
            relay.known.set()

    async def _seen_from_port(self, peer: PeerId) -> Endpoint | None:
        """Where a connected peer sees connections that leave from the listening port."""
        connection = self._host.direct(peer)
        if connection is None:
            raise LinkClosed(f"no connection to {peer}")
        if not connection.muxed_conn.is_initiator or self._host.leaves_from_port(connection):
            return await self._ask_observed(connection)
        # A session may use any port: for one question there is another connection.
        other = await self._host.connect_again(connection)
        if other is not None:
            try:
                return await self._ask_observed(other)
            finally:
                self._tasks.begin(close_connection, other, CLOSE_DEADLINE)
        observed = await self._ask_observed(connection)
        port = None if observed is None else self._host.ports().get(observed.kind)
        # Most translators keep the port if they can.
        return None if observed is None or port is None else replace(observed, port=port)

    async def _ask_observed(self, connection: INetConn) -> Endpoint | None:
        stream = await self._host.open_on(connection, IDENTIFY_PROTOCOL, b"")
        try:
            with trio.move_on_after(limits.HANDSHAKE_SECONDS):
                return observed_address(await read_message(stream, limits.MAX_IDENTIFY_BYTES))
            return None
        finally:
            await stream.close()

    async def _addresses_for(self, through: str) -> tuple[Endpoint, ...]:
        """Where a peer that is met through a relay may find this node: what the relay sees comes first."""
        relay = Endpoint.read(through.partition("/p2p/")[0])
        peer = _relay_of(through)
        least = Scope.PUBLIC if relay is None else Scope.of(relay)
        found: dict[Endpoint, None] = {}
        observed = await self.observed(peer)
        for endpoint in (observed, *self._own()):
            if endpoint is not None and Scope.of(endpoint) >= least:
                found[endpoint] = None
        return tuple(found)[: limits.MAX_ADDRESSES]

    def _own(self) -> list[Endpoint]:
        found = (Endpoint.read(text.partition("/p2p/")[0]) for text in self._host.addresses())
        return [endpoint for endpoint in found if endpoint is not None]

    async def _open(self, peer: PeerId, protocol: str, first: bytes = b"") -> NegotiatedStream:
        connection = self._host.direct(peer)
        if connection is None:
            raise LinkClosed(f"no connection to {peer}")
        return await self._host.open_on(connection, protocol, first)

    # --- To others ----------------------------------------------------------------------------------

    async def reach(
        self,
        peer: PeerId,
        where: Sequence[Endpoint],
        dial: Callable[[], Awaitable[str]],
        circuits: Sequence[Circuit],
    ) -> str:
        """Connect directly or, after a head start, through one of the relays, which leads to a punch.

        ``dial`` tries the endpoints ``where``. Returns the multiaddr that answered; raises NoPeerReachable.
        """
        give_up = trio.current_time() + limits.GIVE_UP_SECONDS
        found: list[str] = []
        reasons: list[NoPeerReachable] = []
        circuits = tuple(dict.fromkeys(circuits))
        left = len(circuits)
        async with trio.open_nursery() as nursery:

            async def attempt(dial: Callable[[], Awaitable[str]], settled: trio.Event) -> None:
                try:
                    found.append(await dial())
                    nursery.cancel_scope.cancel()
                except NoPeerReachable as error:
                    reasons.append(error)
                finally:
                    settled.set()

            async def meet(circuit: Circuit) -> None:
                nonlocal left
                await attempt(lambda: self._through(peer, circuit, give_up), trio.Event())
                left -= 1
                if not left and any(reason.telling is Telling.OURSELVES for reason in reasons):
                    # The peer was met, and punching took its time: what still dials would have connected.
                    nursery.cancel_scope.cancel()

            if where:
                settled = trio.Event()
                nursery.start_soon(attempt, dial, settled)
                with trio.move_on_after(head_start(where, self._own())):
                    await settled.wait()
            for circuit in circuits:
                nursery.start_soon(meet, circuit)
        if found:
            return found[0]
        raise max(reasons, key=lambda reason: reason.telling)

    async def _through(self, peer: PeerId, circuit: Circuit, give_up: float) -> str:
        relay = circuit.relay
        if self._host.brought(peer) and not self.carries_data:
            # The peer came through a relay a moment ago, and this end leads a punch already.
            if await self._punch.until_direct(peer, lambda: not self._host.brought(peer)):
                return self._upgraded(peer)
            raise NoPeerReachable(NOT_RELAYED.format(relay=relay.endpoint), telling=Telling.OURSELVES)
        try:
            # What is silent holds up nobody who may be reached in another way later.
            with trio.fail_at(give_up):
                await self._host.connect(relay.peer, [relay.endpoint])
                self._identify(relay.peer)
                connection, limit, upgrade = await self._open_for_punch(peer, circuit)
        except trio.TooSlowError:
            reason = f"through {relay.endpoint}: not met in time"
            raise NoPeerReachable(reason, telling=Telling.TIMEOUT) from None
        except (LinkClosed, RemoteError, NoPeerReachable) as error:
            telling = error.telling if isinstance(error, NoPeerReachable) else Telling.REFUSED
            raise NoPeerReachable(f"through {relay.endpoint}: {error}", telling=telling) from error
        until = min(give_up, trio.current_time() + limits.PUNCH_SECONDS)
        done = False
        try:
            if await self._awaited(upgrade, connection, until):
                return self._upgraded(peer)
            enough = limit is None or not limit.size or limit.size >= limits.LEAST_FOR_DATA
            if self.carries_data and enough and await self._carries(connection):
                done = True
                self._usable.add(connection)
                return str(circuit)
            if self._host.direct(peer) is not None:
                return self._upgraded(peer)
        finally:
            if done:
                self._punch.end(upgrade)
            else:
                # Nobody waits for it: libp2p takes a tenth of a second, and the other end a round trip.
                self._tasks.begin(self._close_upgrade, upgrade, connection, until)
        reason = ONE_SIDED if self.carries_data else NOT_RELAYED
        raise NoPeerReachable(reason.format(relay=relay.endpoint), telling=Telling.OURSELVES)

    async def _open_for_punch(
        self, peer: PeerId, circuit: Circuit
    ) -> tuple[INetConn, CircuitLimit | None, Upgrade]:
        """As `_open_circuit`; a punch may begin before this returns, and `_close_upgrade` follows."""
        upgrade = self._punch.begin(peer, str(circuit))
        try:
            return (*await self._open_circuit(peer, circuit), upgrade)
        except BaseException:
            # Also when a direct dial has won meanwhile: for a peer that is awaited no other punch is led.
            self._punch.end(upgrade)
            raise

    async def _awaited(self, upgrade: Upgrade, connection: INetConn, until: float) -> bool:
        left = max(0.0, until - trio.current_time())
        return await self._punch.awaited(upgrade, lambda: connection.is_closed, left)

    async def _close_upgrade(self, upgrade: Upgrade, connection: INetConn, until: float) -> None:
        """Close a circuit, but not while the other end leads a punch over it: it may not be the quickest."""
        try:
            await self._awaited(upgrade, connection, until)
        finally:
            self._punch.end(upgrade)
        await close_connection(connection, CLOSE_DEADLINE)

    def _upgraded(self, peer: PeerId) -> str:
        connection = self._host.direct(peer)
        return "" if connection is None else remote_multiaddr(connection.muxed_conn)

    async def _open_circuit(self, peer: PeerId, circuit: Circuit) -> tuple[INetConn, CircuitLimit | None]:
        relay = circuit.relay.peer
        if relay in self._deaf:
            raise LinkClosed("it does not relay")
        try:
            with trio.fail_after(limits.HANDSHAKE_SECONDS):
                stream = await self._ask(relay, delimited(HopMessage(HopKind.CONNECT, peer).encode()))
        except trio.TooSlowError:
            raise LinkClosed("the relay does not answer") from None
        except NotSpoken:
            # What it does not speak it is not asked again: that counts as an offence.
            self._deaf.add(relay)
            raise
        taken = False
        try:
            with trio.fail_after(limits.HANDSHAKE_SECONDS):
                answer = HopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
                if answer.kind is not HopKind.STATUS or answer.status != RelayStatus.OK:
                    raise RemoteError(_refusal(answer.status))
                raw = self._end_of(stream, str(circuit), initiator=True)
                taken = True
                connection = await internals.upgrade_outbound(self._host.network, raw, peer)
        except trio.TooSlowError:
            raise LinkClosed("the circuit was not made in time") from None
        except BaseLibp2pError as error:
            raise LinkClosed(f"the peer was not met through the relay: {error}") from error
        finally:
            if not taken:
                await stream.reset()
        return connection, answer.limit

    async def _ask(self, relay: PeerId, first: bytes) -> NegotiatedStream:
        """Open a stream to a relay and send ``first``; NotSpoken if it says that it is none."""
        try:
            return await self._open(relay, HOP_PROTOCOL, first)
        except NotSpoken:
            raise
        except LinkClosed:
            # Who does not relay may end the stream because of what is sent along, and its answer is lost with
            # it. Asked alone it gives one.
            stream = await self._open(relay, HOP_PROTOCOL)
        try:
            await stream.write(first)
        except BaseException:
            await stream.reset()
            raise
        return stream

    async def _carries(self, connection: INetConn) -> bool:
        """Whether the other end takes pieces over this connection."""
        try:
            await (await self._host.open_on(connection, RELAY_DATA_PROTOCOL, b"")).close()
        except LinkClosed:
            return False
        return True

    # --- From others --------------------------------------------------------------------------------

    async def stopped_here(self, stream: NegotiatedStream) -> None:
        """A relay brings a connection; returns when it has ended."""
        with trio.move_on_after(limits.HANDSHAKE_SECONDS) as scope:
            message = StopMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
        if scope.cancelled_caught or message.kind is not StopKind.CONNECT or message.peer is None:
            raise RemoteError("a relay brings nobody")
        if not self._may_bring(stream.peer) or "/p2p-circuit" in stream.remote_address:
            refusal = StopMessage(StopKind.STATUS, status=RelayStatus.PERMISSION_DENIED)
            await write_message(stream, refusal.encode())
            return
        await write_message(stream, StopMessage(StopKind.STATUS, status=RelayStatus.OK).encode())
        through = f"{stream.remote_address}/p2p/{stream.peer}/p2p-circuit"
        near, far = _socket_pair()
        raw = internals.raw_connection(near, initiator=False, through=through)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, stream, far)
            # Counted apart from the relay's own address: it has nothing to do with what they do.
            await self._host.gate.take(raw, Multiaddr(through), f"relay {stream.peer}")

    def _may_bring(self, relay: PeerId) -> bool:
        if relay in self.trusted:
            return True
        return self.in_session(relay) and self._brought.spend(relay, trio.current_time())

    def _connection_changed(self, connection: INetConn, opened: bool) -> None:
        peer = PeerId(SourceId(connection.muxed_conn.peer_id.to_base58()))
        if not opened:
            self._usable.discard(connection)
            if self._host.direct(peer) is None:
                self._relays.pop(peer, None)
                self._deaf.discard(peer)
        elif not is_relayed(connection):
            # Whoever exchanges over a circuit comes again, over the better way.
            for worse in self._host.relayed(peer):
                self._tasks.begin(_close_later, worse)
        elif not connection.muxed_conn.is_initiator:
            self._tasks.begin(self._make_direct, peer, connection)
        self._punch.arrived()

    async def _make_direct(self, peer: PeerId, connection: INetConn) -> None:
        """Lead a punch with the peer that came through a relay; without success the circuit is of no use."""

        through = remote_multiaddr(connection.muxed_conn)

        async def propose(first: bytes) -> NegotiatedStream:
            return await self._host.open_on(connection, PUNCH_PROTOCOL, first)

        carries = self.carries_data and _relay_of(through) in self.trusted
        self._host.gate.held.add(connection)
        try:
            if self._host.me < peer:
                # Each has opened a circuit to the other: one punch is enough, and two would take each other's
                # port. That over the circuit of the lesser id counts, if it comes to that.
                await self._punch.until_direct(peer, lambda: not self._punch.awaits(peer))
            if await self._punch.lead(peer, through, propose):
                return
            if carries:
                self._usable.add(connection)
            # The other end may still be at its last attempt, and then asks whether pieces may go this way.
            await trio.sleep(limits.ATTEMPT_SECONDS)
        finally:
            self._host.gate.held.discard(connection)
        if not carries:
            await close_connection(connection, CLOSE_DEADLINE)
        while not connection.is_closed:
            # Nobody is to stay on the relay because of one bad moment.
            await trio.sleep(limits.UPGRADE_SECONDS)
            if connection.is_closed or await self._punch.lead(peer, through, propose):
                return

    async def _follow(self, stream: NegotiatedStream) -> None:
        if "/p2p-circuit" not in stream.remote_address:
            raise RemoteError("a punch is proposed over a direct connection")
        await self._punch.follow(stream)

    # --- The socket in between ----------------------------------------------------------------------

    def _end_of(self, stream: NegotiatedStream, through: str, *, initiator: bool) -> RawConnection:
        near, far = _socket_pair()
        self._tasks.begin(self._carry, stream, far)
        return internals.raw_connection(near, initiator=initiator, through=through)

    async def _carry(self, stream: NegotiatedStream, far: trio.SocketStream) -> None:
        try:
            await pump.with_socket(stream, far)
        except* LinkClosed:
            await stream.reset()
        finally:
            far.socket.close()


def _relay_of(through: str) -> PeerId:
    """The relay in the multiaddr of a circuit."""
    return PeerId(SourceId(through.partition("/p2p/")[2].partition("/")[0]))


def _refusal(status: int) -> str:
    known: dict[int, str] = {
        RelayStatus.NO_RESERVATION: "the peer is not there",
        RelayStatus.RESOURCE_LIMIT_EXCEEDED: "the relay has no circuit free",
        RelayStatus.CONNECTION_FAILED: "the peer does not answer the relay",
    }
    return known.get(status, f"the relay refuses (status {status})")


def _socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    pair = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return trio.SocketStream(pair[0]), trio.SocketStream(pair[1])


async def _close_later(connection: INetConn) -> None:
    # What the punch still says over it may arrive.
    await trio.sleep(0.5)
    await close_connection(connection, CLOSE_DEADLINE)


async def _agree(stream: NegotiatedStream) -> None:
    await stream.close()


class _Arrivals(INotifee):
    """Tells of every connection that is made or lost."""

    def __init__(self, changed: Callable[[INetConn, bool], None]) -> None:
        self._changed = changed

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002 - the interface's
        self._changed(conn, True)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        self._changed(conn, False)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        pass

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        pass

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        pass

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        pass
