"""Runs a command of the user's for each fetch that is complete.

It is named on the command line of the daemon alone: whoever has the token of the API must not be able to run
programs. It runs without a shell, and what strangers named reaches it in environment variables only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from swarm.content.paths import printable
from swarm.daemon.keeper import TransferKeeper
from swarm.daemon.kept_entry import KeptEntry

AT_ONCE: Final = 4
"""Commands that run at the same time; others wait."""
SECRETS: Final = frozenset({"NOTIFY_SOCKET"})
"""Variables of the daemon that its commands do not get."""


class CompletionHook:
    """``command`` is a program and its arguments."""

    def __init__(self, command: Sequence[str], keeper: TransferKeeper, nursery: trio.Nursery) -> None:
        self._command = tuple(command)
        self._keeper = keeper
        self._nursery = nursery
        self._turns = trio.CapacityLimiter(AT_ONCE)

    def completed(self, entry: KeptEntry) -> None:
        """Run the command for a fetch; returns at once."""
        # What it is told is as of now: one that waits for its turn may be at the next release by then.
        self._nursery.start_soon(self._run, entry, environment(entry, os.environ))

    async def _run(self, entry: KeptEntry, variables: Mapping[str, str]) -> None:
        shown = printable(self._command[0])
        async with self._turns:
            try:
                # Cancelled with the daemon: then it gets SIGTERM, and SIGKILL five seconds later.
                done = await trio.run_process(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    check=False,
                    env=variables,
                )
            except OSError as error:
                self._keeper.tell(f"{shown} could not be run: {error.strerror or error}")
                return
        if done.returncode:
            name = printable(entry.kept.name or entry.kept.id)
            self._keeper.tell(f"{shown} ended with {done.returncode} for {name}")


def environment(entry: KeptEntry, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of the command: those of the daemon, and what it is run for."""
    path = entry.path
    about = {
        "SWARM_ID": entry.kept.id,
        "SWARM_MANIFEST": entry.kept.manifest,
        "SWARM_NAME": entry.tally_name or entry.kept.name,
        "SWARM_PATH": "" if path is None else str(path),
        "SWARM_SIZE": str(entry.kept.size),
    }
    return {**{name: value for name, value in given.items() if name not in SECRETS}, **about}
