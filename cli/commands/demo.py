"""``swarm demo``: a real swarm on this machine, shown live."""

from __future__ import annotations

import click

from cli import options


@click.command()
@options.common
def command() -> None:
    """Run one seeder and four leechers on sample_data/ as processes of their own.

    The leechers know only the seeder and find each other. Ends with a table of who sent how much to
    whom and a check of every hash.
    """
    from cli import running

    running.run(_demo)


async def _demo() -> None:
    import time
    from pathlib import Path

    from cli.demo.board import choose_show
    from cli.demo.demo_swarm import Demo, find_sample_data, temporary_folder

    sample = find_sample_data()
    with temporary_folder() as folder:
        demo = Demo(sample, Path(folder), time.monotonic)
        show = choose_show()
        try:
            await demo.run(show)
        finally:
            show.close()
        await demo.check()
        for line in demo.report():
            click.echo(line)
