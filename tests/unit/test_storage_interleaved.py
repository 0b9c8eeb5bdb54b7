"""A leecher writes the pieces of a file while it serves others of the same file."""

from __future__ import annotations

from pathlib import Path

from swarm.storage.piece_files import OPEN_FILES
from swarm.storage.scan import scan
from swarm.storage.seed_store import SeedStore
from swarm.storage.target import open_target

PIECE = 16 * 1024


async def test_a_file_that_was_read_can_be_written_on(tmp_path: Path) -> None:
    """Enough files that descriptors are closed and opened again, first to read, then to write."""
    for number in range(OPEN_FILES + 4):
        path = tmp_path / "source" / f"{number:02}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]) * (2 * PIECE))
    scanned = await scan(tmp_path / "source", piece_length=PIECE)
    with SeedStore(scanned.manifest, tmp_path / "source", scanned.checks) as source:
        async with open_target(scanned.manifest, tmp_path / "out") as target:
            halves = [range(half, scanned.manifest.piece_count, 2) for half in (0, 1)]
            for piece in halves[0]:
                await target.put(piece, await source.get(piece))
            for piece in halves[0]:
                assert await target.get(piece) == await source.get(piece)
            for piece in halves[1]:
                await target.get(piece - 1)
                await target.put(piece, await source.get(piece))
            assert target.complete
            await target.finish()
    for path in (tmp_path / "source").iterdir():
        assert (tmp_path / "out" / "source" / path.name).read_bytes() == path.read_bytes()
