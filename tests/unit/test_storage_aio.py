"""Small files through aiofiles on trio's threads."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
import trio

from swarm.errors import DiskError
from swarm.storage import aio
from tests.support.storage import descriptors, names


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    before = descriptors()
    await aio.write_atomic(tmp_path / "f", b"one")
    await aio.write_atomic(tmp_path / "f", b"two", 0o600)
    assert await aio.read_bytes(tmp_path / "f", 3) == b"two"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert names(tmp_path) == {"f"}
    assert descriptors() == before


async def test_writing_once_keeps_what_is_there(tmp_path: Path) -> None:
    await aio.write_once(tmp_path / "f", b"one", 0o600)
    await aio.write_once(tmp_path / "f", b"two", 0o600)
    assert (tmp_path / "f").read_bytes() == b"one"
    assert names(tmp_path) == {"f"}


async def test_a_longer_file_than_allowed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    with pytest.raises(DiskError, match="too long, such a file has at most 4 bytes"):
        await aio.read_bytes(tmp_path / "f", 4)


async def test_refusals_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="no such file"):
        await aio.read_bytes(tmp_path / "f", 1)
    with pytest.raises(DiskError, match="folder"):
        await aio.read_bytes(tmp_path / "folder", 1)
    with pytest.raises(DiskError, match="a folder is where a file should be"):
        await aio.write_atomic(tmp_path / "folder", b"1")
    with pytest.raises(DiskError, match="no such file"):
        await aio.write_atomic(tmp_path / "gone" / "f", b"1")
    with pytest.raises(DiskError, match="no such file"):
        await aio.sync_folder(tmp_path / "gone")
    with pytest.raises(DiskError, match="in the way"):
        (tmp_path / "file").touch()
        await aio.make_folder(tmp_path / "file" / "inner")
    assert names(tmp_path) == {"folder", "file"}


async def test_the_work_is_done_in_another_thread() -> None:
    assert await aio.THREADS.run_in_executor(None, threading.get_ident) != threading.get_ident()


async def test_a_cancelled_write_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    await aio.write_atomic(tmp_path / "f", b"old")
    before = descriptors()
    for _ in range(30):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(aio.write_atomic, tmp_path / "f", b"new")
                await trio.lowlevel.checkpoint()
                scope.cancel()
        assert (tmp_path / "f").read_bytes() in {b"old", b"new"}
        assert names(tmp_path) == {"f"}
    assert descriptors() == before


async def test_abandoned_work_does_not_hold_its_caller() -> None:
    hang = threading.Event()
    with trio.move_on_after(0.05) as scope:
        await aio.abandonable(hang.wait)
    assert scope.cancelled_caught
    hang.set()
