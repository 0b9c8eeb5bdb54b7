"""``python -m tests.simulation.swarm_model``: measure, print the table, draw the plots (`make simulate`)."""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

from tests.simulation.swarm_model import cases, report

PAGE = """# Simulated swarms

Written by `make simulate`; the cases and what the columns mean are in [strategy.md](strategy.md).

{table}

![One run in curves](simulation.png)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small swarms, few seeds: a minute")
    parser.add_argument("--seeds", type=int, default=20, help="at most so many for each case")
    parser.add_argument("--processes", type=int, default=min(2, multiprocessing.cpu_count()))
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--results", type=Path, default=None, help="runs to go on from")
    parser.add_argument(
        "--docs", type=Path, default=None, help="where the table and the plot go (docs, or build if quick)"
    )
    given = parser.parse_args()
    name = "simulation-quick.jsonl" if given.quick else "simulation.jsonl"
    results = given.results or Path("build") / name
    if given.results is None:  # what other policies did is not to be taken for these
        results.unlink(missing_ok=True)
    done = cases.run_all(
        results, quick=given.quick, seeds=given.seeds, processes=given.processes, only=given.only
    )
    chosen = cases.QUICK if given.quick else cases.FULL
    text = report.table(chosen, done)
    print(text)
    if given.only:
        return
    folder = given.docs or Path("build" if given.quick else "docs")
    (folder / "simulation.md").write_text(PAGE.format(table=text))
    for path in report.plots(chosen, done, folder):
        print(f"drew {path}")


if __name__ == "__main__":
    main()
