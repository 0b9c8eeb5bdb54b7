import os
from importlib import metadata

import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream

from swarm.errors import SwarmError
from swarm.net.host import open_host
from swarm.net.libp2p import internals
from tests.support.connection_pair import Identity, secure_pair, socket_pair


def test_this_libp2p_is_the_expected_one_and_has_every_name():
    assert metadata.version("libp2p") == internals.EXPECTED
    internals.check()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MuxerMultistream, "_annotate_connection"),
        (internals.RawConnection, "__init__"),
        (internals.TrioTCPStream, "__init__"),
        (internals.NoiseTransportReadWriter, "__init__"),
        (internals.TransportUpgrader, "__init__"),
        (internals.Swarm, "_handle_inbound_connection"),
        (internals.AutoConnector, "maybe_connect"),
        (internals.MultiselectCommunicator, "read"),
    ],
)
def test_a_name_that_moved_is_one_clear_line(monkeypatch, owner, name):
    if name == "__init__":
        monkeypatch.setattr(owner, name, lambda self, *_, **__: None)
    else:
        monkeypatch.delattr(owner, name)
    with pytest.raises(SwarmError, match=r"install libp2p==0\.8\.1") as caught:
        internals.check()
    assert "\n" not in str(caught.value)


def test_noise_keys_that_moved_are_found(monkeypatch):
    monkeypatch.setattr(internals, "_keys_of", lambda _: internals.CipherKeys(b"", 0, b"", 0))
    with pytest.raises(SwarmError, match="Noise ciphers"):
        internals.check()


async def test_keys_are_those_of_the_handshake():
    one, two = await secure_pair(Identity("stock"), Identity("stock"))
    keys, theirs = internals.cipher_keys(one), internals.cipher_keys(two)
    assert keys.sending == theirs.receiving
    assert keys.receiving == theirs.sending
    assert keys.sending_nonce == theirs.receiving_nonce == 0
    await one.close()
    await two.close()


async def test_only_plain_tcp_is_taken_over():
    ends = socket_pair()
    assert internals.tcp_stream(RawConnection(TrioTCPStream(ends[0]), True)) is ends[0]
    assert internals.tcp_stream(RawConnection(ends[0], True)) is None
    assert internals.cipher_keys(RawConnection(TrioTCPStream(ends[0]), True)) is None
    for end in ends:
        await end.aclose()
    assert isinstance(ends[0], trio.SocketStream)


async def test_a_handshake_that_is_cancelled_closes_its_socket():
    near, far = trio.socket.socketpair()
    with far:
        async with open_host(os.urandom(32)) as host:
            raw = internals.raw_connection(trio.SocketStream(near), initiator=True)
            with trio.move_on_after(0.2) as scope:
                await internals.upgrade_outbound(host._network, raw, host.peer_id)
            assert scope.cancelled_caught
            assert near.fileno() == -1
