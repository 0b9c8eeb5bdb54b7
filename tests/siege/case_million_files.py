"""A million small files: shared, fetched and verified by real processes on a disk in memory.

python -m tests.siege.case_million_files [FILES [FOLDER]]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import LOOPBACK

NAME = "million files"
FIGURE = "100,000 files of 100 bytes (more by hand), links and empty folders: equal, within 1.2 GiB each"
LIMIT = 7200.0
BESIDE = True

FILES, IN_A_SIEGE, QUICK = 1_000_000, 100_000, 20_000
"""A million take six minutes on two cores, so that is for `python -m tests.siege.case_million_files`."""
IN_A_FOLDER = 1000
FILE_BYTES = 100
MOST_BYTES = int(1.2 * 2**30)
IN_MEMORY = Path("/dev/shm")


async def run(quick: bool) -> Outcome:
    """A tenth of a million, or less for ``quick``."""
    return await trio.to_thread.run_sync(measure, QUICK if quick else IN_A_SIEGE, IN_MEMORY)


def measure(files: int, where: Path) -> Outcome:
    """Share, fetch and verify so many files below ``where``; tell times and the most memory."""
    place = where if where.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder, Processes(Path(folder)) as processes:
        source, target = Path(folder) / "things", Path(folder) / "out"
        make(source, files)
        seeder = processes.swarm("share", str(source), *LOOPBACK, name="seeder")
        link = seeder.line(r"swarm:\S+", LIMIT).group(0)
        told = [_told(f"{files} files shared in", seeder)]
        leecher = processes.swarm("fetch", link, "--output", str(target), *LOOPBACK, name="leecher")
        leecher.expect_exit(0, LIMIT)
        told.append(_told("fetched in", leecher))
        seeder.interrupt()
        seeder.wait()
        again = processes.swarm("share", str(source), *LOOPBACK, name="seeder")
        again.line(r"swarm:\S+", LIMIT)
        told.append(_told("shared again in", again))
        again.interrupt()
        again.wait()
        verify = processes.swarm("verify", seeder.cwd / "things.swarm", target / "things", name="verifier")
        verify.expect_exit(0, LIMIT)
        told.append(_told("verified in", verify))
        same = not subprocess.run(
            ["diff", "-r", "--no-dereference", source, target / "things"], check=False
        ).returncode
        peaks = {each.name: each.usage().peak_rss for each in (seeder, leecher, verify)}
    told += [f"{name} {peak / 2**20:.0f} MiB" for name, peak in peaks.items()]
    told.append("equal" if same else "DIFFERENT")
    return Outcome(same and max(peaks.values()) <= MOST_BYTES, ", ".join(told))


def make(root: Path, files: int) -> None:
    """Make files of `FILE_BYTES` in folders, a link beside each folder, and some empty folders."""
    for number in range(files):
        folder = root / f"{number // IN_A_FOLDER:04}"
        if number % IN_A_FOLDER == 0:
            (folder / "empty").mkdir(parents=True)
            (root / f"link {folder.name}").symlink_to(f"{folder.name}/{number:07}")
        (folder / f"{number:07}").write_bytes(b"%0*d" % (FILE_BYTES, number))


def _told(what: str, process: Running) -> str:
    return f"{what} {process.elapsed():.1f} s"


if __name__ == "__main__":
    began = time.monotonic()
    outcome = measure(
        int(sys.argv[1]) if sys.argv[1:] else FILES, Path(*sys.argv[2:3]) if sys.argv[2:] else IN_MEMORY
    )
    print(f"{'ok' if outcome.passed else 'FAILED'} after {time.monotonic() - began:.1f} s: {outcome.figures}")
    sys.exit(not outcome.passed)
