"""SIGINT and SIGTERM at any moment, and two fetches of one target."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import trio

from tests.siege.field import battlefield
from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.sharing import MIB, Seeder, fetch, random_file, sha256, share

NAME = "14 signals and locks"
FIGURE = "200 SIGINT/SIGTERM: exit 130/143 within 2 s, all resumable; a double fetch refuses within 1 s"
LIMIT = 900.0
MOST_SECONDS = 2.0
MOST_REFUSAL = 1.0
LOCKED = 8
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    with battlefield() as (processes, folder):
        source = random_file(folder / "content.bin", (8 if quick else 24) * MIB)
        seeder = share(processes, source, "--piece-size", "64KiB", "--upload-limit", "8MiB/s")
        faults: list[str] = []
        slowest, rounds, kept = 0.0, 4 if quick else 200, 0
        output = folder / "out"
        for number in range(rounds):
            taken, code, wanted, resumed = interrupt(processes, seeder, output, number)
            kept += resumed
            if code == 0:
                (output / source.name).unlink()
                continue
            slowest = max(slowest, taken)
            if code != wanted:
                faults.append(f"round {number}: exit {code} where {wanted} belongs")
        last = fetch(processes, seeder.manifest, output, seeder.address)
        last.expect_exit(0, within=60)
        if sha256(output / source.name) != sha256(source):
            faults.append("the content differs")
        refusal = double_fetch(processes, seeder, folder / "double", faults)
        # The quick form runs beside other tests, where seconds say little.
        if refusal > MOST_REFUSAL and not quick:
            faults.append("the second fetch took too long to refuse")
        if slowest > MOST_SECONDS and not quick:
            faults.append("too slow to end")
        text = (
            f"{rounds} signals: slowest end {slowest:.2f} s, {kept} runs resumed pieces, content exact; "
            f"double fetch refused {refusal:.2f} s after its node was up"
        )
        return Outcome(not faults, "; ".join([text, *faults]))


def interrupt(
    processes: Processes, seeder: Seeder, output: Path, number: int
) -> tuple[float, int, int, bool]:
    """One fetch, ended at some moment after it began: seconds, exit code, wanted code, whether it resumed."""
    rng = random.Random(number)
    kind = rng.choice(list(CODES))
    leecher = fetch(processes, seeder.manifest, output, seeder.address, name="interrupted")
    leecher.event("command_started")
    time.sleep(rng.uniform(0, 2.5))
    leecher.signal(kind)
    began = time.monotonic()
    code = leecher.wait(within=30)
    return time.monotonic() - began, code, CODES[kind], bool(leecher.events("transfer_resumed"))


def double_fetch(processes: Processes, seeder: Seeder, output: Path, faults: list[str]) -> float:
    """A second fetch of a target that is being fetched; return how long it took to say no."""
    first = fetch(processes, seeder.manifest, output, seeder.address, "--download-limit", "256KiB/s")
    first.event("piece_stored")
    second = fetch(processes, seeder.manifest, output, seeder.address)
    if second.wait(within=20) != LOCKED:
        faults.append(f"the second fetch ended with {second.exit_code}")
        return 0.0
    # The start of Python and the network takes a loaded machine a second by itself.
    began = float(second.events("node_listening")[0]["t"])
    refused = float(second.events("command_failed")[0]["t"]) - began
    first.stop()
    return refused
