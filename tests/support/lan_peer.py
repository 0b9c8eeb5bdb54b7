"""A stock py-libp2p peer that looks around with multicast DNS: prints its address, and each peer it finds.

python -m tests.support.lan_peer MULTIADDR
"""

from __future__ import annotations

import secrets
import sys

import libp2p
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.discovery.events.peerDiscovery import peerDiscovery
from libp2p.host.ping import handle_ping
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from multiaddr import Multiaddr


def tell(found: PeerInfo) -> None:
    print(f"found {found.peer_id} {' '.join(map(str, found.addrs))}", flush=True)


async def main(listen: str) -> None:
    keys = create_new_key_pair(secrets.token_bytes(32))
    noise = Transport(libp2p_keypair=keys, noise_privkey=create_noise_key_pair().private_key)
    address = Multiaddr(listen)
    host = libp2p.new_host(
        key_pair=keys,
        sec_opt={PROTOCOL_ID: noise},
        muxer_preference="YAMUX",
        listen_addrs=[address],
        enable_mDNS=True,
    )
    host.set_stream_handler(TProtocol("/ipfs/ping/1.0.0"), handle_ping)
    peerDiscovery.register_peer_discovered_handler(tell)
    async with host.run([address]):
        print(f"libp2p node address: {host.get_addrs()[0]}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
