"""A seeder whose file is gone: it says so at once, nobody waits in vain, and it comes back by itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.running import Running
from tests.support.sharing import LOOPBACK, MIB, fetch, random_file, sha256, share

pytestmark = pytest.mark.e2e

PATIENCE = 4


def move(path: Path) -> None:
    path.rename(path.with_name("away"))


def delete(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy"))
    path.unlink()


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy"))
    random_file(path.with_name("other"), 8 * MIB, seed=99).rename(path)


def truncate(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy"))
    with path.open("r+b") as file:
        file.truncate(1000)


def put_back(path: Path) -> None:
    if path.with_name("away").exists():
        path.with_name("away").rename(path)
    else:
        shutil.copyfile(path.with_name("copy"), path)


def seed(processes: Processes, path: Path, *options: str) -> Running:
    """Start ``swarm share`` with JSON events on loopback."""
    return processes.swarm("share", str(path), *LOOPBACK, *options, "--json", name="seeder")


@pytest.mark.parametrize("change", [move, delete, replace, truncate])
def test_a_source_that_is_gone_is_withdrawn_at_once_and_comes_back_by_itself(
    processes: Processes, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = random_file(tmp_path / "source" / "image.bin", 8 * MIB)
    digest = sha256(source)
    seeder = seed(processes, source)
    shared = seeder.event("path_shared")
    pieces, link = shared["pieces"], shared["link"]
    assert pieces > 64

    change(source)
    alone = fetch(processes, link, tmp_path / "alone", "--patience", str(PATIENCE), name="alone")
    seeder.event("content_withdrawn", pieces=pieces)
    alone.expect_exit(5)
    assert len(alone.events("piece_requested")) <= pieces
    assert len(seeder.events("content_withdrawn")) == 1
    assert not seeder.events("piece_lost")

    put_back(source)
    seeder.event("content_restored", pieces=pieces)
    again = fetch(processes, link, tmp_path / "again", name="again")
    again.expect_exit(0)
    assert sha256(tmp_path / "again" / "image.bin") == digest


def test_a_fetch_goes_on_with_another_seeder_and_with_the_first_when_it_is_back(
    processes: Processes, tmp_path: Path
) -> None:
    source = random_file(tmp_path / "source" / "image.bin", 24 * MIB)
    seeder = seed(processes, source, "--upload-limit", "4MiB/s")
    link = seeder.event("path_shared")["link"]
    fetched = fetch(processes, link, tmp_path / "out", "--patience", "30", name="leecher")
    fetched.events_until("piece_stored", 20)
    move(source)
    seeder.event("content_withdrawn")
    stored = len(fetched.events("piece_stored"))
    put_back(source)
    seeder.event("content_restored")
    fetched.events_until("piece_stored", stored + 20)
    other = share(processes, random_file(tmp_path / "other" / "image.bin", 24 * MIB))
    helped = fetch(processes, link, tmp_path / "helped", other.address, name="helped")
    helped.event("piece_stored")
    move(source)
    helped.expect_exit(0)
    # Who helped has left, perhaps before it told of the other seeder.
    put_back(source)
    fetched.expect_exit(0)
    assert sha256(tmp_path / "helped" / "image.bin") == sha256(tmp_path / "other" / "image.bin")


def test_a_fetch_that_seeds_withdraws_and_offers_again_too(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "source" / "image.bin", 8 * MIB)
    seeder = share(processes, source)
    relay = fetch(processes, seeder.link, tmp_path / "relay", "--seed", name="relay")
    relay.event("path_fetched")
    seeder.process.stop()
    pieces = relay.event("manifest_ready")["pieces"]
    place = tmp_path / "relay" / "image.bin"
    move(place)
    manifest = relay.event("manifest_ready")["manifest"]
    alone = fetch(processes, manifest, tmp_path / "alone", relay.address(), "--patience", "3", name="alone")
    relay.event("content_withdrawn", pieces=pieces)
    alone.expect_exit(5)
    put_back(place)
    relay.event("content_restored", pieces=pieces)
    again = fetch(processes, manifest, tmp_path / "again", relay.address(), name="again")
    again.expect_exit(0)


MOUNTED = """
set -eu
mkdir mnt
mount -t tmpfs none mnt
head -c 8388608 /dev/urandom > mnt/image.bin
cp mnt/image.bin image.bin
"$@" &
until [ -e go ]; do sleep 0.1; done
until umount mnt; do sleep 0.2; done
echo unmounted
while [ -e go ]; do sleep 0.1; done
mount -t tmpfs none mnt
cp image.bin mnt/image.bin
echo mounted
wait
"""


FETCHED = """
set -eu
mkdir mnt
mount -t tmpfs none mnt
"$@" &
until [ -e go ]; do sleep 0.1; done
until umount mnt; do sleep 0.2; done
echo unmounted
wait
"""


def test_a_disk_that_was_fetched_to_can_be_unmounted_while_it_is_seeded(
    processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "source" / "x"
    for name in ("a", "b/c"):
        random_file(root / name, MIB)
    seeder = share(processes, root)
    argv = [sys.executable, "-m", "swarm", "fetch", seeder.link, "-o", "mnt", "--seed", *LOOPBACK, "--json"]
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", FETCHED, "sh", *argv]
    run = processes.command(own, name="mounted", cwd=tmp_path)
    run.event("fetched_seeded")
    (tmp_path / "go").touch()
    run.line("unmounted")
    assert run.exit_code is None


def test_an_unmounted_disk_is_missed_and_found_again(processes: Processes, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "swarm", "share", "mnt/image.bin", *LOOPBACK, "--json"]
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", *argv]
    run = processes.command(own, name="mounted", cwd=tmp_path)
    shared = run.event("path_shared")
    (tmp_path / "go").touch()
    run.line("unmounted")
    alone = fetch(processes, shared["link"], tmp_path / "alone", "--patience", "3", name="alone")
    run.event("content_withdrawn", pieces=shared["pieces"])
    alone.expect_exit(5)
    (tmp_path / "go").unlink()
    run.line("^mounted")
    run.event("content_restored", pieces=shared["pieces"])
    fetch(processes, shared["link"], tmp_path / "again", name="again").expect_exit(0)
    assert sha256(tmp_path / "again" / "image.bin") == sha256(tmp_path / "image.bin")


@pytest.mark.parametrize("folder", [False, True], ids=["a file", "a folder"])
def test_who_waits_for_a_seeder_that_has_nothing_left_is_told_why(
    processes: Processes, tmp_path: Path, folder: bool
) -> None:
    source = tmp_path / "source"
    files = [random_file(source / name, MIB, seed=ord(name)) for name in "abcde"]
    shared = source if folder else files[0]
    seeder = seed(processes, shared)
    link = str(seeder.event("path_shared")["link"])
    for file in files:
        file.rename(file.with_name(f"{file.name}.away"))
    fetching = fetch(processes, link, tmp_path / "out", "--patience", "7")
    awaited = fetching.event("peers_awaited")
    files_named = " (a, b, c, …)" if folder else ""
    assert awaited["reason"].startswith("the only connected peer lacks ")
    assert awaited["reason"].endswith(files_named)
    assert 0 < awaited["seconds"] < 7
    fetching.expect_exit(5, within=30)
    assert seeder.events("content_withdrawn")
    assert len(fetching.events("peers_awaited")) == 1
    (told,) = fetching.errors().splitlines()
    assert told.endswith(f"{files_named}; nothing was fetched, run the same command to try again")
