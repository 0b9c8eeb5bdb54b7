"""The siege: every acceptance test under attack with its figures, in one table.

First the cases that measure no speed (`BESIDE`), two at a time, then the others one after the other.

python -m tests.siege [--quick] [--only NAME]… [--list]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import ModuleType

import trio

import tests.siege
from tests.siege.outcome import DEFAULT_LIMIT, Outcome

LANES = 2
"""How many cases that measure no speed run at a time."""

RESULT = "siege outcome: "
"""What begins the line in which a case's own process reports."""


def cases() -> Iterator[ModuleType]:
    """Every case, in the order of the names of their modules."""
    for found in sorted(pkgutil.iter_modules(tests.siege.__path__), key=lambda each: each.name):
        if found.name.startswith("case_"):
            yield importlib.import_module(f"tests.siege.{found.name}")


def run_here(module: str, quick: bool) -> None:
    """Run one case in this process and report in one line."""
    case = importlib.import_module(module)
    started = time.monotonic()
    try:
        outcome = trio.run(case.run, quick)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        outcome = Outcome(False, f"{type(error).__name__}: {error}".splitlines()[0])
    seconds = outcome.seconds or time.monotonic() - started
    print(RESULT + json.dumps({**asdict(outcome), "seconds": seconds}), flush=True)


def run_apart(case: ModuleType, quick: bool) -> Outcome:
    """Run one case in a process of its own, which is killed with its children when it takes too long."""
    limit = getattr(case, "LIMIT", DEFAULT_LIMIT)
    argv = [sys.executable, *["-O"] * sys.flags.optimize, "-m", "tests.siege", "--here", case.__name__]
    started = time.monotonic()
    with subprocess.Popen(
        argv + ["--quick"] * quick, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Outcome(False, f"took longer than {limit:.0f} s", time.monotonic() - started)
    for line in output.splitlines():
        if line.startswith(RESULT):
            return Outcome(**json.loads(line.removeprefix(RESULT)))
        print(f"    {line}")
    return Outcome(
        False, f"ended without a figure, exit code {process.returncode}", time.monotonic() - started
    )


def run_all(chosen: list[ModuleType], quick: bool) -> list[tuple[ModuleType, Outcome]]:
    """Run these cases and print each outcome as it comes; the outcomes are in the order of ``chosen``."""

    def run_and_tell(case: ModuleType) -> tuple[ModuleType, Outcome]:
        outcome = run_apart(case, quick)
        print(f"{case.NAME}: {'ok' if outcome.passed else 'FAILED'}: {outcome.figures}", flush=True)
        return case, outcome

    with ThreadPoolExecutor(LANES) as lanes:
        rows = list(lanes.map(run_and_tell, [case for case in chosen if runs_beside(case)]))
    rows += [run_and_tell(case) for case in chosen if not runs_beside(case)]
    return sorted(rows, key=lambda row: chosen.index(row[0]))


def runs_beside(case: ModuleType) -> bool:
    """Whether another case may run at the same time."""
    return getattr(case, "BESIDE", False)


def table(rows: list[tuple[ModuleType, Outcome]]) -> str:
    """The results, one line for each case and one more for what was wanted."""
    width = max((len(case.NAME) for case, _ in rows), default=4)
    lines = []
    for case, outcome in rows:
        verdict = "ok    " if outcome.passed else "FAILED"
        lines.append(f"{case.NAME:<{width}}  {verdict} {outcome.seconds:7.1f} s  {outcome.figures}")
        lines.append(f"{'':<{width}}  wanted: {case.FIGURE}")
    failed = sum(not outcome.passed for _, outcome in rows)
    lines.append(f"{len(rows) - failed} of {len(rows)} hold" + (f", {failed} do not" if failed else ""))
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for; 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the short forms")
    parser.add_argument("--only", action="append", metavar="NAME", help="only this case; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--here", metavar="MODULE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        run_here(arguments.here, arguments.quick)
        return 0
    known = list(cases())
    if unknown := set(arguments.only or ()) - {case.NAME for case in known}:
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    chosen = [case for case in known if not arguments.only or case.NAME in arguments.only]
    if arguments.list:
        print("\n".join(f"{case.NAME}: {case.FIGURE}" for case in chosen))
        return 0
    rows = run_all(chosen, arguments.quick)
    print(f"\n{table(rows)}")
    return 0 if all(outcome.passed for _, outcome in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
