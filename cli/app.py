"""The click group, and the one place where a run of the program becomes an exit code."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

import click

from cli import interrupts, options
from cli.failures import (
    EXIT_CODES,
    EXIT_DISK,
    EXIT_PIPE_CLOSED,
    EXIT_UNEXPECTED,
    PipeClosed,
    explain,
    most_telling,
)
from cli.output import DELIVERY_SECONDS, LAST_SECONDS, NoReader, Outputs
from cli.runtime import Runtime
from cli.version import version

COMMANDS = {
    "share": "Hash a file or folder, write its .swarm file, and seed it.",
    "fetch": "Fetch what a .swarm file, an id or a link names, from peers.",
    "release": "Publish the next version of a series, and seed it.",
    "follow": "Keep a folder at the newest release of a series.",
    "peers": "List who is near, in the networks of this machine.",
    "ping": "Measure the round trips to peers.",
    "listen": "Run a bare node that answers pings.",
    "list": "List what peers have to offer.",
    "meet": "Run a meeting point for peers behind routers.",
    "inspect": "Print what is in a manifest.",
    "verify": "Check a file or folder against a .swarm file.",
    "id": "Print the peer id with which this machine fetches and signs.",
    "demo": "Run a real swarm on this machine, and watch it.",
    "daemon": "Keep many transfers in one process, also over restarts.",
    "add": "Let the daemon share or fetch something.",
    "status": "Show how the daemon's transfers stand.",
    "pause": "Stop transfers of the daemon until they are resumed.",
    "resume": "Go on with transfers that are paused or have failed.",
    "remove": "Let the daemon forget transfers; their files stay.",
    "limit": "Limit transfers, and say when they are seeded enough.",
    "top": "Show live what the daemon does.",
}
"""In the order of the help, with the lines there; each is the ``command`` of its module in `cli.commands`."""

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES)


class Commands(click.Group):
    """Imports a command when it is asked for, and lists the commands in our order."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the command's name."""
        return super().parse_args(ctx, options.without_values(args))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cli.commands.{cmd_name}")
        command: click.Command = module.command
        command.epilog = EPILOG
        command.short_help = COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and its arguments; click would suggest none, for it knows no list of ours."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = " or ".join(map(repr, get_close_matches(name, COMMANDS)))
            raise click.UsageError(
                f"No such command {name!r}.{f' Did you mean {near}?' if near else ''}", ctx
            )
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        click.echo(f"swarm {version()}")
        ctx.exit()


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version.",
)
@options.common
def app() -> None:
    """Share files peer to peer: every receiver also sends.

    Sizes and rates are written like 64KiB, 10MB, 2.5MiB/s; a PEER is a multiaddr that ends in
    /p2p/<peer id>. All state lives under $SWARM_HOME (default: the user's data folder).
    """


def run(arguments: Sequence[str] | None = None, runtime: Runtime | None = None) -> int:
    """Run one command and return its exit code; every error has become one line on stderr."""
    runtime = runtime or Runtime()
    runtime.outputs = outputs = Outputs(sys.stdout, sys.stderr)
    outputs.out.strict = runtime.prints
    with outputs.installed():
        try:
            code = _command(arguments, runtime)
            _close(runtime)
            if code <= interrupts.SIGNAL_EXIT_BASE:
                return _deliver(runtime, code)
            outputs.flush(LAST_SECONDS)
        except interrupts.Interrupted as interrupted:
            # While the last lines waited for their reader.
            code = interrupted.exit_code
    return code


def _command(arguments: Sequence[str] | None, runtime: Runtime) -> int:
    try:
        result = app.main(
            args=None if arguments is None else list(arguments),
            prog_name="swarm",
            standalone_mode=False,
            obj=runtime,
        )
    except interrupts.Interrupted as interrupted:
        if runtime.live is not None:
            runtime.live.interrupted()
        return interrupted.exit_code
    # The boundary of the program: whatever comes here becomes a line and an exit code.
    except BaseException as error:  # noqa: BLE001
        return _fail(error, runtime)
    return result if isinstance(result, int) else 0


def _deliver(runtime: Runtime, code: int) -> int:
    """Wait until the output is written; return the exit code: another one if it is lost and was the aim."""
    outputs = runtime.outputs
    outputs.flush(None if runtime.prints else DELIVERY_SECONDS)
    if outputs.out.failure is not None and not runtime.prints:
        outputs.err.put(f"warning: stdout cannot be written: {outputs.out.failure.strerror}\n")
        outputs.flush(LAST_SECONDS)
    if code or not runtime.prints:
        return code
    if outputs.out.gone:
        return EXIT_UNEXPECTED
    if outputs.out.failure is not None:
        outputs.err.put(f"swarm: cannot write the output: {outputs.out.failure.strerror}\n")
        outputs.flush(LAST_SECONDS)
        return EXIT_DISK
    return code


def _fail(error: BaseException, runtime: Runtime) -> int:
    if isinstance(error, SystemExit):
        # How click ends a completion: what it has printed is still to be written.
        return error.code if isinstance(error.code, int) else EXIT_UNEXPECTED
    if isinstance(error, GeneratorExit):
        raise error
    # What is said from here on cannot fail.
    runtime.outputs.out.strict = False
    if isinstance(most_telling(error), NoReader):
        return EXIT_UNEXPECTED
    if runtime.debug:
        _close(runtime)
        traceback.print_exception(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(most_telling(error), PipeClosed):
        _close(runtime)
        return EXIT_PIPE_CLOSED
    failure = explain(error)
    if runtime.live is not None:
        runtime.live.failed(failure.message, failure.exit_code)
    runtime.outputs.err.put(f"swarm: {failure.message}\n")
    return failure.exit_code


def _close(runtime: Runtime) -> None:
    if runtime.live is not None:
        runtime.live.close()
