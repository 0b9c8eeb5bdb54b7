"""A leecher that pings its seeder while it fetches, over the same connection.

    python -m tests.netns.ping_peer MANIFEST ADDRESS FOLDER --listen MULTIADDR --warm 3 --seconds 15

Prints `pinging` when it has fetched for so long (--warm), and at the end one JSON list: round trips in
seconds, one every 0.1 s; null for a lost one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import trio

import swarm

INTERVAL = 0.1


async def run(arguments: argparse.Namespace) -> None:
    envelope = await swarm.inspect(arguments.manifest)
    options = swarm.TransferOptions(peers=(arguments.address,))
    async with (
        swarm.open_node(swarm.NodeOptions(listen=(arguments.listen,))) as node,
        node.fetch(envelope, into=arguments.folder, options=options) as transfer,
    ):
        async for event in transfer.events():
            if isinstance(event, swarm.BytesReceived):
                break
        await trio.sleep(arguments.warm)
        print("pinging", flush=True)
        print(json.dumps(await pings(node, arguments)), flush=True)


async def pings(node: swarm.Node, arguments: argparse.Namespace) -> list[float | None]:
    count = int(arguments.seconds / INTERVAL)
    return [each.seconds async for each in node.ping(arguments.address, count=count, interval=INTERVAL)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--warm", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    trio.run(run, parser.parse_args())
