import socket

import pytest
import trio
import trio.testing
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.exceptions import NoiseFailure
from libp2p.security.noise.transport import PROTOCOL_ID
from libp2p.security.secure_session import SecureSession
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.yamux.yamux import Yamux

from swarm.mux.mux_limits import DEPTH_START
from swarm.mux.records import AES, CHACHA
from swarm.net.libp2p import noise_session
from swarm.net.libp2p.noise_session import AES_PROTOCOL_ID, NoiseSession, noise_security
from swarm.net.muxed_connection import MuxedConnection
from tests.support.connection_pair import Identity, secure_pair, socket_pair


async def test_records_with_nothing_in_them_keep_no_negotiation_from_its_deadline(monkeypatch):
    one, two = Identity("ours"), Identity("ours")
    secured = await secure_pair(one, two)
    received = 0

    def nothing(_sink, _most=0):
        nonlocal received
        received += 1
        assert received < 1000
        return 18

    monkeypatch.setattr(secured[1]._socket, "receive_now", nothing)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(secured[1].read, 1)
            await trio.lowlevel.checkpoint()
            scope.cancel()
    assert scope.cancelled_caught
    for session in secured:
        await session.close()


class WrappedConnection(RawConnection):
    """Stands for WebSocket, relay and whatever else is not a plain TCP connection."""


@pytest.mark.parametrize("fast", [True, False])
def test_the_options_of_a_host_are_noise_alone(fast, monkeypatch):
    monkeypatch.setattr(noise_session, "_aes_is_fast", lambda: fast)
    names = list(noise_security(Identity("ours").keys))
    assert names == ([AES_PROTOCOL_ID, PROTOCOL_ID] if fast else [PROTOCOL_ID])


@pytest.mark.parametrize(
    ("dialler", "listener", "agreed"),
    [("new", "new", AES), ("new", "old", CHACHA), ("old", "new", CHACHA), ("new", "slow", CHACHA)],
)
async def test_two_that_know_the_faster_cipher_use_it_and_all_others_the_usual_one(
    dialler, listener, agreed, monkeypatch
):
    ends = socket_pair()
    identities = Identity("ours"), Identity("stock" if listener == "old" else "ours")
    options = []
    for identity, kind in zip(identities, (dialler, listener), strict=True):
        monkeypatch.setattr(noise_session, "_aes_is_fast", lambda kind=kind: kind == "new")
        known = noise_security(identity.keys)
        options.append(SecurityMultistream({PROTOCOL_ID: identity.security} if kind == "old" else known))
    secured = {}

    async def listen():
        secured["two"] = await options[1].secure_inbound(RawConnection(TrioTCPStream(ends[1]), False))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            raw = RawConnection(TrioTCPStream(ends[0]), True)
            secured["one"] = await options[0].secure_outbound(raw, identities[1].peer_id)
        await secured["one"].write(b"hello")
        assert await secured["two"].read(5) == b"hello"
    if dialler == "new":
        assert isinstance(secured["one"]._socket._sealer._cipher, agreed.make)
    for end in secured.values():
        await end.close()


@pytest.mark.parametrize(
    ("dialler", "listener"), [("ours", "ours"), ("ours", "stock"), ("stock", "ours"), ("aes", "aes")]
)
async def test_a_session_carries_messages_of_any_size_both_ways(dialler, listener):
    one, two = await secure_pair(Identity(dialler), Identity(listener))
    with trio.fail_after(10):
        for here, there in ((one, two), (two, one)):
            for size in (1, 1000, 65_519, 200_000):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(here.write, bytes(size))
                    assert await there.read(size) == bytes(size)
        await one.write(b"abc")
        assert await two.read(1) == b"a"
        assert await two.read(2) == b"bc"
    assert one.get_remote_peer() == two.get_local_peer()
    assert one.get_remote_address()[0] == "127.0.0.1"
    assert "127.0.0.1" in str(one.get_transport_addresses()[0])
    await one.close()
    await two.close()


async def test_a_session_ends_with_its_connection():
    one, two = await secure_pair(Identity("ours"), Identity("ours"))
    await one.write(b"tail")
    await one.close()
    assert await two.read(10) == b"tail"
    with pytest.raises(ConnectionClosedError):
        await two.read(1)
    with pytest.raises(ConnectionClosedError):
        await one.write(b"late")
    await two.close()


async def test_a_forged_record_closes_the_session():
    ends = socket_pair()
    one, two = await secure_pair(Identity("ours"), Identity("ours"), ends)
    await ends[0].send_all(b"\x00\x20" + bytes(32))
    with pytest.raises(ConnectionClosedError, match="forged"):
        await two.read(1)
    await one.close()


async def test_a_cancelled_write_of_a_session_is_not_sealed_twice():
    one, two = await secure_pair(Identity("ours"), Identity("ours"), socket_pair(8192))
    big = bytes(4 * 1024 * 1024)
    with trio.move_on_after(0.02) as scope:
        await one.write(big)
    assert scope.cancelled_caught
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.write, b"after")
            assert await two.read(len(big) + 5) == big + b"after"
    await one.close()
    await two.close()


async def connect(peer: Identity, raw: RawConnection, *, outbound: bool, other: Identity):
    return await (
        peer.security.secure_outbound(raw, other.peer_id) if outbound else peer.security.secure_inbound(raw)
    )


@pytest.mark.parametrize("outbound", [True, False])
@pytest.mark.parametrize(
    "noise", [b"", b"\x00\x05hello", b"\x00\x00", b"GET / HTTP/1.1\r\n\r\n" * 40, bytes(5000)]
)
async def test_garbage_in_the_handshake_is_one_kind_of_failure(outbound, noise):
    ends = socket_pair()
    raw = RawConnection(TrioTCPStream(ends[0]), outbound)
    await ends[1].send_all(noise)
    await ends[1].aclose()
    with trio.fail_after(5), pytest.raises(NoiseFailure):
        await connect(Identity("ours"), raw, outbound=outbound, other=Identity("ours"))
    await ends[0].aclose()


@pytest.mark.parametrize("outbound", [True, False])
async def test_silence_in_the_handshake_is_a_failure_too(outbound, monkeypatch):
    monkeypatch.setattr(noise_session, "HANDSHAKE_SECONDS", 0.05)
    ends = socket_pair()
    raw = RawConnection(TrioTCPStream(ends[0]), outbound)
    with trio.fail_after(5), pytest.raises(NoiseFailure, match="no Noise handshake within"):
        await connect(Identity("ours"), raw, outbound=outbound, other=Identity("ours"))
    for end in ends:
        await end.aclose()


async def test_another_peer_than_the_one_dialled_is_a_failure():
    one, two, somebody = Identity("ours"), Identity("ours"), Identity("ours")
    ends = socket_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.security.secure_inbound, RawConnection(TrioTCPStream(ends[1]), False))
            with pytest.raises(NoiseFailure):
                await one.security.secure_outbound(
                    RawConnection(TrioTCPStream(ends[0]), True), somebody.peer_id
                )
            nursery.cancel_scope.cancel()
    for end in ends:
        await end.aclose()


async def test_what_is_not_plain_tcp_keeps_libp2ps_own_session_and_muxer():
    one, two = Identity("ours"), Identity("ours")
    ends = socket_pair()
    secured: dict[str, object] = {}

    async def listen():
        secured["two"] = await two.security.secure_inbound(RawConnection(TrioTCPStream(ends[1]), False))

    async def upgrade(identity, name, other):
        secured[name] = await identity.muxer.new_conn(secured[name], other.peer_id)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            raw = WrappedConnection(TrioTCPStream(ends[0]), True)
            secured["one"] = await one.security.secure_outbound(raw, two.peer_id)
        assert type(secured["one"]) is SecureSession
        assert type(secured["two"]) is NoiseSession
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upgrade, one, "one", two)
            nursery.start_soon(upgrade, two, "two", one)
        assert type(secured["one"]) is Yamux
        assert type(secured["two"]) is MuxedConnection
        async with trio.open_nursery() as nursery:
            nursery.start_soon(secured["one"].start)
            nursery.start_soon(secured["two"].start)
            stream = await secured["one"].open_stream()
            await stream.write(b"hello")
            assert await (await secured["two"].accept_stream()).read(5) == b"hello"
            await secured["two"].close()
            nursery.cancel_scope.cancel()


async def test_the_socket_keeps_little_unsent_data():
    ends = socket_pair()
    one, two = await secure_pair(Identity("ours"), Identity("ours"), ends)
    kept = ends[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    assert kept == DEPTH_START
    await one.close()
    await two.close()


async def test_what_came_behind_the_negotiation_goes_to_the_muxer():
    one, two = await secure_pair(Identity("ours"), Identity("ours"))
    await one.write(b"/yamux")
    await one.write(bytes(range(256)) * 600)
    assert await two.read(6) == b"/yamux"
    await two.read(1)
    for _ in range(20):
        await trio.testing.wait_all_tasks_blocked(0.001)
    records, early = two.take_over()
    data = b"".join(bytes(block[:size]) for block, size in early)
    assert data == (bytes(range(256)) * 600)[1 : len(data) + 1]
    assert two.take_over() == (records, [])
    await one.close()
    await two.close()
