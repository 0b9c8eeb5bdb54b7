from importlib import metadata

import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream

from swarm.errors import SwarmError
from swarm.net import privates
from tests.support.link_pair import Identity, secure_pair, socket_pair


def test_this_libp2p_is_the_expected_one_and_has_every_name():
    assert metadata.version("libp2p") == privates.EXPECTED
    privates.check()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MuxerMultistream, "_annotate_connection"),
        (privates.RawConnection, "__init__"),
        (privates.TrioTCPStream, "__init__"),
        (privates.NoiseTransportReadWriter, "__init__"),
        (privates.TransportUpgrader, "__init__"),
        (privates.Swarm, "_handle_inbound_connection"),
        (privates.AutoConnector, "maybe_connect"),
        (privates.MultiselectCommunicator, "read"),
    ],
)
def test_a_name_that_moved_is_one_clear_line(monkeypatch, owner, name):
    if name == "__init__":
        monkeypatch.setattr(owner, name, lambda self, *_, **__: None)
    else:
        monkeypatch.delattr(owner, name)
    with pytest.raises(SwarmError, match=r"install libp2p==0\.8\.1") as caught:
        privates.check()
    assert "\n" not in str(caught.value)


def test_noise_keys_that_moved_are_found(monkeypatch):
    monkeypatch.setattr(privates, "_keys_of", lambda _: privates.CipherKeys(b"", 0, b"", 0))
    with pytest.raises(SwarmError, match="Noise ciphers"):
        privates.check()


async def test_keys_are_those_of_the_handshake():
    one, two = await secure_pair(Identity("stock"), Identity("stock"))
    keys, theirs = privates.cipher_keys(one), privates.cipher_keys(two)
    assert keys.sending == theirs.receiving
    assert keys.receiving == theirs.sending
    assert keys.sending_nonce == theirs.receiving_nonce == 0
    await one.close()
    await two.close()


async def test_only_plain_tcp_is_taken_over():
    ends = socket_pair()
    assert privates.tcp_stream(RawConnection(TrioTCPStream(ends[0]), True)) is ends[0]
    assert privates.tcp_stream(RawConnection(ends[0], True)) is None
    assert privates.cipher_keys(RawConnection(TrioTCPStream(ends[0]), True)) is None
    for end in ends:
        await end.aclose()
    assert isinstance(ends[0], trio.SocketStream)
