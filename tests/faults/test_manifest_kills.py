"""A process that is killed while it receives a large manifest: the next one asks only for the rest."""

from __future__ import annotations

from pathlib import Path

import trio

from swarm.net.host import open_host
from swarm.net.streams import NegotiatedStream
from swarm.node.catalogue import PARTS_PROTOCOL
from swarm.protocol.outline import encode_outline
from tests.support.nodes import LISTEN, until
from tests.support.processes import Processes
from tests.unit.test_node_manifest_parts import MANIFEST, OUTLINE

STOPS_AT = 4


async def test_what_a_killed_process_received_is_not_asked_for_again(
    processes: Processes, tmp_path: Path
) -> None:
    asked: list[int] = []
    stops = True

    async def serve(stream: NegotiatedStream) -> None:
        await stream.read_exactly(32)
        body = encode_outline(OUTLINE)
        await stream.write(len(body).to_bytes(4, "big"), body)
        while True:
            part = int.from_bytes(await stream.read_exactly(4), "big")
            asked.append(part)
            if stops and part == STOPS_AT:
                await trio.sleep_forever()
            start, end = OUTLINE.span(part)
            await stream.write(MANIFEST.encode()[start:end] if part < OUTLINE.parts else bytes(8))

    async with open_host(bytes(range(32)), LISTEN) as host:
        host.serve(PARTS_PROTOCOL, serve)
        arguments = ("inspect", str(MANIFEST.id), host.addresses[0], "--patience", "30")
        killed = processes.swarm(*arguments, name="leecher")
        await until(lambda: asked[-1:] == [STOPS_AT], "the last part asked for", within=30)
        killed.kill()
        await trio.to_thread.run_sync(killed.wait)
        (kept,) = (processes.home("leecher") / "manifests").iterdir()
        assert kept.name.startswith(str(MANIFEST.id))

        stops = False
        asked.clear()
        again = processes.swarm(*arguments, name="leecher")
        await trio.to_thread.run_sync(again.expect_exit, 0)
    assert f"id:           {MANIFEST.id}" in again.lines()
    assert asked == [STOPS_AT, OUTLINE.parts - 1, OUTLINE.parts]
    assert not list((processes.home("leecher") / "manifests").iterdir())
