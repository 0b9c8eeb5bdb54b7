"""A file or folder that may hold the same content, as a source of pieces."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarm.bits import PieceSet
from swarm.content.manifest import Manifest
from swarm.errors import DiskError, SwarmError
from swarm.sources.base_source import BaseSource
from tests.support.contents import file_manifest, folder_manifest

FILES = {name: random.Random(name).randbytes(40_000) for name in ("a", "b", "deep/c")} | {"empty": b""}
FOLDER = folder_manifest("photos", FILES)
FILE = file_manifest("film.bin", FILES["a"])


class Desk:
    """A `swarm.ports.RequestDesk` that asks for everything that is offered, and keeps what comes."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.offered: PieceSet | None = None
        self.supplied: dict[int, bytes] = {}
        self.refused: list[int] = []
        self.done = trio.Event()
        self._requests: list[int] = []

    def offer(self, pieces: PieceSet) -> None:
        self.offered = pieces
        self._requests = list(pieces)
        if not self._requests:
            self.done.set()

    async def next_request(self) -> int:
        await trio.lowlevel.checkpoint()
        if not self._requests:
            self.done.set()
            await trio.sleep_forever()
        return self._requests.pop(0)

    async def supply(self, piece: int, data: memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.supplied[piece] = bytes(data)

    def refuse(self, piece: int) -> None:
        self.refused.append(piece)


@asynccontextmanager
async def asked(path: Path, manifest: Manifest) -> AsyncIterator[Desk]:
    """The desk once every piece that ``path`` offers has been asked for."""
    desk = Desk(manifest)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(BaseSource(path).deliver, desk)
        with trio.fail_after(10):
            await desk.done.wait()
        yield desk
        nursery.cancel_scope.cancel()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def piece_of(manifest: Manifest, files: dict[str, bytes], piece: int) -> bytes:
    span = manifest.layout.span(piece)
    data = files["/".join(manifest.files[span.file].path)]
    return data[span.offset : span.offset + span.length]


def pieces_of(*names: str) -> set[int]:
    numbers = {"/".join(entry.path): number for number, entry in enumerate(FOLDER.files)}
    return {piece for name in names for piece in FOLDER.layout.pieces_of(numbers[name])}


def everything(files: dict[str, bytes] | None = None) -> dict[int, bytes]:
    return {piece: piece_of(FOLDER, files or FILES, piece) for piece in range(FOLDER.piece_count)}


@pytest.mark.parametrize("where", ["photos", "."])
async def test_the_same_folder_supplies_all_be_it_named_itself_or_by_the_one_it_lies_in(
    tmp_path: Path, where: str
) -> None:
    write(tmp_path / "photos", FILES)
    async with asked(tmp_path / where, FOLDER) as desk:
        assert desk.supplied == everything()
        assert desk.refused == []


async def test_a_folder_under_another_name_is_as_good(tmp_path: Path) -> None:
    async with asked(write(tmp_path / "old photos", FILES), FOLDER) as desk:
        assert desk.supplied == everything()


@pytest.mark.parametrize("where", ["film.bin", "."])
async def test_a_file_is_found_itself_and_in_its_folder(tmp_path: Path, where: str) -> None:
    write(tmp_path, {"film.bin": FILES["a"]})
    async with asked(tmp_path / where, FILE) as desk:
        assert b"".join(desk.supplied[piece] for piece in sorted(desk.supplied)) == FILES["a"]


async def test_a_file_under_another_name_is_as_good_when_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"copy of film": FILES["a"]})
    async with asked(tmp_path / "copy of film", FILE) as desk:
        assert len(desk.supplied) == FILE.piece_count
    async with asked(tmp_path, FILE) as desk:
        assert len(desk.supplied) == FILE.piece_count, "it is found by its length and its first piece"


async def test_a_file_that_became_longer_gives_what_it_has(tmp_path: Path) -> None:
    write(tmp_path, {"a": FILES["a"] + b"longer", "b": FILES["b"][:20_000]})
    async with asked(tmp_path, FOLDER) as desk:
        first = min(pieces_of("b"))
        assert set(desk.supplied) == pieces_of("a") | {first}


async def test_a_file_is_found_wherever_it_went(tmp_path: Path) -> None:
    write(tmp_path, {"v1/first": FILES["a"], "v1/second-1.2": FILES["b"], "v1/c": b"something else"})
    async with asked(tmp_path, FOLDER) as desk:
        assert set(desk.supplied) == pieces_of("a", "b")


async def test_what_does_not_match_is_refused_piece_by_piece(tmp_path: Path) -> None:
    damaged = bytearray(FILES["a"])
    damaged[20_000] ^= 1
    write(tmp_path, FILES | {"a": bytes(damaged)})
    async with asked(tmp_path, FOLDER) as desk:
        wrong = sorted(pieces_of("a"))[1]
        assert desk.refused == [wrong]
        assert desk.supplied == {piece: data for piece, data in everything().items() if piece != wrong}


async def test_other_content_of_the_same_shape_costs_reading_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, {name: bytes(len(data)) for name, data in FILES.items()})
    async with asked(tmp_path, FOLDER) as desk:
        assert desk.supplied == {}
        assert desk.refused == list(range(FOLDER.piece_count))


async def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"b": FILES["b"], "c": FILES["deep/c"]})
    base = write(tmp_path / "base", {"a": FILES["a"]})
    (base / "b").symlink_to(outside / "b")
    (base / "deep").symlink_to(outside)
    async with asked(base, FOLDER) as desk:
        assert set(desk.supplied) == pieces_of("a")


async def test_a_file_where_a_folder_belongs_hides_what_would_be_in_it_only(tmp_path: Path) -> None:
    async with asked(write(tmp_path, {"a": FILES["a"], "deep": b"a file"}), FOLDER) as desk:
        assert set(desk.supplied) == pieces_of("a")


async def test_a_link_to_the_folder_itself_is_what_the_user_means(tmp_path: Path) -> None:
    write(tmp_path / "real", FILES)
    (tmp_path / "link").symlink_to("real")
    async with asked(tmp_path / "link", FOLDER) as desk:
        assert desk.supplied == everything()


async def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    base = write(tmp_path, {"a": FILES["a"]})
    os.mkfifo(base / "b")
    (base / "deep").mkdir()
    (base / "deep" / "c").mkdir()
    async with asked(base, FOLDER) as desk:
        assert set(desk.supplied) == pieces_of("a")


@pytest.mark.parametrize("change", ["cut", "gone", "changed"])
async def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, change: str) -> None:
    write(tmp_path, FILES)

    class Changing(Desk):
        def offer(self, pieces: PieceSet) -> None:
            if change == "cut":
                os.truncate(tmp_path / "a", 10)
            elif change == "gone":
                (tmp_path / "a").unlink()
            else:
                (tmp_path / "a").write_bytes(FILES["b"])
            super().offer(pieces)

    desk = Changing(FOLDER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(BaseSource(tmp_path).deliver, desk)
        with trio.fail_after(10):
            await desk.done.wait()
        nursery.cancel_scope.cancel()
    assert set(desk.refused) == pieces_of("a")
    assert set(desk.supplied) == pieces_of("b", "deep/c")


async def test_a_path_that_is_not_there_is_the_disks_doing(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught:
        await BaseSource(tmp_path / "nowhere").deliver(Desk(FOLDER))
    assert isinstance(caught.value, SwarmError)
    assert "nowhere" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_every_descriptor_is_given_back(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        async with asked(tmp_path, FOLDER):
            pass
        with pytest.raises(DiskError):
            await BaseSource(tmp_path / "nowhere").deliver(Desk(FOLDER))
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_its_name_is_its_path_and_its_description_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31mb"
    source = BaseSource(path)
    assert source.id == f"base:{path}"
    assert source.description == f"{tmp_path}/a\\x1b[31mb"
