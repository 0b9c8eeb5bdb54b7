"""``swarm meet``: one small server at which peers find each other, agree on punches and are relayed a little.

It knows hashes of manifest ids, and who asks for them; it never sees a manifest or a piece.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from swarm.config import MeetingOptions, NodeOptions
from swarm.errors import LinkClosed, RemoteError
from swarm.ids import PeerId
from swarm.limits import TokenBucket
from swarm.net.addresses import parse_endpoint
from swarm.net.dial_back import DialBackService
from swarm.net.host import Host
from swarm.net.inbound import PeerStanding
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.net.relay_service import RelayService, ip_of
from swarm.node.listening import listening, use_of
from swarm.ports import ByteStream
from swarm.reach import reach_limits as limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.peer_record import open_record
from swarm.reach.registry import Registry
from swarm.reach.relay_messages import CircuitLimit
from swarm.reach.rendezvous_messages import (
    RENDEZVOUS_PROTOCOL,
    Discover,
    DiscoverResponse,
    Register,
    RegisterResponse,
    RendezvousStatus,
    Unregister,
    decode_rendezvous,
    encode_rendezvous,
)
from swarm.reach.shares import Refused, Shares
from swarm.storage.home_folder import swarm_home
from swarm.storage.identities import hold_identity

IDENTITY_NAME = "swarm meet"
COOKIE_BYTES = 16
STREAMS_PER_PEER = limits.WAITING_PER_PEER + 8


@dataclass(slots=True)
class _Waiting:
    """Questions that wait for somebody to come into one namespace."""

    came: trio.Event
    count: int = 0


class RendezvousService:
    """Answers registrations and questions; a registration is that of the connection's own peer."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._waiting: dict[str, _Waiting] = {}
        self._present: dict[tuple[PeerId, str], ByteStream] = {}
        """Registrations that end with a stream."""
        self._rates: dict[PeerId, TokenBucket] = {}
        self._shares = Shares[trio.CancelScope](limits.MEETING_STREAMS, limits.MEETING_STREAMS_PER_NETWORK)
        self._scopes: dict[PeerId, set[trio.CancelScope]] = {}
        self._run = secrets.token_bytes(COOKIE_BYTES // 2)
        """Numbers of an earlier run mean nothing here."""

    async def __call__(self, stream: ByteStream) -> None:
        """Answer the messages of one stream until its peer ends it; RemoteError for a flood.

        With too many streams, one of whoever has most of them is ended.
        """
        scope = trio.CancelScope()
        try:
            leaving = self._shares.take(scope, stream.peer, ip_of(stream.remote_address))
        except Refused:
            await stream.reset()
            return
        if leaving is not None:
            leaving.cancel()
        scopes = self._scopes.setdefault(stream.peer, set())
        scopes.add(scope)
        try:
            with scope:
                await self._serve(stream)
            if scope.cancelled_caught:
                await stream.reset()
        finally:
            self._shares.leave(scope)
            scopes.discard(scope)
            if not scopes and self._scopes.get(stream.peer) is scopes:
                del self._scopes[stream.peer]
            for key in [key for key, held in self._present.items() if held is stream]:
                del self._present[key]
                self.registry.unregister(*key)

    def gone(self, peer: PeerId) -> None:
        """The peer has no connection any more: what waits on its streams ends at once."""
        for scope in self._scopes.get(peer, ()):
            scope.cancel()

    async def _serve(self, stream: ByteStream) -> None:
        while True:
            try:
                data = await read_message(stream, limits.MAX_REQUEST_BYTES)
            except LinkClosed:
                return
            if not self._rate_of(stream.peer).spend(trio.current_time()):
                raise RemoteError("too many rendezvous messages")
            message = decode_rendezvous(data)
            match message:
                case Register():
                    await write_message(stream, encode_rendezvous(self._register(message, stream)))
                case Unregister(namespace):
                    self._present.pop((stream.peer, namespace), None)
                    self.registry.unregister(stream.peer, namespace)
                case Discover():
                    await write_message(stream, encode_rendezvous(await self._discover(message, stream)))
                case _:
                    raise RemoteError("an answer where a question should be")

    def _register(self, message: Register, stream: ByteStream) -> RegisterResponse:
        try:
            # A record that was verified before is good: a share of hundreds of files registers with one.
            known = self.registry.record_of(stream.peer) == message.record
            if not known and open_record(message.record).peer != stream.peer:
                return RegisterResponse(RendezvousStatus.NOT_AUTHORIZED, "that is another peer's record")
        except RemoteError as error:
            return RegisterResponse(RendezvousStatus.INVALID_RECORD, str(error))
        network = ip_of(stream.remote_address)
        status, ttl = self.registry.register(stream.peer, network, message, trio.current_time())
        if status is RendezvousStatus.OK and message.present:
            self._present[stream.peer, message.namespace] = stream
        if status is RendezvousStatus.OK and (waiting := self._waiting.get(message.namespace)) is not None:
            waiting.came.set()
        return RegisterResponse(status, ttl=ttl)

    async def _discover(self, message: Discover, stream: ByteStream) -> DiscoverResponse:
        if len(message.cookie) not in {0, COOKIE_BYTES}:
            return DiscoverResponse(RendezvousStatus.INVALID_COOKIE)
        run, number = message.cookie[: COOKIE_BYTES // 2], message.cookie[COOKIE_BYTES // 2 :]
        after = int.from_bytes(number, "big") if run == self._run else 0
        deadline = trio.current_time() + message.wait
        while True:
            found = self.registry.discover(
                message.namespace, after, message.limit, trio.current_time(), besides=stream.peer
            )
            if found.records or trio.current_time() >= deadline:
                cookie = self._run + found.next_number.to_bytes(COOKIE_BYTES // 2, "big")
                return DiscoverResponse(RendezvousStatus.OK, found.records, cookie)
            await self._somebody(message.namespace, deadline)

    async def _somebody(self, namespace: str, deadline: float) -> None:
        """Wait until a peer comes into the namespace."""
        waiting = self._waiting.get(namespace)
        if waiting is None or waiting.came.is_set():
            waiting = self._waiting[namespace] = _Waiting(trio.Event())
        waiting.count += 1
        try:
            with trio.move_on_at(deadline):
                await waiting.came.wait()
        finally:
            waiting.count -= 1
            if not waiting.count and self._waiting.get(namespace) is waiting:
                del self._waiting[namespace]

    def _rate_of(self, peer: PeerId) -> TokenBucket:
        bucket = self._rates.pop(peer, None)
        if bucket is None:
            bucket = TokenBucket(limits.REQUESTS_RATE, limits.REQUESTS_BURST, trio.current_time())
        self._rates[peer] = bucket
        if len(self._rates) > limits.MAX_RECORDS:
            del self._rates[next(iter(self._rates))]
        return bucket


class MeetingServer:
    """Everything that a meeting point does, on one host; made by `open_meeting_server`."""

    def __init__(self, host: Host, limit: CircuitLimit, announce: tuple[str, ...] = ()) -> None:
        announced = [f"{parse_endpoint(text, 'to announce')}/p2p/{host.peer_id}" for text in announce]
        self.peer_id = host.peer_id
        self.addresses = tuple(dict.fromkeys((*announced, *host.addresses)))
        """Where it can be met, with its peer id."""
        self.rendezvous = RendezvousService()
        self.relay = RelayService(host, limit)
        self.probe = DialBackService(host)
        host.serve(RENDEZVOUS_PROTOCOL, self.rendezvous, most=STREAMS_PER_PEER)
        host.serve(PING_PROTOCOL, Responder())
        host.retain(self.relay.keeps)
        host.when_gone(self.rendezvous.gone)
        host.judge_by(self._standing)

    def _standing(self, peer: PeerId) -> PeerStanding:
        return PeerStanding.IN_SESSION if self.relay.keeps(peer) else PeerStanding.STRANGER


@asynccontextmanager
async def open_meeting_server(options: MeetingOptions | None = None) -> AsyncIterator[MeetingServer]:
    """Serve until the block ends; its peer id and port are those of the last time.

    Raises UsageError when an address to listen on is malformed or taken, DiskError when the identity cannot
    be kept.
    """
    options = options or MeetingOptions()
    node = NodeOptions(
        home=options.home,
        listen=options.listen,
        announce=options.announce,
        max_connections=options.max_connections,
        resumes=(IDENTITY_NAME,),
    )
    limit = CircuitLimit(options.circuit_seconds, options.circuit_bytes)
    async with (
        hold_identity(options.home or swarm_home(), use_of(node)) as identity,
        listening(identity, node) as host,
    ):
        yield MeetingServer(host, limit, options.announce)
