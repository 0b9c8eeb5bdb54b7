"""The hostile peer: a real process that speaks our protocol wrongly on purpose.

python -m tests.support.hostile seed BEHAVIOUR… --manifest FILE.swarm --file CONTENT [--count N]
    N seeders of each behaviour (hostile_seeder.ANSWERS, or `mute`: never greets), each with an identity and
    a port of its own. Prints {"event": "node_listening", "behaviour": …, "addresses": […]} for each.
python -m tests.support.hostile ping BEHAVIOUR… [--count N]
    Peers that answer pings in one way each (hostile_pinged.ANSWERS). `delayed` prints
    {"event": "answered", "after": seconds} for each ping.
python -m tests.support.hostile attack NAME… --target ADDRESS [--manifest FILE.swarm] [--count N] [--persist]
    N attackers of each name (hostile_streams.STREAM_ATTACKS, hostile_connections.CONNECTION_ATTACKS). Prints
    {"event": "cut_off", "attack": …, "after": seconds, "why": …} whenever the victim ends one; with
    --persist it comes back as another peer at once.
    --from is the local address that it dials from.
python -m tests.support.hostile names   lists them.

Lines are JSON. It runs until it is told to end, or without --persist until all attackers were cut off.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from swarm.content.envelope import Envelope
from swarm.errors import NoPeerReachable, SwarmError
from swarm.net.addresses import parse_peer_address
from swarm.net.host import open_host
from swarm.net.ping_protocol import PING_PROTOCOL, Responder
from swarm.ports import ByteStream
from swarm.transfer.connector import EXCHANGE_PROTOCOL
from tests.support import hostile_connections, hostile_pinged, hostile_streams
from tests.support.hostile_seeder import ANSWERS, Content, say_nothing, seed

LISTEN = "/ip4/127.0.0.1/tcp/0"
MUTE = "mute"
COME_BACK_SECONDS = 0.05
DIALERS = ("plaintext", "secio", "mplex")
"""Of hostile_dialers, which loads all of libp2p."""
EXPECTED = (SwarmError, *hostile_connections.EXPECTED)


def tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def run_seeder(behaviour: str, content: Content) -> None:
    """One hostile seeder, for ever."""

    async def serve(link: ByteStream) -> None:
        if behaviour == MUTE:
            await say_nothing(link)
        else:
            await seed(link, content, ANSWERS[behaviour])

    async with open_host(os.urandom(32), [LISTEN]) as host:
        host.serve(PING_PROTOCOL, Responder())
        host.serve(EXCHANGE_PROTOCOL, serve)
        tell("node_listening", behaviour=behaviour, peer=host.peer_id, addresses=host.addresses)
        await trio.sleep_forever()


async def run_pinged(behaviour: str, _: object) -> None:
    """One peer that answers pings, for ever."""

    async def answer(link: ByteStream) -> None:
        await hostile_pinged.ANSWERS[behaviour](link, lambda after: tell("answered", after=after))

    async with open_host(os.urandom(32), [LISTEN]) as host:
        host.serve(PING_PROTOCOL, answer)
        tell("node_listening", behaviour=behaviour, peer=host.peer_id, addresses=host.addresses)
        await trio.sleep_forever()


async def stream_attack(name: str, options: argparse.Namespace) -> None:
    """One attack over streams, by a peer that is new."""
    where = parse_peer_address(options.target)
    async with open_host(os.urandom(32)) as host:
        await host.connect(where.peer, [where.endpoint])
        manifest = Envelope.from_bytes(options.manifest.read_bytes()).manifest
        victim = hostile_streams.Victim(host, where.peer, manifest)
        await hostile_streams.STREAM_ATTACKS[name](victim)


def _dialers() -> dict[str, Callable[[hostile_connections.Door], Awaitable[None]]]:
    from tests.support.hostile_dialers import DIALERS as found

    return found


async def link_attack(name: str, options: argparse.Namespace) -> None:
    """One attack below the streams."""
    where = parse_peer_address(options.target)
    door = hostile_connections.Door(where.endpoint.host, where.endpoint.port, where.peer)
    if name in DIALERS:
        await _dialers()[name](door)
    else:
        await hostile_connections.CONNECTION_ATTACKS[name](door)


async def keep_attacking(name: str, options: argparse.Namespace) -> None:
    """Attack, say when it was ended, and come back if asked to."""
    attack = stream_attack if name in hostile_streams.STREAM_ATTACKS else link_attack
    tell("attacking", attack=name)
    while True:
        began = trio.current_time()
        why = "done"
        try:
            await attack(name, options)
        except* NoPeerReachable:
            why = "not let in"
        except* EXPECTED as group:
            why = brief(group)
        tell("cut_off", attack=name, after=trio.current_time() - began, why=why)
        if not options.persist:
            return
        await trio.sleep(COME_BACK_SECONDS)


def brief(error: BaseException) -> str:
    """The first reason within groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def run(options: argparse.Namespace) -> None:
    """Everything that was asked for, side by side."""
    work: list[tuple[Callable[..., Awaitable[None]], str, object]] = []
    for name in options.names * options.count:
        if options.role == "seed":
            content = Content(Envelope.from_bytes(options.manifest.read_bytes()).manifest, options.file)
            work.append((run_seeder, name, content))
        elif options.role == "ping":
            work.append((run_pinged, name, None))
        else:
            work.append((keep_attacking, name, options))
    async with trio.open_nursery() as nursery:
        for task, name, what in work:
            nursery.start_soon(task, name, what)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("role", choices=["seed", "ping", "attack", "names"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--target")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--from", dest="source", help="attack from this address")
    parser.add_argument("--persist", action="store_true")
    options = parser.parse_args()
    known = {
        "seed": {MUTE, *ANSWERS},
        "ping": {*hostile_pinged.ANSWERS},
        "attack": {*DIALERS, *hostile_streams.STREAM_ATTACKS, *hostile_connections.CONNECTION_ATTACKS},
    }
    if options.role == "names":
        print("\n".join(f"{role} {name}" for role, names in known.items() for name in sorted(names)))
        return 0
    if unknown := set(options.names) - known[options.role]:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.source:
        # Whatever dials here, libp2p included, does it by this function.
        trio.open_tcp_stream = partial(trio.open_tcp_stream, local_address=options.source)
    trio.run(run, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
