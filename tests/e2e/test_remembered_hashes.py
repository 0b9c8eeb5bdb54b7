"""A restart reads nothing but metadata: what was hashed or fetched before is remembered."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, share

pytestmark = pytest.mark.e2e

SPARSE = 512 * MIB
START_BYTES = 32 * MIB
"""More than an interpreter reads to start, and far less than the content."""


def read_bytes(process: Running) -> int:
    """Bytes that a running process has read, from the page cache or not."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
    return int(fields["rchar"])


def seed(processes: Processes, path: Path, *options: str) -> tuple[Running, str]:
    process = processes.swarm("share", str(path), *LOOPBACK, *options, "--json", name="seeder")
    return process, str(process.event("path_shared", within=60)["link"])


def test_a_restarted_share_reads_nothing_but_metadata(processes: Processes, tmp_path: Path) -> None:
    image = tmp_path / "image.bin"
    with image.open("wb") as file:
        file.truncate(SPARSE)
    os.utime(image, (1, 1))
    time.sleep(0.2)
    first, link = seed(processes, image)
    assert first.events("hashing_progress")
    assert read_bytes(first) > SPARSE
    # A crash costs nothing.
    first.kill()
    first.wait()
    again, same = seed(processes, image)
    assert same == link
    assert not again.events("hashing_progress")
    assert read_bytes(again) < START_BYTES
    again.stop()
    forced, same = seed(processes, image, "--rehash")
    assert same == link
    assert read_bytes(forced) > SPARSE


def test_a_folder_is_not_read_again_but_for_what_changed(processes: Processes, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(4):
        random_file(root / f"{number}.bin", 16 * MIB, seed=number)
    time.sleep(0.2)
    first, _ = seed(processes, root)
    first.stop()
    random_file(root / "3.bin", 16 * MIB, seed=99)
    time.sleep(0.2)
    second, link = seed(processes, root)
    assert 16 * MIB < read_bytes(second) < 16 * MIB + START_BYTES
    fetch(processes, link, tmp_path / "out").expect_exit(0)
    assert (tmp_path / "out/photos/3.bin").read_bytes() == (root / "3.bin").read_bytes()


def test_what_was_fetched_is_seeded_and_shared_without_reading_it(
    processes: Processes, tmp_path: Path
) -> None:
    seeder = share(processes, random_file(tmp_path / "image.bin", 48 * MIB))
    fetch(processes, seeder.link, tmp_path / "out", name="me").expect_exit(0)
    seeding = fetch(processes, seeder.link, tmp_path / "out", "--seed", name="me")
    seeding.event("path_fetched")
    assert read_bytes(seeding) < START_BYTES
    assert not seeding.events("hashing_progress")
    seeding.stop()
    sharing = processes.swarm("share", str(tmp_path / "out/image.bin"), *LOOPBACK, "--json", name="me")
    sharing.event("path_shared")
    assert read_bytes(sharing) < START_BYTES
