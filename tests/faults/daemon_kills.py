"""The registry of a daemon, killed at any moment, again and again: start-up is paid once.

python -m tests.faults.daemon_kills FOLDER KILLS SEED

This process loads everything, and forks. A child adds, changes and removes transfers, some of them twice, and
writes one line before each command and one after its answer. A random moment later it gets SIGKILL. Then the
registry is opened and compared: what was answered happened, what was never begun did not, nothing is there
twice. Prints one line of figures; the exit code is 1 after the first difference.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import trio

from swarm.daemon.transfer_registry import FILE, KeptTransfer, TransferRegistry, transfer_id

LONGEST = 0.05
COMMANDED = 0.9
"""The share of kills that wait for the first command; the others meet the opening of the file, too."""
NAMES = 30

State = dict[str, int | None]
"""What is kept by its id: the upload limit, as something that changes."""


def main() -> None:
    """Run it."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    state: State = {}
    commands = 0
    for kill in range(kills):
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            work(folder, tell, rng.randrange(1 << 30))
        os.close(tell)
        if rng.random() < COMMANDED:
            select.select([told], [], [], 10)
        time.sleep(rng.uniform(0.001, LONGEST))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(told) as lines:
            begun = lines.read().splitlines()
        state, open_command = replayed(state, begun)
        commands += len(begun) // 2
        found = read(folder)
        allowed = [state] if open_command is None else [state, applied(state, open_command)]
        if found not in allowed:
            print(f"kill {kill}: {found} is none of {allowed}")
            sys.exit(1)
        state = found
    print(
        f"{kills} kills, {commands} commands answered, {len(state)} transfers kept, none lost, none doubled"
    )


def work(folder: Path, tell: int, seed: int) -> None:
    """Change the registry until killed; never returns."""

    async def run() -> None:
        rng = random.Random(seed)
        registry = TransferRegistry(folder / FILE)
        while True:
            number, limit = rng.randrange(NAMES), rng.randrange(1, 1000)
            kind = rng.choice(("add", "add", "change", "remove"))
            one = transfer_id("share", f"/{number}")
            os.write(tell, f"{kind} {one} {limit}\n".encode())
            if kind == "add":
                kept = KeptTransfer(one, "share", f"/{number}", upload_limit=limit, added=float(number))
                await registry.add(kept, b"m" * rng.choice((10, 100_000)))
            elif kind == "change":
                await registry.change(one, {"upload_limit": limit}, rng.choice((None, b"n" * 5000)))
            else:
                await registry.remove(one)
            os.write(tell, b"answered\n")

    try:
        trio.run(run)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def replayed(state: State, lines: list[str]) -> tuple[State, str | None]:
    """What must be there after the lines, and the command that had no answer yet."""
    waiting = None
    for line in lines:
        if line == "answered" and waiting is not None:
            state, waiting = applied(state, waiting), None
        else:
            waiting = line
    return state, waiting


def applied(state: State, command: str) -> State:
    """What is there after one command."""
    kind, one, limit = command.split()
    after = dict(state)
    if kind == "add":
        after.setdefault(one, int(limit))
    elif kind == "change" and one in after:
        after[one] = int(limit)
    elif kind == "remove":
        after.pop(one, None)
    return after


def read(folder: Path) -> State:
    """What is kept; fails if anything is there twice, or a manifest without its transfer."""
    database = sqlite3.connect(folder / FILE)
    try:
        try:
            rows = database.execute("SELECT id, upload_limit FROM transfers").fetchall()
        except sqlite3.OperationalError:
            # Killed before it was made.
            return {}
        orphans = database.execute(
            "SELECT count(*) FROM manifests WHERE transfer NOT IN (SELECT id FROM transfers)"
        ).fetchone()[0]
        checked = database.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        database.close()
    twice = [one for one, count in Counter(one for one, _ in rows).items() if count > 1]
    if twice or orphans or checked != "ok":
        print(f"twice: {twice}, orphans: {orphans}, {checked}")
        sys.exit(1)
    return dict(rows)


if __name__ == "__main__":
    main()
