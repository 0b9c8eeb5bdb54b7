"""A real system folder arrives as it is, but for what its share says that it leaves out.

python -m tests.siege.case_system_folder [FOLDER]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import trio

from swarm.storage.manifest_files import read_envelope
from tests.siege.field import battlefield
from tests.siege.outcome import Outcome
from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK

NAME = "system folder"
FIGURE = "/usr/share with its links: arrives `diff -r --no-dereference` equal but for what --skip has told"
LIMIT = 3600.0
BESIDE = True
WHOLE = Path("/usr/share")
PARTS = ("zoneinfo", "terminfo", "perl5", "doc")
"""The first of these that there is makes the short form."""


async def run(quick: bool) -> Outcome:
    """All of it, or for ``quick`` a part, such as the time zones."""
    parts = (WHOLE / name for name in PARTS)
    return await trio.to_thread.run_sync(measure, next(filter(Path.is_dir, parts), WHOLE) if quick else WHOLE)


def measure(source: Path) -> Outcome:
    """Share and fetch ``source``, and compare it with a copy without what was left out."""
    with battlefield() as (processes, folder):
        return _compared(processes, folder, source)


def _compared(processes: Processes, folder: Path, source: Path) -> Outcome:
    began = time.monotonic()
    seeder = processes.swarm("share", source, "--skip", *LOOPBACK, name="seeder")
    link = seeder.line(r"swarm:\S+", LIMIT).group(0)
    hashed = time.monotonic()
    leecher = processes.swarm("fetch", link, "--output", folder / "out", *LOOPBACK, name="leecher")
    leecher.expect_exit(0, LIMIT)
    fetched = time.monotonic()
    seeder.stop()
    manifest = trio.run(read_envelope, seeder.cwd / f"{source.name}.swarm").manifest
    shared = {*manifest.item_paths(), *manifest.folder_paths()}
    copy = folder / "copy"
    shutil.copytree(source, copy, symlinks=True, ignore_dangling_symlinks=True)
    left_out = _remove_others(copy, shared)
    told = [line for line in seeder.errors().splitlines() if "left out" in line]
    counted = _count(told)
    same = not subprocess.run(
        ["diff", "-rq", "--no-dereference", copy, folder / "out" / source.name], check=False
    ).returncode
    figures = (
        f"{len(manifest.files)} files, {len(manifest.links)} links, {len(manifest.empty_folders)} empty "
        f"folders, {manifest.total_length / 2**20:.0f} MiB: shared in {hashed - began:.1f} s, fetched in "
        f"{fetched - hashed:.1f} s, {'equal' if same else 'DIFFERENT'}; {left_out} left out, {counted} told"
    )
    return Outcome(same and left_out == counted, figures)


def _remove_others(root: Path, kept: set[tuple[str, ...]]) -> int:
    """Remove what is below ``root`` and not in ``kept``; returns how much that was, a folder as one."""
    removed = 0
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.relative_to(root).parts in kept:
                continue
            removed += 1
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return removed


def _count(told: list[str]) -> int:
    """How much the lines say is left out: one each, or as many as the last of a kind says."""
    count = 0
    for line in told:
        words = line.removeprefix("warning: and ").split(" more ")
        count += int(words[0]) if len(words) > 1 and words[0].isdigit() else 1
    return count


if __name__ == "__main__":
    outcome = measure(Path(sys.argv[1]) if sys.argv[1:] else WHOLE)
    print(f"{'ok' if outcome.passed else 'FAILED'}: {outcome.figures}")
    sys.exit(not outcome.passed)
