"""``swarm meet``: a meeting point, where peers find each other and pass their firewalls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.durations import DurationType
from cli.quantities import SizeType
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from cli.runtime import OpenMeeting
    from swarm.config import MeetingOptions


class CircuitSizeType(SizeType):
    """A size in bytes, or 0 for no limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; click ends with exit code 2 and our line if the text means nothing."""
        return 0 if value == "0" else super().convert(value, param, ctx)


@click.command()
@options.listen
@options.announce
@click.option(
    "--relay-limit",
    type=CircuitSizeType(),
    metavar="SIZE",
    help="Let one relayed connection carry this much in each direction, 0 for any amount "
    "(default: 128KiB, which is enough to agree on a direct connection).",
)
@click.option(
    "--relay-time",
    type=DurationType(),
    metavar="TIME",
    help="Let one relayed connection last so long (default: 2m).",
)
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    *,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    relay_limit: int | None,
    relay_time: float | None,
    as_json: str | None,
) -> None:
    """Run a meeting point until interrupted; others use it with --meet and one of the addresses printed.

    It needs a public address or a forwarded port. It learns who shares or fetches under which hash of a
    manifest's id, and sees no names and no content.
    """
    from cli import running
    from cli.runtime import open_meeting
    from swarm.config import DEFAULT_LISTEN, MeetingOptions

    defaults = MeetingOptions()
    chosen = MeetingOptions(
        listen=listen or DEFAULT_LISTEN,
        announce=announce,
        circuit_bytes=defaults.circuit_bytes if relay_limit is None else relay_limit,
        circuit_seconds=defaults.circuit_seconds if relay_time is None else max(1, round(relay_time)),
    )
    live = runtime.show("meet", json=as_json)
    # Imported before trio runs, so that a signal during the import ends it at once.
    running.run(partial(_serve, live, open_meeting(), chosen))


async def _serve(live: Live, opened: OpenMeeting, chosen: MeetingOptions) -> None:
    import trio

    from swarm.events import NodeListening

    async with opened(chosen) as server:
        lines = [f"libp2p node address: {address}" for address in server.addresses]
        live.result(NodeListening(server.peer_id, server.addresses), *lines)
        live.say(f"others use it with: --meet {server.addresses[0]}")
        await trio.sleep_forever()
