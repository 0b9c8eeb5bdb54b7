"""``python -m tests.simulation.swarm_model.ablation``: what each rule of the strategy is worth.

Takes out one rule at a time, or a named group of rules (`ablation_rules`), and runs small swarms with each
of a number of seeds. Each run is appended to a CSV file as it ends. A run that the file has already is not
done again, so that a table of many hours can be made in parts. At the end prints the table: for each case the
median of time / least possible, and in brackets the median difference to the same seeds as it is.
"""

from __future__ import annotations

import argparse
import csv
import gc
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.simulation.swarm_model.ablation_rules import AS_IT_IS, CASES, GROUPS, NEEDS, RULES, without

FIELDS = ("rule", "case", "seed", "ratio", "duplicates", "share", "copies", "complete")


class Key(NamedTuple):
    """Which run."""

    rule: str
    case: str
    seed: int


class Figures(NamedTuple):
    """What came of a run, as the file has it: time / least possible, the worst share of duplicate bytes, the
    share of free riders, copies into the other site (both empty where a case has none), whether everybody
    got everything."""

    ratio: str
    duplicates: str
    share: str
    copies: str
    complete: str


def run_one(key: Key) -> tuple[Key, Figures]:
    """One run: its figures."""
    case = CASES[key.case]
    gc.disable()  # a run makes much that is released only together; collecting on the way takes a fifth
    with without(key.rule):
        out = case.run(case.leechers, case.pieces, key.seed)
    gc.collect()
    share, copies = out.extra.get("share"), out.extra.get("copies into there")
    return key, Figures(
        f"{out.ratio:.6f}",
        f"{out.wasted:.6f}",
        "" if share is None else f"{share:.4f}",
        "" if copies is None else f"{copies:.4f}",
        "yes" if out.complete else "no",
    )


def read(path: Path) -> dict[Key, Figures]:
    """The runs that the file has."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        return {Key(rule, case, int(seed)): Figures(*rest) for rule, case, seed, *rest in rows}


def keys(rules: list[str], cases: list[str], seeds: int) -> Iterator[Key]:
    """All runs, a rule after the other."""
    for rule in rules:
        for case in cases:
            if case in NEEDS.get(rule, cases):
                for seed in range(seeds):
                    yield Key(rule, case, seed)


def cell(rule: str, case: str, done: dict[Key, Figures]) -> str:
    """The median of the runs of a case, and how it differs from the same seeds as it is."""
    runs = {key.seed: figures for key, figures in done.items() if (key.rule, key.case) == (rule, case)}
    if not runs:
        return ""
    middle = median(float(figures.ratio) for figures in runs.values())
    if rule == AS_IT_IS:
        return f"{middle:.3f}"
    base = {seed: done[Key(AS_IT_IS, case, seed)] for seed in runs}
    if base == runs:
        return "same"
    return f"{middle:.3f} ({middle - median(float(figures.ratio) for figures in base.values()):+.3f})"


def row(rule: str, done: dict[Key, Figures]) -> list[str]:
    """What is printed of one rule."""
    runs = [(key, figures) for key, figures in done.items() if key.rule == rule]
    counts = [sum(key.case == case for key, _ in runs) for case in CASES]
    shares = [float(figures.share) for _, figures in runs if figures.share]
    copies = [float(figures.copies) for _, figures in runs if figures.copies]
    return [
        rule,
        str(min(filter(None, counts), default=0)),
        *(cell(rule, case, done) for case in CASES),
        f"{100 * max(float(figures.duplicates) for _, figures in runs):.1f} %" if runs else "",
        f"{median(shares):.2f}" if shares else "",
        f"{median(copies):.2f}" if copies else "",
        str(sum(figures.complete == "no" for _, figures in runs)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rules", default="", help="comma-separated; all unless given")
    parser.add_argument("--cases", default="", help="comma-separated; all unless given")
    parser.add_argument("--results", type=Path, default=Path("build/ablation.csv"), help="runs to go on from")
    given = parser.parse_args()
    rules = given.rules.split(",") if given.rules else [*RULES, *GROUPS]
    cases = given.cases.split(",") if given.cases else list(CASES)
    done = read(given.results)
    wanted = dict.fromkeys([*keys([AS_IT_IS], cases, given.seeds), *keys(rules, cases, given.seeds)])
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", newline="") as file, multiprocessing.Pool(given.processes) as pool:
        log = csv.writer(file, lineterminator="\n")
        if not file.tell():
            log.writerow(FIELDS)
        for key, figures in pool.imap(run_one, [key for key in wanted if key not in done]):
            done[key] = figures
            log.writerow([*key, *figures])
            file.flush()
    columns = ("seeds", *CASES, "duplicates, most", "riders' share", "copies between sites", "not complete")
    print(f"| without | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for rule in rules:
        print(f"| {' | '.join(row(rule, done))} |")


if __name__ == "__main__":
    main()
