"""``swarm daemon``: many transfers in one process, which are kept, with an API and a page."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli import options
from cli.runtime import Runtime

if TYPE_CHECKING:
    from cli.render.live import Live
    from swarm.daemon.daemon import RunningDaemon


class HttpType(options.StrType):
    """A loopback address and a port."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text; click ends with exit code 2 unless it is a loopback address with a port."""
        if parse_http(value) is None:
            self.fail(f"{value!r} is not 127.0.0.1:PORT, localhost:PORT or [::1]:PORT", param, ctx)
        return value


class CommandType(options.StrType):
    """A program with its arguments, written as for a shell."""

    name = "command"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return its words; click ends with exit code 2 unless the first names a program that there is."""
        try:
            words = tuple(shlex.split(str(value)))
        except ValueError as error:
            self.fail(f"{value!r} cannot be read: {error}", param, ctx)
        if not words or shutil.which(words[0]) is None:
            self.fail(f"{value!r} names no program that can be run", param, ctx)
        return words


def parse_http(text: str) -> tuple[str, int] | None:
    """The host and the port of a loopback address; None for any other text."""
    host, mark, port = text.rpartition(":")
    if not mark or not (port.isascii() and port.isdigit()) or int(port) >= 1 << 16:
        return None
    host = {"localhost": "127.0.0.1", "[::1]": "::1"}.get(host.lower(), host)
    return (host, int(port)) if host in {"127.0.0.1", "::1"} else None


@click.command()
@click.option(
    "--http",
    type=HttpType(),
    metavar="ADDRESS",
    help="Serve the page and the API at this address of this machine, too, e.g. 127.0.0.1:7474.",
)
@options.listen
@options.announce
@options.reach
@click.option(
    "-o",
    "--output",
    type=options.PathType(file_okay=False, path_type=Path),
    metavar="DIR",
    default=Path(),
    help="Where a fetch goes that is added without a folder (default: the current one).",
)
@click.option(
    "--watch",
    type=options.PathType(file_okay=False, path_type=Path),
    metavar="DIR",
    multiple=True,
    help="Share every file and folder in DIR once it has not changed for 5 s (repeatable).",
)
@click.option(
    "--on-complete",
    type=CommandType(),
    metavar="COMMAND",
    help="Run this program when a fetch is complete, without a shell; $SWARM_PATH and others say what for.",
)
@click.option(
    "--private-origins",
    is_flag=True,
    help="Let web servers that are named for a transfer have addresses that are not public.",
)
@options.json
@options.common
@click.pass_obj
def command(
    runtime: Runtime,
    /,
    *,
    http: str | None,
    listen: tuple[str, ...],
    announce: tuple[str, ...],
    output: Path,
    watch: tuple[Path, ...],
    on_complete: tuple[str, ...] | None,
    private_origins: bool,
    as_json: str | None,
    **reach: Any,
) -> None:
    """Share and fetch until interrupted what 'swarm add' names, now and after every restart.

    Prints where its API answers, the address of its page and the file with the token that the page asks for,
    and the addresses of the node.
    """
    import trio

    from cli import running
    from cli.version import version
    from swarm.config import DEFAULT_LISTEN, NodeOptions

    live = runtime.show("daemon", json=as_json)
    runtime.imported()
    from swarm.daemon.daemon import DaemonOptions, open_daemon

    node_options = NodeOptions(
        listen=listen or DEFAULT_LISTEN, announce=announce, **options.reach_options(reach)
    )
    daemon_options = DaemonOptions(
        node_options,
        None if http is None else parse_http(http),
        output,
        watch,
        on_complete or (),
        private_origins,
    )

    async def main() -> None:
        async with open_daemon(daemon_options, live.warn, version()) as daemon:
            _tell(live, daemon)
            await trio.sleep_forever()

    running.run(main)


def _tell(live: Live, daemon: RunningDaemon) -> None:
    from cli.quantities import counted
    from swarm.content.paths import printable
    from swarm.observe.reports import DaemonReady

    # With the token for the user who sits there; a log is read by others.
    bare = daemon.page.partition("#")[0]
    page = daemon.page if sys.stdout.isatty() else bare
    socket = printable(str(daemon.socket))
    lines = [f"API: {socket}"]
    if page:
        lines += [f"page: {page}", f"token of the page: in {printable(str(daemon.token_file))}"]
    lines.extend(f"libp2p node address: {address}" for address in daemon.node.addresses)
    live.result(DaemonReady(str(daemon.socket), bare, daemon.restored), *lines)
    if daemon.restored:
        live.say(f"going on with {counted(daemon.restored, 'transfer')}")
