"""`swarm fetch --only` and `--sequential` with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.sharing import fetch, random_file, share, tree

pytestmark = pytest.mark.e2e

KIB = 1 << 10
PIECE = 16 * KIB


def test_a_selection_is_fetched_seeded_as_far_as_it_goes_and_completed_later(
    processes: Processes, tmp_path: Path
) -> None:
    root = tmp_path / "shared" / "x"
    for number, name in enumerate(("a.jpg", "docs/b.txt", "docs/deep/c.jpg", "d.bin"), 1):
        random_file(root / name, 5 * PIECE + number, seed=number)
    everything = tree(root)
    seeder = share(processes, root, "--piece-size", "16KiB")
    out = tmp_path / "out"

    wrong = fetch(processes, seeder.manifest, out, seeder.address, "--only", "*.jpg", "--only", "*.png")
    wrong.expect_exit(2)
    assert len(wrong.errors().splitlines()) == 1
    assert "no file of 'x' matches --only '*.png'" in wrong.errors()
    assert not out.exists()

    part = fetch(processes, seeder.manifest, out, seeder.address, "--only", "*.jpg", "--seed")
    done = part.event("path_fetched")
    selected = {name: about for name, about in everything.items() if name.endswith(".jpg")}
    assert tree(out / "x") == selected
    assert part.event("files_selected")["files"] == 2
    assert done["size"] == sum((root / name).stat().st_size for name in selected)
    assert len(part.events("piece_stored")) == 12
    listing = processes.swarm("list", part.address())
    listing.expect_exit(0)
    assert "50.0%" in listing.lines()[-1]

    verified = processes.swarm("verify", seeder.manifest, out / "x")
    verified.expect_exit(6)
    assert {line.partition(":")[0] for line in verified.lines()} == {"d.bin", "docs/b.txt"}
    # With the seeder gone, there is what the selection's peer has, and it does not promise more.
    seeder.process.terminate()
    seeder.process.expect_exit(143)
    options = ("--only", "a.jpg", "--only", "docs", "--patience", "2")
    other = fetch(processes, seeder.manifest, tmp_path / "other", part.address(), *options)
    other.expect_exit(5)
    assert len(other.events("piece_stored")) == 12
    assert "the only connected peer lacks 6 pieces: 12-17 (docs/b.txt);" in other.errors()

    part.terminate()
    part.expect_exit(143)
    seeder = share(processes, root, "--piece-size", "16KiB")
    rest = fetch(processes, seeder.manifest, out, seeder.address)
    rest.expect_exit(0)
    assert rest.event("transfer_resumed")["pieces"] == 12
    assert len(rest.events("piece_stored")) == 12
    assert tree(out / "x") == everything
    assert {path.name for path in out.iterdir()} == {"x"}


def test_sequential_pieces_come_nearly_in_order(processes: Processes, tmp_path: Path) -> None:
    pieces = 120
    film = random_file(tmp_path / "film.bin", pieces * PIECE)
    seeder = share(processes, film, "--piece-size", "16KiB", "--upload-limit", "800KiB/s")
    leecher = fetch(processes, seeder.manifest, tmp_path / "out", seeder.address, "--sequential")
    leecher.expect_exit(0)
    order = [event["piece"] for event in leecher.events("piece_stored")]
    here = set(order[: pieces // 2])
    # At random, a gap would come after two pieces or three.
    assert next(piece for piece in range(pieces) if piece not in here) >= pieces // 2 * 0.6
