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

COMMANDS = (
    "share", "fetch", "release", "follow", "peers", "ping", "listen", "list", "meet", "inspect", "verify",
    "id", "demo", "daemon", "add", "status", "pause", "resume", "remove", "limit", "top",
)  # fmt: skip
"""In the order of the help; each is the ``command`` of its module in `cli.commands`."""

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
        return command


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
