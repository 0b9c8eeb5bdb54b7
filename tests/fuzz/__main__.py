"""Fuzz every surface, or the one that is named, and count it in the ledger.

python -m tests.fuzz [--seconds N] [--only SURFACE]… [--random] [--keep]

Half of a surface's time goes to Atheris (coverage-guided), which finds new paths, and half to random
mutation of what was found, which is several times as fast. Without Atheris all of it is random.
What Atheris finds is collected in `.fuzz/`; ``--keep`` minimises it into the kept corpus. The
input of a fault is written to `.fuzz/crashes/` and is not removed.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

from blake3 import blake3

from tests.fuzz import blind, ledger
from tests.fuzz.minimise import minimised
from tests.fuzz.surfaces import SURFACES, Surface

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
WORK = HERE.parents[1] / ".fuzz"
CRASHES = WORK / "crashes"
KEPT_BYTES = 256 * 1024
"""Bytes of one surface's kept corpus at most."""
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")


def seeded(surface: Surface) -> Path:
    """The folder in which a surface's inputs are collected, with the seeds and what is kept in it."""
    folder = WORK / surface.name
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(surface.seeds()):
        (folder / f"seed-{number}").write_bytes(data)
    for kept in sorted((CORPUS / surface.name).glob("*")):
        shutil.copyfile(kept, folder / kept.name)
    return folder


def guided(surface: Surface, seconds: float) -> None:
    """Run Atheris for ``seconds``; exits with its code when it finds a fault."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    folder = seeded(surface)
    started = time.monotonic()
    done = _libfuzzer(
        surface,
        f"-max_total_time={max(1, round(seconds))}",
        f"-artifact_prefix={CRASHES}/{surface.name}-",
        "-print_final_stats=1",
        "-timeout=10",
        "-rss_limit_mb=2048",
        str(folder),
    )
    runs = _RUNS.search(done.stderr)
    if runs:
        ledger.add(surface.name, "guided", int(runs[1]), time.monotonic() - started)
    if done.returncode or runs is None:
        print(done.stdout + done.stderr, file=sys.stderr)
        sys.exit(done.returncode or 1)


def _libfuzzer(surface: Surface, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [
        sys.executable,
        "-m",
        "tests.fuzz.guided",
        surface.name,
        f"-max_len={surface.max_input}",
        *arguments,
    ]
    return subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace")


def at_random(surface: Surface, seconds: float) -> None:
    """Run random mutations for ``seconds``."""
    found = [path.read_bytes() for path in sorted(seeded(surface).iterdir())]
    corpus = [data for data in found if len(data) <= surface.max_input]
    seed = secrets.randbits(32)
    started = time.monotonic()
    done = blind.fuzz(surface, corpus, seconds, seed, CRASHES)
    ledger.add(surface.name, "random", done, time.monotonic() - started)


def keep(surface: Surface) -> None:
    """Replace the kept corpus by the fewest inputs that run what everything collected runs."""
    found = [path.read_bytes() for path in sorted(seeded(surface).iterdir())]
    chosen = minimised(surface, (data for data in found if len(data) <= surface.max_input))
    place = CORPUS / surface.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    left = KEPT_BYTES
    for data in chosen:
        left -= len(data)
        if left >= 0:
            (place / blake3(data).hexdigest()[:16]).write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each surface (default: 60)")
    parser.add_argument("--only", action="append", choices=sorted(SURFACES), help="this surface")
    parser.add_argument("--random", action="store_true", help="random mutation alone")
    parser.add_argument("--keep", action="store_true", help="minimise what was found into the kept corpus")
    arguments = parser.parse_args()
    atheris = not arguments.random and importlib.util.find_spec("atheris") is not None
    if not atheris and not arguments.random:
        print("Atheris is not installed here: random mutation alone", file=sys.stderr)
    for name in arguments.only or SURFACES:
        surface = SURFACES[name]
        if atheris and arguments.seconds:
            guided(surface, arguments.seconds / 2)
        if arguments.seconds:
            at_random(surface, arguments.seconds / 2 if atheris else arguments.seconds)
        if arguments.keep:
            keep(surface)
    print(ledger.table(ledger.read()))


if __name__ == "__main__":
    main()
