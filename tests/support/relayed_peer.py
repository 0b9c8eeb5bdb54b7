"""A host of ours that is met through a relay, as a program for tests in namespaces.

python -m tests.support.relayed_peer serve RELAY        takes a place, prints `PEER id`, serves until ended
python -m tests.support.relayed_peer dial RELAY PEER    dials through the relay, prints `REACHED multiaddr`
python -m tests.support.relayed_peer probe SERVER PORT  listens on PORT, is dialled back, prints `VERDICT …`
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import replace

import trio

from swarm.errors import NoPeerReachable
from swarm.ids import PeerId, SourceId
from swarm.net.addresses import parse_peer_address
from swarm.net.dial_back import ask_dial_back
from swarm.net.host import open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.reach.probe_messages import PROBE_PROTOCOL
from tests.support.relayed import circuit_by, take_place


async def main() -> None:
    mode, relay, *rest = sys.argv[1:]
    port = rest[0] if mode == "probe" else "0"
    async with open_host(secrets.token_bytes(32), [f"/ip4/0.0.0.0/tcp/{port}"]) as host:
        host.serve(PING_PROTOCOL, Responder(), anywhere=True)
        circuits = host.use_relays(carry_data=False)
        where = parse_peer_address(relay)
        if mode == "serve":
            await take_place(host, circuits, relay)
            print("PEER", host.peer_id, flush=True)
            await trio.sleep_forever()
        elif mode == "dial":
            try:
                reached = await host.connect(PeerId(SourceId(rest[0])), [circuit_by(relay)])
                print("REACHED", reached, flush=True)
            except NoPeerReachable as error:
                print("FAILED", error, flush=True)
        else:
            await host.connect(where.peer, [where.endpoint])
            observed = await circuits.observed(where.peer)
            assert observed is not None
            mine = [replace(observed, port=int(port))]
            stream = await host.open_stream(where.peer, PROBE_PROTOCOL)
            began = trio.current_time()
            # That of go dials for fifteen seconds.
            verdict = await ask_dial_back(stream, host.peer_id, mine, 20.0)
            print("VERDICT", verdict, f"after {trio.current_time() - began:.2f} s", flush=True)


if __name__ == "__main__":
    trio.run(main)
