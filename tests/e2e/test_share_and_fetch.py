"""The main job with real processes: several seeders, files and folders of every shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import MIB, fetch, random_file, received_from, sha256, share, tree

pytestmark = pytest.mark.e2e


def test_three_seeders_each_send_some_of_a_file(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "disk image.img", 64 * MIB)
    # So slow that two of them are not done before the third is there.
    seeders = [share(processes, source, "--upload-limit", "8MiB/s") for _ in range(3)]
    assert len({seeder.link.partition("?")[0] for seeder in seeders}) == 1, "one content, one id"

    leecher = fetch(processes, seeders[0].manifest, tmp_path / "out", *(s.address for s in seeders))
    leecher.expect_exit(0, within=60)

    assert sha256(tmp_path / "out" / "disk image.img") == sha256(source)
    took = received_from(leecher)
    assert set(took) == {seeder.peer for seeder in seeders}
    assert sum(took.values()) == source.stat().st_size
    for seeder in seeders:
        assert took[seeder.peer] >= MIB


def make_folder(folder: Path) -> Path:
    for number in range(196):
        random_file(folder / f"level {number % 3}" / f"number-{number}.bin", 37 * number, seed=number)
    random_file(folder / "Füße" / "日本語" / "données.bin", 3 * MIB + 17)
    (folder / "empty").touch()
    tool = random_file(folder / "bin" / "tool.sh", 100)
    tool.chmod(0o755)
    (folder / "deep" / "a" / "b" / "c").mkdir(parents=True)
    (folder / "deep" / "a" / "b" / "c" / "one byte").write_bytes(b"x")
    return folder


def test_a_folder_of_200_files_from_three_seeders(processes: Processes, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a folder")
    assert len(tree(folder)) == 200
    seeders = [
        share(processes, folder, "--piece-size", "64KiB", "--upload-limit", "512KiB/s") for _ in range(3)
    ]

    leecher = fetch(processes, seeders[0].manifest, tmp_path / "out", *(s.address for s in seeders))
    leecher.expect_exit(0, within=60)

    assert tree(tmp_path / "out" / "a folder") == tree(folder)
    assert set(received_from(leecher)) == {seeder.peer for seeder in seeders}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a folder"], (
        "nothing left beside it"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty", b""), ("one", b"\x00"), ("a name with  spaces.txt", b"spaces\n"), ("exact", bytes(65536))],
)
def test_small_files(processes: Processes, tmp_path: Path, name: str, content: bytes) -> None:
    source = tmp_path / "source" / name
    source.parent.mkdir()
    source.write_bytes(content)
    seeder = share(processes, source)

    leecher = fetch(processes, seeder.link, tmp_path / "out")
    leecher.expect_exit(0)
    assert (tmp_path / "out" / name).read_bytes() == content


def test_an_id_and_a_peer_are_enough(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "data.bin", 300_000)
    seeder = share(processes, source)
    manifest_id = seeder.link.removeprefix("swarm:").partition("?")[0]

    fetch(processes, manifest_id, tmp_path / "out", seeder.address).expect_exit(0)
    assert sha256(tmp_path / "out" / "data.bin") == sha256(source)


def test_a_complete_file_is_recognised_and_not_fetched_again(processes: Processes, tmp_path: Path) -> None:
    source = random_file(tmp_path / "data.bin", 5 * MIB)
    seeder = share(processes, source)
    fetch(processes, seeder.link, tmp_path / "out").expect_exit(0)
    before = (tmp_path / "out" / "data.bin").stat().st_mtime_ns

    again = fetch(processes, seeder.link, tmp_path / "out")
    again.expect_exit(0)
    assert again.events("piece_stored") == []
    assert (tmp_path / "out" / "data.bin").stat().st_mtime_ns == before


def test_ten_thousand_small_files(processes: Processes, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in range(10_000):
        path = folder / f"{number // 100:03}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(4, "big") * 256)
    seeder = share(processes, folder)

    leecher = fetch(processes, seeder.link, tmp_path / "out")
    leecher.expect_exit(0, within=100)
    assert tree(tmp_path / "out" / "many") == tree(folder)
