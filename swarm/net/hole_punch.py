"""Direct connections through two translators: both ends dial each other at the same moment (DCUtR over TCP).

Each end dials from the port that it listens on, so that its translator uses the mapping that the relay has
seen. The SYNs cross and TCP makes one connection of both dials; the end that opened the circuit is the client
in what follows. Source: the libp2p specification ``relay/DCUtR.md``.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from swarm.endpoint import Endpoint, Scope
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.net.admission import Admission
from swarm.net.libp2p import internals
from swarm.net.streams import NegotiatedStream
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.protobuf import delimited
from swarm.reach.relay_messages import PunchKind, PunchMessage
from swarm.reach.reservations import PeerRates

logger = logging.getLogger(__name__)

AGAIN_SECONDS = (0.03, 0.06, 0.12, 0.2)
"""Pauses after dials that were refused, the last one again and again. The first are short: the other end's
translator refuses what comes before that end has dialled, too, some milliseconds later. The last is not: the
peer says where to dial, and is not to make this node knock at somebody else's door all the time. Each is
stretched by a factor from 0.5 to 1.5: after a reset a translator lets no SYN in, so both SYNs must be under
way at once, and at equal pauses two ends that missed each other would do so every time."""

_RANDOM = random.SystemRandom()

MOST_ADDRESSES = 3
"""Of one peer, dialled at the same time."""


class Tasks:
    """Background tasks of a host; what one of them fails with ends that task alone."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def begin(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run ``task`` until it ends or the host does."""
        self._nursery.start_soon(self._guarded, task, arguments)

    async def _guarded(self, task: Callable[..., Awaitable[object]], arguments: tuple[object, ...]) -> None:
        try:
            await task(*arguments)
        except Exception as error:  # noqa: BLE001 - as in a stream handler: others' bytes cause it
            logger.debug("a task of a circuit failed: %r", error)


@dataclass(eq=False, slots=True)
class Upgrade:
    """A circuit that this end opens to get a direct connection, and the attempts that were led over it.

    There may be several to one peer, through different relays: each has attempts of its own.
    """

    peer: PeerId
    way: str
    begun: int = 0
    rounds: int = 0


class HolePunch:
    """Punches for one host.

    ``ports`` are those that it listens on, by kind of address; ``mine`` are the addresses to name to a peer
    that is met through a relay of the given multiaddr; ``is_direct`` tells whether one is open directly.
    """

    def __init__(
        self,
        network: Swarm,
        gate: Admission,
        tasks: Tasks,
        ports: Callable[[], dict[str, int]],
        mine: Callable[[str], Awaitable[tuple[Endpoint, ...]]],
        is_direct: Callable[[PeerId], bool],
    ) -> None:
        self._network = network
        self._gate = gate
        self._tasks = tasks
        self._ports = ports
        self._mine = mine
        self._is_direct = is_direct
        self._changed = trio.lowlevel.ParkingLot()
        self._upgrades: dict[tuple[PeerId, str], Upgrade] = {}
        self._led = PeerRates(limits.LED_RATE, limits.LED_BURST)

    def arrived(self) -> None:
        """A connection has been made or lost: whoever waits for one looks again."""
        self._changed.unpark_all()

    def begin(self, peer: PeerId, way: str) -> Upgrade:
        """A circuit to the peer is about to be opened; ``way`` is its multiaddr. `end` ends this."""
        upgrade = self._upgrades[peer, way] = Upgrade(peer, way)
        return upgrade

    def end(self, upgrade: Upgrade) -> None:
        """There is no circuit, or nothing is led over it any more."""
        if self._upgrades.get((upgrade.peer, upgrade.way)) is upgrade:
            del self._upgrades[upgrade.peer, upgrade.way]
        self._changed.unpark_all()

    def awaits(self, peer: PeerId) -> bool:
        """Whether this end has opened a circuit to the peer, and waits for the outcome."""
        return any(each.peer == peer for each in self._upgrades.values())

    async def awaited(self, upgrade: Upgrade, ended: Callable[[], bool], most: float) -> bool:
        """Wait until the other end has led all its attempts over the circuit; otherwise as `until_direct`."""
        return await self.until_direct(
            upgrade.peer, lambda: upgrade.rounds >= limits.PUNCH_ATTEMPTS or ended(), most
        )

    async def until_direct(
        self, peer: PeerId, ended: Callable[[], bool], most: float = limits.PUNCH_SECONDS
    ) -> bool:
        """Wait ``most`` seconds for a direct connection, or until it has ``ended``; says whether one is open.

        ``ended`` is asked whenever a connection or an attempt has ended.
        """
        with trio.move_on_after(most):
            while not (self._is_direct(peer) or ended()):
                await self._changed.park()
        return self._is_direct(peer)

    # --- The end that was dialled through the relay leads -------------------------------------------

    async def lead(
        self, peer: PeerId, through: str, propose: Callable[[bytes], Awaitable[NegotiatedStream]]
    ) -> bool:
        """Agree on a moment and dial, up to `limits.PUNCH_ATTEMPTS` times; says whether that worked.

        ``through`` is the multiaddr of the relay; ``propose`` opens a stream over it whose first bytes are
        these.
        """
        with trio.move_on_after(limits.PUNCH_SECONDS):
            for attempt in range(limits.PUNCH_ATTEMPTS):
                if self._is_direct(peer):
                    break
                try:
                    addresses, round_trip = await self._agree(through, propose)
                except (LinkClosed, RemoteError) as error:
                    logger.debug("no punch with %s: %s", peer, error)
                    break
                await trio.sleep(round_trip / 2)
                await self._dial(peer, addresses, client=False, plainly=attempt > 0)
        return self._is_direct(peer)

    async def _agree(
        self, through: str, propose: Callable[[bytes], Awaitable[NegotiatedStream]]
    ) -> tuple[tuple[Endpoint, ...], float]:
        mine = await self._mine(through)
        began = trio.current_time()
        # Sent along with the stream's negotiation: over a circuit a round trip is two.
        stream = await propose(delimited(PunchMessage(PunchKind.CONNECT, mine).encode()))
        try:
            answer = PunchMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
            round_trip = trio.current_time() - began
            if answer.kind is not PunchKind.CONNECT:
                raise RemoteError("a punch is answered with something else")
            await write_message(stream, PunchMessage(PunchKind.SYNC).encode())
            return allowed(answer.addresses, through), round_trip
        finally:
            await stream.close()

    # --- The end that dialled through the relay follows ---------------------------------------------

    async def follow(self, stream: NegotiatedStream) -> None:
        """Answer the leader, and dial when it says so; RemoteError for what breaks the protocol."""
        for _ in range(limits.PUNCH_ATTEMPTS):
            # Another circuit may go the same way before this attempt has ended.
            upgrade = self._upgrades.get((stream.peer, stream.remote_address))
            with trio.move_on_after(limits.HANDSHAKE_SECONDS) as scope:
                try:
                    data = await read_message(stream, limits.MAX_MESSAGE_BYTES)
                except LinkClosed:
                    return
                proposal = PunchMessage.decode(data)
                mine = await self._mine(stream.remote_address)
                await write_message(stream, PunchMessage(PunchKind.CONNECT, mine).encode())
                sync = PunchMessage.decode(await read_message(stream, limits.MAX_MESSAGE_BYTES))
                if (proposal.kind, sync.kind) != (PunchKind.CONNECT, PunchKind.SYNC):
                    raise RemoteError("a punch is proposed out of order")
            if scope.cancelled_caught or not self._may_lead(stream.peer, upgrade):
                return
            await self._dial(stream.peer, allowed(proposal.addresses, stream.remote_address), client=True)
            if upgrade is not None:
                upgrade.rounds += 1
            self._changed.unpark_all()

    def _may_lead(self, peer: PeerId, upgrade: Upgrade | None) -> bool:
        """Whether this node dials at the peer's word once more: where that leads may be somebody else's."""
        if upgrade is None:
            return self._led.spend(peer, trio.current_time())
        upgrade.begun += 1
        return upgrade.begun <= limits.PUNCH_ATTEMPTS

    # --- Dialling -----------------------------------------------------------------------------------

    async def _dial(
        self, peer: PeerId, addresses: Sequence[Endpoint], *, client: bool, plainly: bool = False
    ) -> None:
        """Dial all addresses until there is a direct connection, or the attempt is over.

        ``plainly`` also dials as anybody does: the other end may be public, and not dial from its port.
        """
        with trio.move_on_after(limits.ATTEMPT_SECONDS):
            async with trio.open_nursery() as nursery:
                for endpoint in addresses[:MOST_ADDRESSES]:
                    nursery.start_soon(self._dial_one, peer, endpoint, client)
                    if plainly:
                        nursery.start_soon(self._dial_plainly, peer, endpoint)
                while not self._is_direct(peer):
                    await self._changed.park()
                nursery.cancel_scope.cancel()

    async def _dial_one(self, peer: PeerId, endpoint: Endpoint, client: bool) -> None:
        port = self._ports().get(endpoint.kind)
        if port is None:
            return
        remote = endpoint.host, endpoint.port

        async def as_client(raw: RawConnection) -> None:
            await self._as_client(raw, peer)

        pauses = itertools.chain(AGAIN_SECONDS, itertools.repeat(AGAIN_SECONDS[-1]))
        try:
            for pause in pauses:
                if client:
                    # An attempt over another circuit may dial the same address.
                    self._gate.expected.setdefault(remote, as_client)
                try:
                    stream = await internals.connect_from(port, endpoint)
                except OSError as error:
                    logger.debug("a dial to %s failed: %s", endpoint, error)
                    await trio.sleep(pause * (0.5 + _RANDOM.random()))
                    continue
                raw = internals.raw_connection(stream, initiator=client)
                # Beyond this attempt: over a slow way, or on a busy machine, the handshake takes longer.
                if client:
                    self._tasks.begin(self._as_client, raw, peer)
                else:
                    self._tasks.begin(self._gate.take, raw, Multiaddr(str(endpoint)), endpoint.host)
                return
        finally:
            if self._gate.expected.get(remote) is as_client:
                del self._gate.expected[remote]

    async def _dial_plainly(self, peer: PeerId, endpoint: Endpoint) -> None:
        try:
            await self._network.dial_addr(Multiaddr(str(endpoint)), ID.from_base58(peer))
        except BaseLibp2pError as error:
            logger.debug("a plain dial to %s failed: %s", endpoint, error)
        self.arrived()

    async def _as_client(self, raw: RawConnection, peer: PeerId) -> None:
        try:
            connection = await internals.upgrade_outbound(self._network, raw, peer)
        except BaseLibp2pError as error:
            logger.debug("no direct connection to %s: %s", peer, error)
            return
        self.arrived()
        # The listener that accepted this socket would close it.
        await connection.event_closed.wait()


def allowed(addresses: Sequence[Endpoint], through: str) -> tuple[Endpoint, ...]:
    """The addresses that a peer may name when it is met ``through`` a relay of this multiaddr.

    None that is nearer than the relay itself: a stranger on the Internet has no say about private networks.
    """
    relay = Endpoint.read(through.partition("/p2p/")[0])
    least = Scope.PUBLIC if relay is None else Scope.of(relay)
    return tuple(each for each in addresses if each.is_ip and each.port and Scope.of(each) >= least)
