"""What a ``.swarm`` file brings along, and manifests of links: addresses, times, inspect, --save-manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.content.envelope import Envelope
from tests.support.processes import Processes
from tests.support.sharing import LOOPBACK, fetch, random_file, share, tree

pytestmark = pytest.mark.e2e
LONG_AGO = 1_234_567_890_123_456_789


def content(folder: Path, *, links: bool = False) -> Path:
    for number, name in enumerate(("a", "sub/b", "sub/empty")):
        path = random_file(folder / name, 0 if name.endswith("empty") else 50_000, number)
        os.utime(path, ns=(LONG_AGO + number, LONG_AGO + number))
    if links:
        # Of format 2, which has another order.
        (folder / "link").symlink_to("sub/b")
        (folder / "nothing here").mkdir()
    # Before 1970: such a time is not restored.
    os.utime(random_file(folder / "strange", 10), ns=(0, -1))
    return folder


def times(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "strange"
    }


@pytest.mark.parametrize("links", [False, True])
def test_sending_the_file_is_enough_and_times_are_restored(
    processes: Processes, tmp_path: Path, links: bool
) -> None:
    photos = content(tmp_path / "photos", links=links)
    seeder = share(processes, photos)
    leecher = fetch(processes, seeder.written, tmp_path / "out")
    leecher.expect_exit(0)
    got = tmp_path / "out" / "photos"
    assert tree(got) == tree(photos)
    assert times(got) == times(photos)
    assert (got / "strange").stat().st_mtime_ns > LONG_AGO

    plain = fetch(processes, seeder.written, tmp_path / "plain", "--no-times")
    plain.expect_exit(0)
    assert all(time > LONG_AGO + 10**9 for time in times(tmp_path / "plain" / "photos").values())

    # A selection, continued: what is put in place later gets its times, too.
    part = fetch(processes, seeder.written, tmp_path / "part", "--only", "a")
    part.expect_exit(0)
    rest = fetch(processes, seeder.written, tmp_path / "part")
    rest.expect_exit(0)
    assert times(tmp_path / "part" / "photos") == times(photos)


def test_a_link_is_inspected_and_its_manifest_saved(processes: Processes, tmp_path: Path) -> None:
    photos = content(tmp_path / "photos")
    seeder = share(processes, photos)
    listed = processes.swarm("inspect", seeder.link)
    listed.expect_exit(0)
    by_file = processes.swarm("inspect", str(seeder.written))
    by_file.expect_exit(0)
    assert listed.lines() == by_file.lines()
    assert any(line.endswith("  photos/sub/b") for line in listed.lines())
    identifier = seeder.link.removeprefix("swarm:").partition("?")[0]
    by_id = processes.swarm("inspect", identifier, seeder.address)
    by_id.expect_exit(0)
    assert by_id.lines() == by_file.lines()
    nobody = processes.swarm("inspect", identifier, "--patience", "1")
    nobody.expect_exit(2)

    saved = tmp_path / "saved.swarm"
    fetched = processes.swarm(
        "fetch", seeder.link, "--output", str(tmp_path / "out"), "--save-manifest", str(saved), *LOOPBACK
    )
    fetched.expect_exit(0)
    envelope = Envelope.from_bytes(saved.read_bytes())
    assert str(envelope.manifest.id) == identifier
    assert envelope.signer == Envelope.from_bytes(seeder.written.read_bytes()).signer
    assert seeder.address in envelope.peers
    default = processes.swarm("fetch", seeder.link, "--output", str(tmp_path / "out"), "--save-manifest")
    default.expect_exit(0)
    assert Envelope.from_bytes((default.cwd / "photos.swarm").read_bytes()).manifest == envelope.manifest

    (tmp_path / "letter").write_text("Dear Ann")
    refused = processes.swarm(
        "fetch", seeder.link, "-o", str(tmp_path / "no"), f"--save-manifest={tmp_path / 'letter'}"
    )
    refused.expect_exit(2)
    assert not (tmp_path / "no").exists()

    seeder.process.terminate()
    seeder.process.wait()
    gone = processes.swarm("inspect", seeder.link, "--patience", "1")
    gone.expect_exit(4)
    assert "Connection refused" in gone.errors()
