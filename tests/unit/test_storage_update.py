"""A target that replaces an older version as a whole, and what becomes of the user's files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm.content.manifest import LinkEntry, Manifest
from swarm.content.paths import clash_key
from swarm.errors import DiskError, UsageError
from swarm.storage import room
from swarm.storage.folder import Folder
from swarm.storage.hash_cache import HashCache
from swarm.storage.memory_store import MemoryStore
from swarm.storage.scan import scan
from swarm.storage.target import Target, TargetOptions, open_target
from swarm.storage.user_files import KeptPlaces
from tests.support.contents import file_manifest, folder_manifest
from tests.support.storage import PIECE, FaultyLayer, copy, make_tree, names, noise

V1 = {
    "big": noise(3 * PIECE, 1),
    "same": noise(900, 2),
    "gone/old": noise(40, 3),
    "gone/deep/older": noise(41, 4),
    "cfg": b"colour = red\n",
    "folder/x": noise(60, 5),
}
V2 = {
    "big": V1["big"][:PIECE] + noise(2 * PIECE, 6),
    "same": V1["same"],
    "new/file": noise(700, 7),
    "cfg": b"colour = blue\n",
    "folder": b"a file where a folder was",
    "empty": b"",
}
NEW = folder_manifest("x", V2)
SOURCE = MemoryStore(NEW, b"".join(V2[name] for name in sorted(V2)))


class Place:
    """An output folder with the old version, remembered or not, and a home."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.cache = HashCache(folder / "home")
        self.warned: list[str] = []

    async def install(self, files: dict[str, bytes] = V1, *, known: bool = True) -> Path:
        root = make_tree(self.out / "x", files)
        for each in root.rglob("*"):
            os.utime(each, (1_600_000_000, 1_600_000_000))
        if known:
            scanned = await scan(root, piece_length=PIECE)
            self.cache.keep(root, scanned.manifest, scanned.checks)
        return root

    async def update(self, manifest: Manifest = NEW, source: MemoryStore = SOURCE, **more: object) -> Target:
        options = TargetOptions(update=True, recall=self.cache.find)
        opened = open_target(manifest, self.out, options, warn=self.warned.append, **more)
        async with opened as target:
            await copy(source, target)
            await target.finish(None, self.cache.keep)
            for piece in range(manifest.piece_count):
                assert bytes(await target.get(piece)) == bytes(await source.get(piece))
        return target


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_the_old_version_is_replaced_and_nothing_of_it_stays(place: Place) -> None:
    root = await place.install()
    (root / "cfg").chmod(0o640)
    root.chmod(0o750)
    target = await place.update()
    assert tree(root) == V2
    assert names(place.out) == {"x"}
    assert not (root / "gone").exists()
    assert (root / "cfg").stat().st_mode & 0o777 == 0o640
    assert root.stat().st_mode & 0o777 == 0o750
    assert target.kept.files == []
    assert place.warned == []


async def test_what_the_user_edited_or_added_is_kept_and_named(place: Place) -> None:
    root = await place.install()
    (root / "cfg").write_bytes(b"colour = mine\n")
    (root / "folder" / "notes").write_bytes(b"in a folder that is a file now")
    (root / "gone" / "old").write_bytes(b"edited, and not in the new version")
    (root / "saves").mkdir(mode=0o700)
    (root / "saves" / "one").write_bytes(b"a saved game")
    (root / "saves" / "none").mkdir()
    (root / "link").symlink_to("saves/one")
    (root / "same").unlink()
    inode = (root / "saves" / "one").stat().st_ino
    target = await place.update()
    assert tree(root) == V2 | {
        "cfg.swarm-kept": b"colour = mine\n",
        "folder.swarm-kept/notes": b"in a folder that is a file now",
        "gone/old": b"edited, and not in the new version",
        "saves/one": b"a saved game",
        "link": b"a saved game",
    }
    assert (root / "saves" / "none").is_dir()
    assert (root / "saves").stat().st_mode & 0o777 == 0o700
    assert os.readlink(root / "link") == "saves/one"
    assert (root / "saves" / "one").stat().st_ino == inode, "it is the user's own file, not a copy"
    assert names(place.out) == {"x"}
    kept = {"cfg.swarm-kept", "folder.swarm-kept/notes", "gone/old", "saves/one", "saves/none", "link"}
    assert set(target.kept.told()) == kept
    (line,) = place.warned
    assert line.startswith(f"{root}: kept 6 files that are yours: ")
    assert all(name in line for name in kept)


async def test_kept_files_stay_kept_and_get_names_of_their_own(place: Place) -> None:
    root = await place.install()
    (root / "cfg").write_bytes(b"mine")
    (root / "cfg.swarm-kept").write_bytes(b"mine from before")
    await place.update()
    assert tree(root) == V2 | {"cfg.swarm-kept": b"mine from before", "cfg.swarm-kept-2": b"mine"}
    # The next update keeps them where they are.
    third = V2 | {"big": noise(100, 9)}
    manifest = folder_manifest("x", third)
    await place.update(manifest, MemoryStore(manifest, b"".join(third[name] for name in sorted(third))))
    assert tree(root) == third | {"cfg.swarm-kept": b"mine from before", "cfg.swarm-kept-2": b"mine"}


async def test_without_a_record_every_file_that_differs_is_the_user_s(place: Place) -> None:
    root = await place.install(known=False)
    await place.update()
    assert tree(root) == V2 | {
        "big.swarm-kept": V1["big"],
        "cfg.swarm-kept": V1["cfg"],
        "folder.swarm-kept/x": V1["folder/x"],
        "gone/old": V1["gone/old"],
        "gone/deep/older": V1["gone/deep/older"],
    }


async def test_a_file_that_was_only_touched_is_not_edited(place: Place) -> None:
    root = await place.install()
    for name in ("cfg", "gone/old", "big"):
        os.utime(root / name)
    await place.update()
    assert tree(root) == V2
    assert place.warned == []


async def test_many_kept_files_are_counted_and_twenty_named(place: Place) -> None:
    root = await place.install()
    for number in range(30):
        (root / f"mine{number:02}").write_bytes(b"mine")
    target = await place.update()
    assert len(target.kept.told()) == 30
    (line,) = place.warned
    assert "kept 30 files that are yours" in line
    assert "mine19 and 10 more" in line
    assert "mine20" not in line


async def test_the_same_version_is_left_alone(place: Place) -> None:
    root = await place.install(V2)
    (root / "mine").write_bytes(b"mine")
    inode = root.stat().st_ino
    target = await place.update()
    assert target.resumed_pieces == NEW.piece_count
    assert root.stat().st_ino == inode
    assert tree(root) == V2 | {"mine": b"mine"}
    assert names(place.out) == {"x"}
    assert place.warned == []


async def test_a_version_that_only_lacks_files_removes_them(place: Place) -> None:
    root = await place.install(V2 | {"more": b"of the old version"})
    await place.update()
    assert tree(root) == V2


async def test_nothing_is_there_yet(place: Place) -> None:
    place.out.mkdir()
    await place.update()
    assert tree(place.out / "x") == V2


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("known", [False, True])
async def test_a_single_file_is_replaced(tmp_path: Path, edited: bool, known: bool) -> None:
    old, new = noise(5 * PIECE, 1), noise(4 * PIECE, 2)
    place = Place(tmp_path)
    place.out.mkdir()
    path = place.out / "f"
    path.write_bytes(old)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    if known:
        scanned = await scan(path, piece_length=PIECE)
        place.cache.keep(path, scanned.manifest, scanned.checks)
    if edited:
        path.write_bytes(old + b"more")
    path.chmod(0o600)
    manifest = file_manifest("f", new)
    target = await place.update(manifest, MemoryStore(manifest, new))
    assert path.read_bytes() == new
    assert path.stat().st_mode & 0o777 == 0o600
    if known and not edited:
        assert names(place.out) == {"f"}
        assert target.kept.files == []
    else:
        assert (place.out / "f.swarm-kept").read_bytes() == (old + b"more" if edited else old)
        assert names(place.out) == {"f", "f.swarm-kept"}
        assert target.kept.told() == ("f.swarm-kept",)
        assert len(place.warned) == 1


async def test_links_and_empty_folders_are_replaced_too(place: Place) -> None:
    root = await place.install()
    (root / "l").symlink_to("cfg")
    (root / "m").symlink_to("big")
    (root / "void").mkdir()
    scanned = await scan(root, piece_length=PIECE)
    place.cache.keep(root, scanned.manifest, scanned.checks)
    (root / "m").unlink()
    (root / "m").symlink_to("same")
    new = Manifest("x", True, PIECE, NEW.files, [LinkEntry(("n",), "cfg")], [("hollow",)])
    await place.update(new, MemoryStore(new, b"".join(V2["/".join(entry.path)] for entry in new.files)))
    assert not (root / "l").is_symlink()
    assert os.readlink(root / "m") == "same", "it was changed"
    assert os.readlink(root / "n") == "cfg"
    assert not (root / "void").exists()
    assert list((root / "hollow").iterdir()) == []
    assert names(place.out) == {"x"}


@pytest.mark.parametrize("operations", [("exchange",), ("exchange", "link"), ("link",)])
async def test_a_file_system_without_exchange_or_links_is_updated_all_the_same(
    place: Place, operations: tuple[str, ...]
) -> None:
    root = await place.install()
    (root / "cfg").write_bytes(b"mine")
    (root / "save").write_bytes(b"saved")
    os.mkfifo(root / "pipe") if "link" not in operations else None
    layer = FaultyLayer(*operations, error=errno.EINVAL)
    await place.update(layer=layer)
    assert set(operations) <= set(layer.calls)
    assert tree(root) == V2 | {"cfg.swarm-kept": b"mine", "save": b"saved"}
    assert names(place.out) == {"x"}


class Folding(FaultyLayer):
    """Takes names for one that differ only in case or in their Unicode form, as APFS and NTFS do."""

    def __init__(self) -> None:
        super().__init__(error=0)
        for operation in ("open", "stat", "make_folder", "make_link", "remove", "remove_folder"):
            setattr(self, operation, self.folding(getattr(self, operation), 1))
        for operation in ("move", "replace", "exchange", "link"):
            setattr(self, operation, self.folding(getattr(self, operation), 2))

    def folding(self, real: Callable[..., object], count: int) -> Callable[..., object]:
        def operation(*arguments: Any, **named: object) -> object:
            found = list(arguments)
            for at in range(0, 2 * count, 2):
                found[at + 1] = self.name_in(found[at], found[at + 1])
            return real(*found, **named)

        return operation

    def name_in(self, folder: int, name: str) -> str:
        return next((each for each in os.listdir(folder) if clash_key(each) == clash_key(name)), name)


FOLDED = {
    "config.ini": b"colour = blue\n",
    "data": b"a file",
    "docs/readme": b"read me",
    "na\u00efve": b"composed",
    "plugins/one": b"1",
}
LIKE_FILES = {"Config.ini": b"colour = mine\n", "Docs/ReadMe": b"my own", "nai\u0308ve": b"decomposed"}
USERS = LIKE_FILES | {
    "DATA/save": b"in a folder that is a file now",
    "Docs/Notes": b"in a folder of both",
    "Plugins": b"a file where a folder is now",
}


def folded() -> tuple[Manifest, MemoryStore]:
    manifest = folder_manifest("x", FOLDED)
    return manifest, MemoryStore(manifest, b"".join(FOLDED["/".join(each.path)] for each in manifest.files))


async def test_what_the_file_system_takes_for_a_file_of_the_new_version_does_not_replace_it(
    place: Place,
) -> None:
    root = await place.install({"Config.ini": b"colour = red\n", "old": b"old"})
    make_tree(root, LIKE_FILES)
    target = await place.update(*folded(), layer=Folding())
    kept = {
        "Config.ini.swarm-kept": LIKE_FILES["Config.ini"],
        "docs/ReadMe.swarm-kept": LIKE_FILES["Docs/ReadMe"],
        "nai\u0308ve.swarm-kept": LIKE_FILES["nai\u0308ve"],
    }
    assert tree(root) == FOLDED | kept
    assert names(place.out) == {"x"}
    assert len(target.kept.files) == len(kept)


async def test_files_and_folders_that_the_file_system_takes_for_one_do_not_stop_an_update(
    place: Place,
) -> None:
    root = await place.install({"DATA/one": b"1"})
    make_tree(root, USERS)
    (root / "DATA" / "none").mkdir()
    layer = Folding()
    layer.exchange = layer.breaking("exchange", errno.EBUSY)  # type: ignore[method-assign]
    with pytest.raises(DiskError):
        await place.update(*folded(), layer=layer)
    target = await place.update(*folded(), layer=Folding())
    assert tree(root) == FOLDED | {
        "Config.ini.swarm-kept": USERS["Config.ini"],
        "DATA.swarm-kept/save": USERS["DATA/save"],
        "docs/Notes": USERS["Docs/Notes"],
        "docs/ReadMe.swarm-kept": USERS["Docs/ReadMe"],
        "nai\u0308ve.swarm-kept": USERS["nai\u0308ve"],
        "Plugins.swarm-kept": USERS["Plugins"],
    }
    assert (root / "DATA.swarm-kept" / "none").is_dir()
    assert names(place.out) == {"x"}
    assert len(target.kept.files) == len(USERS) + 1


async def test_where_case_counts_the_user_s_files_stay_where_they_are(place: Place) -> None:
    root = await place.install({"Config.ini": b"colour = red\n"})
    make_tree(root, USERS)
    await place.update(*folded(), layer=FaultyLayer("exchange", error=errno.EINVAL))
    assert tree(root) == FOLDED | USERS
    # The next run finds them in their places.
    await place.update(layer=FaultyLayer("exchange", error=errno.EINVAL))
    assert tree(root) == V2 | USERS


async def test_a_refused_swap_leaves_the_old_version_and_is_repeated(place: Place) -> None:
    root = await place.install()
    layer = FaultyLayer("exchange", error=errno.EBUSY)
    with pytest.raises(DiskError):
        await place.update(layer=layer)
    assert tree(root) == V1
    layer.broken = False
    target = await place.update(layer=layer)
    assert target.resumed_pieces == NEW.piece_count
    assert tree(root) == V2
    assert names(place.out) == {"x"}


async def test_an_unfinished_update_to_another_version_is_a_base_for_this_one(place: Place) -> None:
    await place.install()
    other = V2 | {"big": noise(2 * PIECE, 11)}
    manifest = folder_manifest("x", other)
    store = MemoryStore(manifest, b"".join(other[name] for name in sorted(other)))
    options = TargetOptions(update=True, recall=place.cache.find)
    async with open_target(manifest, place.out, options) as target:
        await copy(store, target, list(range(manifest.piece_count))[:-1])
    assert names(place.out) == {"x", "x.swarm-part", "x.swarm-journal"}
    async with open_target(NEW, place.out, options) as target:
        assert target.bases == (place.out / "x", place.out / "x.swarm-stale")
    await place.update()
    assert tree(place.out / "x") == V2
    assert names(place.out) == {"x"}


async def test_a_file_that_comes_during_the_swap_is_not_lost(place: Place) -> None:
    root = await place.install()

    class Meddling(FaultyLayer):
        def exchange(self, *arguments: object) -> None:
            (root / "late").write_bytes(b"late")
            (root / "cfg").write_bytes(b"late, too")
            super().exchange(*arguments)

    target = await place.update(layer=Meddling(error=0))
    assert tree(root) == V2 | {"late": b"late", "cfg.swarm-kept": b"late, too"}
    assert set(target.kept.told()) == {"late", "cfg.swarm-kept"}
    assert names(place.out) == {"x"}


async def test_a_folder_that_takes_the_place_of_the_old_version_is_not_touched(place: Place) -> None:
    root = await place.install()
    options = TargetOptions(update=True, recall=place.cache.find)
    with pytest.raises(DiskError, match="was replaced by another folder"):
        async with open_target(NEW, place.out, options) as target:
            await copy(SOURCE, target)
            root.rename(root.with_name("moved"))
            make_tree(root, {"other": b"other"})
            await target.finish()
    assert tree(root) == {"other": b"other"}
    assert tree(place.out / "moved") == V1


async def test_short_room_is_told_before_the_work(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    root = await place.install()
    real = os.statvfs

    class Full:
        def __init__(self, about: os.statvfs_result) -> None:
            self.f_frsize, self.f_blocks, self.f_bavail = 1, about.f_blocks, 3 * PIECE

    monkeypatch.setattr(room.os, "statvfs", lambda path: Full(real(path)))
    with pytest.raises(
        DiskError, match=r"x, which is prepared beside the old version, needs [\d.]+KiB, "
    ) as caught:
        await place.update()
    assert "\n" not in str(caught.value)
    assert tree(root) == V1
    assert names(place.out) == {"x"}


async def test_a_file_where_the_new_version_is_a_folder_is_not_replaced(place: Place) -> None:
    place.out.mkdir()
    (place.out / "x").write_bytes(b"a file")
    with pytest.raises(DiskError, match="in the way"):
        await place.update()
    assert (place.out / "x").read_bytes() == b"a file"


async def test_a_folder_where_the_new_version_is_a_file_is_not_replaced(place: Place) -> None:
    root = await place.install()
    manifest = file_manifest("x", V2["big"])
    with pytest.raises(DiskError, match=r"already exists with other content \(a folder\)"):
        await place.update(manifest, MemoryStore(manifest, V2["big"]))
    assert tree(root) == V1


@pytest.mark.parametrize("begun", [True, False])
async def test_a_share_gives_the_old_version_its_name_back_after_a_crash_in_an_update(
    place: Place, begun: bool
) -> None:
    root = await place.install()
    root.rename(root.with_name("x.swarm-old"))
    if begun:
        (place.out / "x.swarm-journal").write_bytes(b"begun")
        assert {entry.path for entry in (await scan(root)).manifest.files} == {
            tuple(name.split("/")) for name in V1
        }
        assert names(place.out) == {"x", "x.swarm-journal"}
    else:
        with pytest.raises(UsageError, match="there is no such file or folder"):
            await scan(root)
        assert names(place.out) == {"x.swarm-old"}, "it may be the user's"


def test_folders_of_the_user_may_lie_in_one_another_as_deeply_as_a_disk_takes(tmp_path: Path) -> None:
    parts = ("folder", *("a",) * 2000, "save")
    with closing(Folder.open(tmp_path)) as new:
        assert next(KeptPlaces(NEW).candidates(parts, new)) == ("folder.swarm-kept", *parts[1:])
