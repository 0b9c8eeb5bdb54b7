"""Turns whatever ended a command into one line and an exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from swarm.errors import (
    DiskError,
    Incomplete,
    IntegrityError,
    Locked,
    ManifestError,
    NoPeerReachable,
    SwarmError,
    UsageError,
)
from swarm.lazy_dataclass import dataclass
from swarm.lazy_pattern import lazy_pattern

EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_DISK = DiskError.exit_code
EXIT_SIGINT = 130
EXIT_PIPE_CLOSED = 141

EXIT_CODES = (
    (0, "done"),
    (EXIT_UNEXPECTED, "unexpected error"),
    (EXIT_USAGE, "usage"),
    (3, "bad manifest, id or link"),
    (4, "no peer reachable"),
    (5, "incomplete: peers gone, or nobody has the missing pieces"),
    (6, "integrity: content does not match its manifest"),
    (EXIT_DISK, "disk: full, read-only, I/O error, target in the way"),
    (8, "locked by another process"),
    (9, "no daemon runs, or it does not answer"),
    (EXIT_SIGINT, "SIGINT"),
    (EXIT_PIPE_CLOSED, "whoever read the content on stdout has closed it"),
    (143, "SIGTERM"),
)
"""Every exit code of every command, with its meaning."""

# When several things fail at once, the first of these that is among them tells the user most: what
# is wrong here comes before what is wrong elsewhere, and a cause before its consequence.
_MOST_TELLING_FIRST: tuple[type[BaseException], ...] = (
    UsageError,
    ManifestError,
    Locked,
    DiskError,
    IntegrityError,
    Incomplete,
    NoPeerReachable,
    SwarmError,
    OSError,
    BaseException,
)
_LINE_BREAKS = lazy_pattern(r"\s*[\r\n]+\s*")


class PipeClosed(SwarmError):
    """Whoever read content on stdout has closed it (exit 141, as a shell sees SIGPIPE); nothing to tell."""

    exit_code = EXIT_PIPE_CLOSED


@dataclass(frozen=True, slots=True)
class Failure:
    """One line for people and the exit code for programs."""

    message: str
    exit_code: int


def explain(error: BaseException) -> Failure:
    """Return what to say about ``error`` and the exit code that it means."""
    if isinstance(error, BaseExceptionGroup):
        error = most_telling(error)
    message, exit_code = _meaning(error)
    return Failure(_one_line(message), exit_code)


def _meaning(error: BaseException) -> tuple[str, int]:
    match error:
        case SwarmError():
            meaning = str(error), error.exit_code
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "swarm"
            meaning = f"{error.format_message().rstrip('.')} (see '{path} --help')", EXIT_USAGE
        case click.ClickException():
            meaning = error.format_message(), error.exit_code
        case KeyboardInterrupt() | click.Abort():
            meaning = "interrupted", EXIT_SIGINT
        case OSError() if error.filename is not None:
            # A file's doing; errors of sockets name no file.
            meaning = f"{error.filename}: {error.strerror or error}", EXIT_DISK
        case _:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            meaning = f"unexpected {what} (--debug shows where)", EXIT_UNEXPECTED
    return meaning


def most_telling(error: BaseException) -> BaseException:
    """Return the one error of a (nested) group that says most about what went wrong."""
    leaves = list(_leaves(error))
    for kind in _MOST_TELLING_FIRST:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return error


def summed_up(failures: Sequence[BaseException], total: int, done: str) -> SwarmError:
    """Return one error for ``failures`` of ``total`` things, with the exit code of the most telling one.

    ``done`` says what did not happen to them: ``fetched``.
    """
    failure = explain(BaseExceptionGroup("several", failures))
    error = SwarmError(f"{len(failures)} of {total} could not be {done}")
    error.exit_code = failure.exit_code
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _one_line(text: str) -> str:
    from swarm.content.paths import printable

    return printable(_LINE_BREAKS.sub(" ", text.strip()))
