"""``swarm demo``: a real swarm on this machine, shown live."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.output import Outputs
    from cli.render.live import Live


@click.command()
@options.json
@options.common
@click.pass_obj
def command(runtime: Runtime, as_json: str | None) -> None:
    """Run one seeder and four leechers on sample_data/ as processes of their own.

    The leechers know only the seeder and find each other. Ends with a table of who sent how much to
    whom and a check of every hash.
    """
    from cli import running

    running.run(partial(_demo, runtime.show("demo", json=as_json), runtime.outputs))


async def _demo(live: Live, outputs: Outputs) -> None:
    import time
    from pathlib import Path

    from cli.demo.board import choose_show
    from cli.demo.demo_swarm import Demo, find_sample_data, temporary_folder
    from swarm.observe.reports import FlowMeasured

    sample = find_sample_data()
    with temporary_folder() as folder:
        demo = Demo(sample, Path(folder), time.monotonic)
        show = choose_show(outputs)
        try:
            await demo.run(show)
        finally:
            show.close()
        await demo.check()
        for sender, receiver, size in demo.board.flow_list():
            live.result(FlowMeasured(sender, receiver, size))
        live.result(None, *demo.report())
