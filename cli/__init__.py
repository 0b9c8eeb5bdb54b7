"""The ``swarm`` program: a click group, one module per command, and the views that show progress.

Only this package imports click and rich. Nothing heavy is imported before a command needs it, so
that ``swarm --help`` stays under 0.2 s.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cli.runtime import Runtime

__all__ = ["main"]


def main(runtime: Runtime | None = None) -> None:
    """Run ``swarm`` with the arguments of this process and exit with the documented code.

    ``runtime`` is for callers that bring a node of their own.
    """
    # What is imported stays: there is nothing for the collector to find until the command runs.
    gc.disable()
    from cli import interrupts, output
    from cli.locales import use_utf8_names

    use_utf8_names()
    output.hold_closed_descriptors()
    # Before anything slow is imported: a Ctrl-C must end the start-up without a traceback, too.
    interrupts.install()
    try:
        from cli.app import run

        code = run(runtime=runtime)
    except interrupts.Interrupted as interrupted:
        code = interrupted.exit_code
    interrupts.finish()
    if runtime is not None:
        raise SystemExit(code)
    _end(code)


def _end(code: int) -> NoReturn:
    """End the process at once: to take apart what it has imported would be a tenth of a short command.

    By now the node is closed with its files, and the output has been written, or nobody waits for it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
