"""A stranger on the Internet whose every word leads into private networks: a program for tests in namespaces.

    python -m tests.support.lying_stranger PORT [MEETING MANIFEST]

Prints `STRANGER multiaddr`. It is a node of a hash table: whoever asks is told of nodes and providers at
`LIES`, and of the providers that were announced to it. Each of these has a line `TOLD multiaddr`, a question
a line `ASKED`. With a meeting point it registers there, at `LIES`, for the manifest, and then prints
`REGISTERED`.
"""

from __future__ import annotations

import hashlib
import secrets
import sys

import base58
import trio

from swarm.endpoint import Endpoint
from swarm.ids import ManifestId, PeerId, SourceId
from swarm.net.addresses import parse_peer_address
from swarm.net.host import Host, open_host
from swarm.net.streams import NegotiatedStream
from swarm.reach import reach_limits
from swarm.reach.framing import read_message, write_message
from swarm.reach.kad_messages import KAD_PROTOCOL, MAX_KAD_BYTES, decode_kad
from swarm.reach.multiaddrs import address_to_bytes, peer_to_bytes
from swarm.reach.protobuf import decode, encode
from swarm.reach.rendezvous_messages import (
    RENDEZVOUS_PROTOCOL,
    Register,
    decode_rendezvous,
    encode_rendezvous,
    namespace_of,
)

LIE_PORT = 7001
LIES = tuple(
    Endpoint.parse(f"{where}/tcp/{LIE_PORT}")
    for where in (
        "/ip4/192.168.1.10", "/ip4/192.168.2.1", "/ip4/192.168.2.10", "/ip4/192.168.2.77", "/ip4/10.0.0.7",
        "/ip4/172.16.0.7", "/ip4/100.64.0.7", "/ip4/169.254.0.7", "/ip4/127.0.0.1", "/ip6/::1",
        "/ip6/fd00::7", "/ip6/fe80::7", "/ip6/::ffff:192.168.2.1", "/ip6/64:ff9b::c0a8:201",
    )
)  # fmt: skip
_TYPE, _CLOSER, _PROVIDERS = 1, 8, 9
_ADD_PROVIDER = 2


def _somebody(number: int) -> PeerId:
    digest = hashlib.sha256(number.to_bytes(8, "big")).digest()
    return PeerId(SourceId(base58.b58encode(b"\x12\x20" + digest).decode()))


def _listed(peer: PeerId, *endpoints: Endpoint) -> bytes:
    return encode([(1, peer_to_bytes(peer)), *((2, address_to_bytes(each)) for each in endpoints)])


class Stranger:
    """The node of the table."""

    def __init__(self) -> None:
        self._announced: dict[PeerId, tuple[Endpoint, ...]] = {}

    async def serve(self, stream: NegotiatedStream) -> None:
        message = await read_message(stream, MAX_KAD_BYTES)
        if decode(message).number(_TYPE, 0) == _ADD_PROVIDER:
            for each in decode_kad(message).providers:
                self._announced[each.peer] = each.endpoints
                for endpoint in each.endpoints:
                    print("TOLD", f"{endpoint}/p2p/{each.peer}", flush=True)
            return
        print("ASKED", flush=True)
        lies = [_listed(_somebody(number), each) for number, each in enumerate(LIES)]
        true = [_listed(peer, *endpoints) for peer, endpoints in self._announced.items()]
        answer = [(_CLOSER, each) for each in lies] + [(_PROVIDERS, each) for each in (*lies, *true)]
        await write_message(stream, encode([(_TYPE, 3), *answer]))


async def register(host: Host, meeting: str, manifest: str) -> None:
    """Be found at the meeting point, at private addresses."""
    where = parse_peer_address(meeting)
    await host.connect(where.peer, [where.endpoint])
    for number in range(0, len(LIES), reach_limits.MAX_ADDRESSES):
        stream = await host.open_stream(where.peer, RENDEZVOUS_PROTOCOL)
        record = host.seal(LIES[number : number + reach_limits.MAX_ADDRESSES], number + 1)
        request = Register(
            namespace_of(ManifestId.parse(manifest)), record, reach_limits.REGISTERED_SECONDS, present=False
        )
        await write_message(stream, encode_rendezvous(request))
        decode_rendezvous(await read_message(stream, reach_limits.MAX_REQUEST_BYTES))
        await stream.close()
    print("REGISTERED", flush=True)


async def main() -> None:
    port, *meeting = sys.argv[1:]
    async with open_host(secrets.token_bytes(32), [f"/ip4/0.0.0.0/tcp/{port}"]) as host:
        host.serve(KAD_PROTOCOL, Stranger().serve)
        for address in host.addresses:
            print("STRANGER", address, flush=True)
        if meeting:
            await register(host, *meeting)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
