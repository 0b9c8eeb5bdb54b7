"""How near a swarm of real processes on limited uplinks comes to the optimum, beside libtorrent.

    python -m tests.netns.bench [--rounds 3] [--only 8a,8b,4a,4b,ping] [--results FILE] [--no-page]

The cases: 8 leechers at 20 Mbit/s with 64 MiB and 4 at 50 Mbit/s with 128 MiB; (a) everybody is given
everybody's address, (b) the seeder's alone. A run is timed from the start of the first leecher's process to
the last leecher's file. swarm and libtorrent take turns on the same topology. `ping` measures round trips
beside a transfer that fills an uplink of 20 Mbit/s. With --results, runs are added to those of a file, and
the table is of all of them: a long measurement can be made in parts. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.measuring import machine, table, write_random_file, write_section
from tests.netns import pings
from tests.netns.network import Network, why_unavailable
from tests.netns.swarms import Case, Contestant, Outcome, Sequential, Swarm, Torrent
from tests.support.processes import Processes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "swarm-bench.md"
MIB = 1 << 20
CASES = {
    "8a": Case(8, 20_000_000, 64 * MIB, acquainted=True),
    "8b": Case(8, 20_000_000, 64 * MIB, acquainted=False),
    "4a": Case(4, 50_000_000, 128 * MIB, acquainted=True),
    "4b": Case(4, 50_000_000, 128 * MIB, acquainted=False),
}
PROGRAMS: dict[str, type[Contestant]] = {kind.name: kind for kind in (Swarm, Torrent, Sequential)}
PING = "ping"
Results = dict[str, dict[str, list[Outcome]]]
PATIENCE = 6
"""A run may take so many times the optimum before it is given up."""
HEAD = (
    "case",
    "program",
    "runs",
    "makespan s",
    "(best to worst)",
    "x optimum",
    "x libtorrent",
    "seeder copies",
    "duplicates, worst leecher",
)


def measure(
    contestant: Contestant, case: Case, folder: Path, keep: Path | None = None, patience: float = PATIENCE
) -> Outcome:
    """Run one case once on a network of its own; given up after ``patience`` times the optimum."""
    content = folder / f"content-{case.size}.bin"
    if not content.exists():
        write_random_file(content, case.size)
    # What the last run wrote must not be written back at this one's cost.
    os.sync()
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        Network(case.leechers + 1, bits=case.bits) as network,
        Processes(Path(place)) as processes,
    ):
        outcome = contestant.run(case, processes, network, content, patience * case.optimum(100))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for told in Path(place).glob("*.jsonl"):
                shutil.copy(told, keep)
    return outcome


def describe(name: str, outcome: Outcome) -> str:
    """One line about one run."""
    sent = " ".join(f"{each.sent / outcome.case.size:.2f}" for each in outcome.leechers)
    return (
        f"{outcome.case}: {name}: first {outcome.first:.1f} s, last {outcome.makespan:.1f} s = "
        f"{outcome.ratio:.2f} x optimum {outcome.case.optimum(outcome.pieces):.1f} s; seeder "
        f"{outcome.copies:.2f} copies ({outcome.seeder_wire / outcome.case.size:.2f} on the wire); "
        f"leechers sent {sent}; duplicates at most {outcome.duplicates:.2%}"
    )


def rows(results: Results) -> list[list[str]]:
    """The table's lines: medians over the rounds."""
    lines = []
    for key in (key for key in CASES if key in results):
        by_name = results[key]
        medians = {name: statistics.median(each.makespan for each in runs) for name, runs in by_name.items()}
        for name, runs in by_name.items():

            def median(read: Callable[[Outcome], float], runs: list[Outcome] = runs) -> float:
                return statistics.median(map(read, runs))

            spans = sorted(each.makespan for each in runs)
            yardstick = medians.get(Torrent.name)
            lines.append(
                [
                    str(CASES[key]),
                    name,
                    str(len(runs)),
                    f"{medians[name]:.1f}",
                    f"{spans[0]:.1f} to {spans[-1]:.1f}",
                    f"{median(lambda each: each.ratio):.2f}",
                    f"{medians[name] / yardstick:.2f}" if yardstick and name != Torrent.name else "",
                    f"{median(lambda each: each.copies):.2f}",
                    f"{median(lambda each: each.duplicates):.2%}",
                ]
            )
    return lines


def saved(path: Path | None) -> Results:
    """The runs of earlier calls."""
    results: Results = {}
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        told = json.loads(line)
        outcome = Outcome.from_json(CASES[told["case"]], told["outcome"])
        results.setdefault(told["case"], {}).setdefault(told["program"], []).append(outcome)
    return results


def swarms(arguments: argparse.Namespace, keys: list[str], folder: Path) -> str:
    """Run the cases; return the table."""
    names = arguments.programs.split(",")
    results = saved(arguments.results)
    for number in range(arguments.rounds):
        for key in keys:
            for name in names if number % 2 == 0 else reversed(names):
                outcome = measure(PROGRAMS[name](), CASES[key], folder, arguments.keep)
                results.setdefault(key, {}).setdefault(name, []).append(outcome)
                print(describe(name, outcome), file=sys.stderr, flush=True)
                if arguments.results is not None:
                    with arguments.results.open("a") as file:
                        file.write(
                            json.dumps({"case": key, "program": name, "outcome": outcome.to_json()}) + "\n"
                        )
    return table(HEAD, rows(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", default=",".join((*CASES, PING)), help="some of " + ",".join((*CASES, PING))
    )
    parser.add_argument("--programs", default=",".join((Swarm.name, Torrent.name)), help=", ".join(PROGRAMS))
    parser.add_argument("--results", type=Path, help="a file of runs to add to")
    parser.add_argument("--no-page", action="store_true", help="leave docs/swarm-bench.md as it is")
    parser.add_argument("--keep", type=Path, help="where the JSON lines of swarm's last run go")
    arguments = parser.parse_args()
    if why := why_unavailable():
        sys.exit(f"swarm-bench: {why}")
    chosen = arguments.only.split(",")
    keys = [key for key in chosen if key != PING]
    command = (
        f"`python -m tests.netns.bench --rounds {arguments.rounds} --only {arguments.only}`; {machine()}."
    )
    texts = {}
    with tempfile.TemporaryDirectory(prefix="swarm-bench") as folder:
        if PING in chosen:
            texts["pings"] = table(pings.HEAD, [each.row() for each in pings.measure(Path(folder))])
        if keys:
            texts["swarms"] = swarms(arguments, keys, Path(folder))
    for name, text in texts.items():
        print(text, end="\n\n")
        if not arguments.no_page:
            write_section(name, f"{command}\n\n{text}", PAGE)


if __name__ == "__main__":
    main()
