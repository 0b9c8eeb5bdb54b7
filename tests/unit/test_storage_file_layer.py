"""The file layer and what stands directly on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.errors import DiskError
from swarm.storage import file_layer as layer_module
from swarm.storage.disk_errors import disk_error, refusals
from swarm.storage.file_layer import WRITE_BYTES, PosixLayer, read_at, write_at
from swarm.storage.folder import SYNC_EACH, Folder, flush
from swarm.storage.piece_files import DescriptorCache
from swarm.storage.room import check_space
from tests.support.storage import FaultyLayer, descriptors, make_tree, names


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder.open(tmp_path)
    yield opened
    opened.close()


def without_exclusive_rename(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(name: str, *_arguments: object) -> None:
        raise OSError(code, name)

    monkeypatch.setattr(layer_module, "_libc_call", refuse)


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EPERM, "link")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("support", ["full", "no exclusive rename", "no links either"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_move_replaces_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, support: str, kind: str
) -> None:
    if support != "full":
        without_exclusive_rename(monkeypatch, errno.EINVAL)
    if support == "no links either":
        without_links(monkeypatch)
    if kind == "file":
        (folder.path / "from").write_bytes(b"new")
    else:
        make_tree(folder.path / "from", {"inner": b"new"})
    layer = PosixLayer()
    for taken in ("file", "full folder", "empty folder", "dangling link"):
        name = f"taken by {taken}"
        if taken == "file":
            (folder.path / name).write_bytes(b"old")
        elif taken == "dangling link":
            (folder.path / name).symlink_to("nowhere")
        else:
            make_tree(folder.path / name, {"precious": b"1"} if taken == "full folder" else {})
        with pytest.raises(FileExistsError):
            layer.move(folder.fd, "from", folder.fd, name)
        assert (folder.path / "from").exists()
    assert (folder.path / "taken by file").read_bytes() == b"old"
    layer.move(folder.fd, "from", folder.fd, "to")
    assert "from" not in names(folder.path)
    moved = folder.path / "to" if kind == "file" else folder.path / "to" / "inner"
    assert moved.read_bytes() == b"new"


def test_other_errors_of_a_move_are_not_taken_for_a_lack_of_support(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        PosixLayer().move(folder.fd, "nothing", folder.fd, "to")


def test_short_reads_and_writes_are_completed(folder: Folder) -> None:
    class Sparing(PosixLayer):
        def read_into(self, fd: int, buffer: memoryview, offset: int, *, cached: bool = False) -> int:
            return super().read_into(fd, buffer[:3], offset, cached=cached)

        def write(self, fd: int, data: memoryview, offset: int) -> int:
            return super().write(fd, data[:2], offset)

    layer = Sparing()
    fd = layer.open(folder.fd, "f", os.O_RDWR | os.O_CREAT)
    write_at(layer, fd, memoryview(b"0123456789"), 5)
    buffer = memoryview(bytearray(12))
    assert read_at(layer, fd, buffer, 4) == 11
    assert bytes(buffer) == b"\x000123456789\x00"
    layer.close(fd)


def test_a_large_piece_is_written_in_parts(folder: Folder) -> None:
    sizes: list[int] = []

    class Counting(PosixLayer):
        def write(self, fd: int, data: memoryview, offset: int) -> int:
            sizes.append(len(data))
            return super().write(fd, data, offset)

    layer = Counting()
    fd = layer.open(folder.fd, "f", os.O_RDWR | os.O_CREAT)
    piece = os.urandom(2 * WRITE_BYTES + 1)
    write_at(layer, fd, memoryview(piece), 7)
    assert sizes == [WRITE_BYTES, WRITE_BYTES, 1]
    assert os.pread(fd, len(piece) + 8, 7) == piece
    layer.close(fd)


def test_a_write_that_takes_nothing_is_a_full_disk() -> None:
    class Full(PosixLayer):
        def write(self, fd: int, data: memoryview, offset: int) -> int:
            return 0

    with pytest.raises(OSError, match="No space"):
        write_at(Full(), -1, memoryview(b"1"), 0)


def test_a_cached_read_works_where_it_is_not_supported(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "f").write_bytes(b"12345")
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "flags")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    fd = folder.open_file(("f",), os.O_RDONLY)
    buffer = memoryview(bytearray(5))
    assert read_at(folder.layer, fd, buffer, 0, cached=True) == 5
    os.close(fd)


def test_nothing_below_a_folder_is_reached_through_a_link(folder: Folder) -> None:
    make_tree(folder.path / "out", {"f": b"1"})
    (folder.path / "link").symlink_to("out")
    (folder.path / "file link").symlink_to("out/f")
    before = descriptors()
    for parts in (("link", "f"), ("file link",), ("out", "f", "g"), ("link", "deeper", "f")):
        with pytest.raises(OSError):
            folder.open_file(parts, os.O_RDONLY)
        with pytest.raises(OSError), folder.parent((*parts, "x"), created=print):
            pass
    with pytest.raises(OSError):
        folder.open_folder(("link",))
    assert folder.stat(("missing", "f")) is None
    assert descriptors() == before
    assert names(folder.path / "out") == {"f"}


def test_what_is_no_regular_file_is_neither_opened_nor_waited_for(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    before = descriptors()
    for flags in (os.O_RDONLY, os.O_RDWR):
        with pytest.raises(OSError, match="not a regular file"):
            folder.open_file(("pipe",), flags)
    with refusing("pipe: not a regular file"), refusals(folder.path / "pipe"):
        folder.open_file(("pipe",), os.O_RDONLY)
    assert descriptors() == before


def refusing(text: str) -> pytest.RaisesContext[DiskError]:
    return pytest.raises(DiskError, match=text)


def test_missing_folders_are_made_and_reported(folder: Folder) -> None:
    changed: list[tuple[str, ...]] = []
    for _ in range(2):
        with folder.parent(("a", "b", "c", "f"), created=changed.append):
            pass
    assert changed == [(), ("a",), ("a", "b")]
    assert (folder.path / "a" / "b" / "c").is_dir()


class Handles:
    """Descriptors that a test gives out, and which of them were closed."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, fd: int) -> None:
        self.closed.append(fd)
        os.close(fd)

    @staticmethod
    def open() -> int:
        return os.open("/dev/null", os.O_RDONLY)


def test_descriptors_are_bounded_reused_and_closed_oldest_first() -> None:
    handles = Handles()
    files = DescriptorCache(handles.close, limit=2)
    fds = []
    for file in (0, 1, 0, 2):
        with files.use(file, handles.open) as fd:
            fds.append(fd)
    assert fds[0] == fds[2]
    assert handles.closed == [fds[1]]
    files.close()
    assert sorted(handles.closed) == sorted({fds[0], fds[1], fds[3]})


def test_a_descriptor_in_use_is_not_closed() -> None:
    handles = Handles()
    files = DescriptorCache(handles.close, limit=1)
    with files.use(0, handles.open) as first:
        with files.use(1, handles.open):
            pass
        files.drop(0)
        assert first not in handles.closed
        os.fstat(first)
    assert first in handles.closed
    assert files.identity(0) is None


@pytest.mark.parametrize("whole", [True, False])
def test_many_files_are_synced_at_once_where_that_reports_errors(folder: Folder, whole: bool) -> None:
    class Counting(PosixLayer):
        synced = 0

        def sync_data(self, fd: int) -> None:
            self.synced += 1
            super().sync_data(fd)

        def sync_all(self, fd: int) -> bool:
            return whole and super().sync_all(fd)

    files = {str(number): b"1" for number in range(SYNC_EACH + 1)}
    make_tree(folder.path, files)
    folder.layer = layer = Counting()
    flush(folder, [(name,) for name in files], [()])
    assert layer.synced == (0 if whole else SYNC_EACH + 1)
    flush(folder, [("1",)], [()])
    assert layer.synced == (1 if whole else SYNC_EACH + 2)


@pytest.mark.parametrize("operation", ["sync_data", "sync", "sync_all", "duplicate"])
def test_a_sync_that_fails_is_reported(folder: Folder, operation: str) -> None:
    make_tree(folder.path, {"f": b"1"})
    folder.layer = FaultyLayer(operation, error=errno.EIO)
    many = [("f",)] * (SYNC_EACH + 1 if operation == "sync_all" else 1)
    before = descriptors()
    with refusing("the device reports an I/O error"):
        flush(folder, many, [()])
    assert descriptors() == before


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only; choose another"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENAMETOOLONG, "name is too long"),
        (errno.EFBIG, "larger than"),
        (errno.ELOOP, "symbolic link"),
        (errno.ECONNABORTED, "Software caused connection abort"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(code: int, advice: str) -> None:
    message = str(disk_error(OSError(code, os.strerror(code)), "dir/na\nme\x1b"))
    assert message.startswith("dir/na\\x0ame\\x1b: ")
    assert advice in message
    assert "\n" not in message


def test_space_is_asked_of_where_the_folder_will_be(tmp_path: Path) -> None:
    check_space(tmp_path / "new" / "folder", 1, what="f")
    about = os.statvfs(tmp_path)
    with refusing(f"f needs 1048576.0TiB, .*TiB more than is free in .*{tmp_path.name}: free some"):
        check_space(tmp_path / "new" / "folder", 2**60, what="f")
    with refusing("needs"):
        check_space(tmp_path, about.f_blocks * about.f_frsize + 1, what="f")
    assert names(tmp_path) == set()
