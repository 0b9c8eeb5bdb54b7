"""Every output, of every command, at every signal."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import trio

from tests.siege.field import battlefield, sparse_file
from tests.siege.outcome import Outcome
from tests.support.output_cases import SPARSE, Case, CaseEnd, field, run_case
from tests.support.sharing import LOOPBACK
from tests.support.sinks import KINDS

NAME = "outputs"
FIGURE = "every output x command x signal: exit within 2 s with the right code, every transfer unharmed"
LIMIT = 1800.0
BESIDE = True
SIDE_BY_SIDE = 3
COMMANDS = ("share", "fetch", "ping", "list", "verify")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def run(quick: bool) -> Outcome:
    return await trio.to_thread.run_sync(siege, quick)


def siege(quick: bool) -> Outcome:
    # Of shares and fetches the tests of e2e have a part of their own.
    commands = ("ping", "list", "verify") if quick else COMMANDS
    kinds = ("unread",) if quick else KINDS
    cases = [
        Case(*each)
        for each in product(commands, ("stdout", "stderr"), kinds, SIGNALS[:1] if quick else SIGNALS)
    ]
    if not quick:
        cases += [Case("fetch", stream, kind, 0) for stream, kind in product(("stdout", "stderr"), kinds)]
    # The quick form runs beside other tests, where seconds say little.
    limit = 6.0 if quick else 2.0
    with battlefield() as (processes, folder), field(folder) as ready:
        sparse = sparse_file(folder / "sparse", SPARSE)
        hashing = processes.swarm("share", sparse, "--manifest", folder / "sparse.swarm", *LOOPBACK)
        hashing.address(within=120)
        hashing.stop()
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            ends: list[CaseEnd] = list(pool.map(lambda case: run_case(ready, case, limit), cases))
    faults = [f"{end.case}: {fault}" for end in ends for fault in end.faults]
    slowest = max(ends, key=lambda end: end.seconds)
    case = slowest.case
    text = (
        f"{len(ends)} runs, slowest exit {slowest.seconds:.2f} s ({case.command}, {case.stream} {case.kind})"
    )
    return Outcome(not faults, "; ".join([text, *faults[:10]]))
