"""How often each surface was executed, by which fuzzer: a file that is kept with the project."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import TypedDict

LEDGER = Path(__file__).with_name("ledger.json")


class Count(TypedDict):
    """Executions of one surface, and the seconds that they took."""

    guided: int
    random: int
    seconds: int


Ledger = dict[str, Count]


def read(path: Path = LEDGER) -> Ledger:
    """What was done so far."""
    return json.loads(path.read_text()) if path.exists() else {}


def add(surface: str, kind: str, executions: int, seconds: float, path: Path = LEDGER) -> None:
    """Count executions of the ``kind`` guided or random; several processes may do so at once."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        counts = read(path) if path.stat().st_size else {}
        count = counts.setdefault(surface, Count(guided=0, random=0, seconds=0))
        count[kind] += executions  # type: ignore[literal-required]
        count["seconds"] += round(seconds)
        file.truncate(0)
        file.write(json.dumps(dict(sorted(counts.items())), indent=2) + "\n")


def table(counts: Ledger) -> str:
    """One line for each surface."""
    lines = [f"{'surface':<10} {'executions':>12} {'guided':>12} {'random':>12} {'seconds':>8}"]
    for name, count in sorted(counts.items()):
        total = count["guided"] + count["random"]
        lines.append(
            f"{name:<10} {total:>12,} {count['guided']:>12,} {count['random']:>12,} {count['seconds']:>8,}"
        )
    return "\n".join(lines)
